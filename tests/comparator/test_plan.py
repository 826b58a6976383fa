"""Planning against known truth: what a plan promises comes true, the search finds what enumeration finds, dropping is
safe.

Worlds: tests/comparator/planning_worlds.py (4 sizes x 3 branches, noise .03 bits per byte, branches correlated .8,
gaps drawn anew in every world). Measured while building, one run each, +- is a standard error:
- a Pilot of true size promises .58 .70 .46 .75 .85 in five families; 40 worlds each decide .66 .71 .68 .76 .87, +- .05:
  it errs on the careful side, its worlds have no misfit and it assumes some;
- `smallest_ladder` promises .82 .82 .90, 50 worlds each decide .84 .86 .94 (+- .03 to .05); without the caution
  of prospect.py it promised .81 and .53 of 30 were decided;
- three equal datasets, nine rounds of one dataset, three looks: a drop in none of 120 worlds;
- from a measured pilot, promised against decided: .67 and .68, .32 and .41, .74 and .77, .49 and .73 (two datasets;
  +- .02 to .06; another seed of an earlier version .50 and .48); today's decided pairs are told within .03;
- six datasets, four rounds of the ladder as the budget, four looks, 60 worlds (the slow test): the sequential design
  ends with the best alone in .43 for .78 of the budget, the uniform ladder tells the best from all others in .23 for
  all of it; the best was dropped in none of the 60.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, studentized_range

from curate.comparator.design import PlannedCell, gap_error
from curate.comparator.plan import next_batch, plan, smallest_ladder, spending
from curate.comparator.planning.allocation import Bounds, search
from curate.comparator.planning.outlook import believe, bounds_of
from curate.comparator.planning.planned import CandidateScale, Pilot, Plan
from curate.comparator.planning.prospect import NoiseCase, critical_value, gap_model, right_and_decided
from curate.errors import MeasurementError
from tests.comparator.planning_worlds import (
    LADDER,
    ONE_ROUND,
    TARGET_FLOPS,
    Laboratory,
    drawn_sources,
    realised,
)
from tests.comparator.worlds import Source, ladder

SPAN = ((1.2e5, 3.2e6), (2.5e5, 3.2e6))
RATIO = float(np.log(LADDER[-1].tokens / LADDER[-1].params))


def piloted(sources: dict[str, Source], seed: int, noise: float = 0.03) -> Laboratory:
    """One run everywhere, three at the smallest scale: as the demo's ladder."""
    lab = Laboratory(sources, np.random.default_rng(seed), noise=noise)
    lab.uniform()
    lab.uniform(2, LADDER[:1])
    return lab


def in_sequence(lab: Laboratory, *, total: float, looks: int, seed: int) -> Plan:
    """Batches until the last look, each with an equal share of what is left."""
    found: Plan | None = None
    while True:
        look = 1 if found is None else found.look + 1
        budget = max((total - lab.flops) / max(looks - look, 1), 1.0)
        found = next_batch(
            lab.table,
            budget_flops=budget,
            previous=found,
            looks=looks,
            target_flops=TARGET_FLOPS,
            bootstraps=600,
            seed=seed,
        )
        if look == looks or len(found.active) == 1:
            return found
        lab.train(found.runs)


# ---- the numbers behind a plan ----


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(lambda r: sum(n > 0 for n in r) >= 2),
    rho=st.sampled_from([0.0, 0.5, 0.9]),
    lam=st.sampled_from([0.0, 0.25, 1.0]),
    tau=st.sampled_from([1.0, 4.0]),
    shape=st.sampled_from([0.0, 0.4]),
)
def test_the_error_of_a_ladder_is_that_of_design(
    runs: list[int], rho: float, lam: float, tau: float, shape: float
) -> None:
    """The batched form that the search uses, against design.py; the last two scales share a size, hence misfit."""
    scales = [*LADDER[:3], CandidateScale("again", LADDER[2].params, 4 * LADDER[2].tokens)]
    params = float(np.sqrt(TARGET_FLOPS / 6 / np.exp(RATIO)))
    model = gap_model(
        [(s.params, s.budgets) for s in scales],
        [NoiseCase(1.0, rho, lam, 0.0, tau, shape)],
        sizes=np.zeros(4),
        at=(params, params * np.exp(RATIO)),
        span=SPAN,
    )
    mine = float(np.sqrt(model.variance(np.array([runs], dtype=float))[0]))
    theirs = gap_error(
        [PlannedCell(s.params, s.budgets, n) for s, n in zip(scales, runs, strict=True)],
        sigma=1.0,
        rho=rho,
        lam=lam,
        tau=tau,
        flops=TARGET_FLOPS,
        trajectory=(RATIO, 0.0),
        span=SPAN,
        shape=shape,
    )
    assert mine == pytest.approx(theirs, rel=1e-4)


@settings(max_examples=80, deadline=None)
@given(
    mean=st.floats(-3, 3),
    gap_mean=st.floats(-3, 3),
    gap_sd=st.floats(0.1, 3),
    sd=st.floats(0.1, 3),
    correlation=st.floats(0, 0.99),
    threshold=st.floats(0.1, 4),
)
def test_the_chance_of_a_right_decision_is_that_of_the_bivariate_normal(
    mean: float, gap_mean: float, gap_sd: float, sd: float, correlation: float, threshold: float
) -> None:
    covariance = correlation * gap_sd * sd
    found = right_and_decided(
        (np.array([gap_mean]), np.array([gap_sd**2])),
        (np.array([mean]), np.array([sd**2])),
        np.array([covariance]),
        np.array([threshold]),
    )
    joint = multivariate_normal([0, 0], [[sd**2, covariance], [covariance, gap_sd**2]])
    slow = joint.cdf([mean - threshold, gap_mean]) + joint.cdf([-mean - threshold, -gap_mean])
    assert found[0] == pytest.approx(slow, abs=2e-4)


def test_critical_values_are_tukeys_and_grow_with_pairs() -> None:
    for datasets, degrees in ((2, 10.0), (3, 8.0), (4, 30.0)):
        exact = studentized_range.ppf(0.95, datasets, degrees) / np.sqrt(2)
        pairs = np.array([datasets * (datasets - 1) / 2])
        assert critical_value(pairs, 0.95, np.array([degrees]))[0] == pytest.approx(exact, rel=0.03)
    some = critical_value(np.array([1.0, 2.0, 3.0, 5.0]), 0.95, np.full(4, 12.0))
    assert (np.diff(some) > 0).all()


def test_the_levels_of_all_looks_add_up() -> None:
    assert sum(spending(look, 5, 0.05) for look in range(1, 6)) == pytest.approx(0.05)


# ---- the search ----


@pytest.mark.parametrize("seed", range(12))
def test_search_finds_what_enumeration_finds(seed: int) -> None:
    """Against every design of up to 6 seeds at three scales, on random ladders and beliefs."""
    rng = np.random.default_rng(seed)
    params = np.sort(10 ** rng.uniform(5, 8, 3))
    scales = [CandidateScale(f"s{i}", float(n), float(n * rng.uniform(5, 40))) for i, n in enumerate(params)]
    gap = float(10 ** rng.uniform(-2, -0.5))
    pilot = Pilot(0.03, gap, rho=0.0, change_sd=gap * float(rng.uniform(0.1, 2)), misfit=float(rng.uniform(0, 0.5)))
    state = believe(pilot, ("a", "b", "c"), scales, None, 0.95)
    ladder = 3 * float(state.costs.sum())
    bounds = Bounds(state.costs, ladder * float(rng.uniform(0.5, 4)), 6)
    designs = np.array(list(product(range(7), repeat=3)), dtype=float)
    designs = designs[3 * designs @ state.costs <= bounds.budget]
    best = state.prospect.worth(np.repeat(designs[:, None], 3, axis=1)).max()
    found = search(state.prospect, bounds, [(0, 1, 2)])
    assert 3 * found[0] @ state.costs <= bounds.budget * (1 + 1e-9)
    assert state.prospect.worth_of(found) >= best - 0.005


@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_ladder_is_the_cheapest_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pilot = Pilot(0.03, 0.1, change_sd=float(rng.uniform(0.01, 0.06)), misfit=0.05)
    gap = float(rng.uniform(0.08, 0.2))
    found = smallest_ladder(LADDER[1:], pilot=pilot, gap=gap, max_seeds=6)
    assert found.p_after >= 0.8
    state = believe(pilot, ("a", "b"), LADDER[1:], None, 0.95)
    fixed = replace(state.prospect, mean=np.array([gap]), sizes=(np.array([1e-6 * gap]), np.ones(1)))
    designs = np.array(list(product(range(7), repeat=3)), dtype=float)
    enough = designs[fixed.worth(np.repeat(designs[:, None], 2, axis=1)) >= 0.8]
    cheapest = 2 * float((enough @ bounds_of(state, np.inf, 6).costs).min())
    assert found.flops <= 1.05 * cheapest


def test_a_ladder_of_the_promised_size_decides_the_gap_as_often_as_promised() -> None:
    """30 worlds with a constant gap of .1, seed 4."""
    found = smallest_ladder(LADDER, pilot=Pilot(0.03, 0.1, change_sd=0.03, misfit=0.0), gap=0.1, power=0.8)
    hits = []
    for world in range(30):
        lab = Laboratory({"dataset 1": Source(), "dataset 2": Source(E=0.9)}, np.random.default_rng([4, world]))
        lab.train(found.runs)
        hits.append(realised(lab, seed=world).right.all())
    assert np.mean(hits) >= 0.62  # .8 less two and a half standard errors; more is allowed


def test_ten_scales_of_many_seeds_are_searched_in_bounded_time() -> None:
    """9^10 designs: the coarse grid thins itself to two levels a scale."""
    scales = [CandidateScale(f"s{i}", 1e5 * 2.0**i, 2e6 * 2.0**i) for i in range(10)]
    found = plan(Pilot(0.03, 0.1), budget_flops=1e19, scales=scales, datasets=3)
    assert 0 < found.flops <= 1e19
    assert found.p_after >= max(other.p_after for other in found.alternatives) - 1e-9


def test_a_small_table_with_one_slope_is_planned_along_compute() -> None:
    """Two of three datasets stop at the second scale: the comparator's gaps change with compute alone, and so do the
    plan's; modelled errors stay near those of the bootstraps.
    """
    lab = Laboratory({"a": Source(), "b": Source(E=0.83), "c": Source(E=0.9)}, np.random.default_rng(1))
    for scale in (CandidateScale("x", 1e6, 3e7), CandidateScale("y", 4e6, 3e7), CandidateScale("z", 8e6, 3e7)):
        for name in lab.sources:
            lab.one(name, scale)
    lab.one("a", CandidateScale("z", 8e6, 9e7))
    lab.one("b", CandidateScale("z", 8e6, 9e7))
    found = plan(lab.table, budget_flops=1e17, bootstraps=400)
    assert found.target_flops == pytest.approx(6 * 8e6 * 3e7)
    assert found.p_after >= found.p_before
    for pair in found.pairs:
        assert pair.gap is not None
        assert pair.error_after <= (pair.gap.high - pair.gap.low) / 3.5  # no wider than the bootstraps' interval now


# ---- plans ----


def test_a_plan_stays_within_its_budget_and_beats_its_alternatives() -> None:
    found = plan(Pilot(0.03, 0.1), budget_flops=6 * ONE_ROUND, scales=LADDER, datasets=3)
    assert 0 < found.flops <= 6 * ONE_ROUND
    assert found.flops == pytest.approx(sum(run.flops for run in found.runs))
    assert all(run.datasets == found.datasets for run in found.runs)
    assert found.p_before == 0.0
    assert all(found.p_after >= other.p_after - 1e-9 for other in found.alternatives)
    more = [p for _, p in found.by_budget]
    assert more == sorted(more)
    assert found.to_dict()["p_after"] == found.p_after
    assert "P(decided)" in str(found)
    assert found.rows()[0]["runs"] == found.runs[0].runs


def test_one_scale_below_the_target_is_said_not_to_decide() -> None:
    found = plan(Pilot(0.02, 0.1, change_sd=0.3), budget_flops=6 * ONE_ROUND, scales=LADDER, datasets=2)
    assert any("One scale alone cannot decide" in note and LADDER[0].name in note for note in found.notes)
    steady = plan(Pilot(0.02, 0.1, change_sd=0.001, misfit=0.0), budget_flops=6 * ONE_ROUND, scales=LADDER, datasets=2)
    assert not any("One scale alone" in note for note in steady.notes)
    assert steady.p_after > found.p_after


def test_a_plan_from_measurements_spends_on_what_is_open() -> None:
    """c is far off: the runs go to a and b alone."""
    lab = piloted({"a": Source(), "b": Source(E=0.83), "c": Source(E=1.4)}, seed=2)
    found = plan(lab.table, budget_flops=4 * ONE_ROUND, target_flops=TARGET_FLOPS, bootstraps=500)
    assert {name for run in found.runs for name in run.datasets} == {"a", "b"}
    by_pair = {(pair.first, pair.second): pair for pair in found.pairs}
    assert by_pair["a", "c"].p_before > 0.99
    assert by_pair["a", "b"].p_after > by_pair["a", "b"].p_before
    assert by_pair["a", "b"].error_after < 0.02


def test_new_scales_may_be_bought_beside_the_measured_ones() -> None:
    lab = piloted({"a": Source(), "b": Source(E=0.83)}, seed=3)
    larger = CandidateScale("6M", 6e6, 4e6)
    found = plan(
        lab.table, budget_flops=20 * larger.flops(), scales=[larger], target_flops=6 * 6e6 * 4e6, bootstraps=500
    )
    assert [run.scale for run in found.runs] == ["6M"]
    assert found.p_after > found.p_before


def test_the_seed_alone_decides_the_plan() -> None:
    lab = piloted({"a": Source(), "b": Source(E=0.85)}, seed=1)
    first, second = (plan(lab.table, budget_flops=4 * ONE_ROUND, bootstraps=300, seed=5) for _ in range(2))
    assert first == second


def test_a_promise_from_a_pilot_comes_true() -> None:
    """10 worlds of three datasets, seed 2: the mean promise against the share of pairs decided rightly."""
    promised, came = [], []
    for world in range(10):
        rng = np.random.default_rng([2, world])
        lab = piloted(drawn_sources(3, rng, level=0.06, change=0.06), seed=world)
        found = plan(lab.table, budget_flops=6 * ONE_ROUND, target_flops=TARGET_FLOPS, bootstraps=400, seed=world)
        lab.train(found.runs)
        promised.append(found.p_after)
        came.append(realised(lab, seed=world).right.mean())
    error = np.std(np.array(came) - promised) / np.sqrt(10)
    assert abs(np.mean(came) - np.mean(promised)) < 0.05 + 2.5 * error


# ---- batch after batch ----


def test_what_is_clearly_worse_is_dropped_with_its_reason_and_stays_dropped() -> None:
    lab = piloted({"a": Source(), "b": Source(E=0.82), "c": Source(E=1.4)}, seed=0)
    first = next_batch(lab.table, budget_flops=2 * ONE_ROUND, looks=3, bootstraps=500)
    assert [gone.dataset for gone in first.dropped] == ["c"]
    assert first.dropped[0].p > 0.99
    assert "decidedly worse than" in first.dropped[0].reason
    assert all("c" not in run.datasets for run in first.runs)
    lab.train(first.runs)
    second = next_batch(lab.table, budget_flops=2 * ONE_ROUND, previous=first.to_dict(), looks=3, bootstraps=500)
    assert second.look == 2
    assert second.dropped[0] == first.dropped[0]
    assert "c" not in second.active
    assert set(second.datasets) == {"a", "b", "c"}


def test_no_look_is_taken_that_was_not_planned() -> None:
    lab = piloted({"a": Source(), "b": Source()}, seed=0)
    only = next_batch(lab.table, budget_flops=ONE_ROUND, looks=1, bootstraps=300)
    assert only.runs == ()
    assert only.confidence == pytest.approx(0.95)
    with pytest.raises(MeasurementError, match="All 1 looks are spent"):
        next_batch(lab.table, budget_flops=ONE_ROUND, previous=only, looks=1, bootstraps=300)
    with pytest.raises(MeasurementError, match="their number is fixed at first"):
        next_batch(lab.table, budget_flops=ONE_ROUND, previous=only, looks=2, bootstraps=300)
    with pytest.raises(MeasurementError, match="this is no plan"):
        next_batch(lab.table, budget_flops=ONE_ROUND, previous={"runs": []}, looks=2, bootstraps=300)


def test_equal_datasets_are_seldom_dropped() -> None:
    """8 worlds of three equal datasets, three looks: two drops would have a probability of .06 at alpha .05."""
    dropped = 0
    for world in range(8):
        lab = piloted({name: Source() for name in "abc"}, seed=500 + world)
        dropped += bool(in_sequence(lab, total=9 * ONE_ROUND, looks=3, seed=world).dropped)
    assert dropped <= 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_false_drops_over_two_hundred_worlds() -> None:
    """Three equal datasets, three looks: any drop is false."""
    false = 0
    for world in range(200):
        lab = piloted({name: Source() for name in "abc"}, seed=1000 + world)
        false += bool(in_sequence(lab, total=9 * ONE_ROUND, looks=3, seed=world).dropped)
    print("equal datasets, worlds with a drop:", false, "of 200")
    assert false <= 16  # .05 and two standard errors


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_sequential_design_finds_the_best_more_often_and_for_less() -> None:
    """Six datasets, four rounds of the ladder, four looks, 60 worlds."""
    ours, theirs, spent, false = [], [], [], 0
    total = 6 * 4 * ONE_ROUND
    for world in range(60):
        sources = drawn_sources(6, np.random.default_rng([77, world]), level=0.06, change=0.06)
        lab = piloted(sources, seed=2000 + world)
        found = in_sequence(lab, total=total, looks=4, seed=world)
        ours.append(found.active == (lab.best,))
        false += lab.best not in found.active
        spent.append(lab.flops / total)
        rival = piloted(sources, seed=3000 + world)
        while rival.flops + 6 * ONE_ROUND <= total:
            rival.uniform()
        for scale in reversed(LADDER):
            if rival.flops + 6 * scale.flops() <= total:
                rival.uniform(1, [scale])
        theirs.append(realised(rival, seed=world).winner == rival.best)
    print(f"best alone {np.mean(ours):.2f} for {np.mean(spent):.2f}, uniform {np.mean(theirs):.2f}, false {false}/60")
    assert np.mean(ours) > np.mean(theirs)
    assert np.mean(spent) < 1.0
    assert false <= 6


# ---- what cannot be planned ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_flops": 0.0}, "budget_flops is 0"),
        ({"budget_flops": float("nan")}, "budget_flops is nan"),
        ({"max_seeds": 0}, "max_seeds is 0"),
        ({"target_flops": -1.0}, "target_flops is -1"),
        ({"goal": "most"}, "goal is 'most'"),
        ({"scales": None}, "needs scales"),
        ({"scales": [LADDER[0], LADDER[0]]}, "one name"),
        ({"datasets": 1}, "two or more datasets"),
        ({"datasets": ["a", "a"]}, "names of their own"),
        ({"scales": [CandidateScale(f"s{i}", 1e5 + i, 1e6) for i in range(11)]}, "11 candidate scales"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_a_sentence(change: dict[str, object], message: str) -> None:
    options: dict[str, object] = {"budget_flops": 1e15, "scales": LADDER, "datasets": 2, **change}
    with pytest.raises(MeasurementError, match=message):
        plan(Pilot(0.03, 0.1), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [((0.0, 0.1), "noise_sd is 0"), ((0.1, float("nan")), "gap_sd is nan"), ((0.1, 0.1, 1.0), "rho is 1")],
)
def test_a_pilot_that_makes_no_sense_is_refused(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        Pilot(*values)


def test_scales_that_make_no_sense_are_refused() -> None:
    with pytest.raises(MeasurementError, match="must be positive"):
        CandidateScale("x", 0.0, 1e6)
    with pytest.raises(MeasurementError, match="must lie below tokens"):
        CandidateScale("x", 1e5, 1e6, (2e6,))


def test_a_table_without_sizes_or_shared_cells_says_what_to_add() -> None:
    lab = piloted({"a": Source(), "b": Source()}, seed=0)
    table = lab.table
    nothing = pa.array([None] * table.num_rows, pa.float64())
    bare = table.set_column(table.schema.get_field_index("params"), "params", nothing)
    with pytest.raises(MeasurementError, match="params"):
        plan(bare, budget_flops=1e15)


def test_a_budget_that_pays_nothing_says_so() -> None:
    found = plan(Pilot(0.03, 0.1), budget_flops=1e6, scales=LADDER, datasets=2)
    assert found.runs == ()
    assert any("does not pay one run" in note for note in found.notes)


def test_a_ladder_without_scales_is_asked_for_them() -> None:
    with pytest.raises(MeasurementError, match="needs candidate scales"):
        smallest_ladder([], pilot=Pilot(noise_sd=0.01, gap_sd=0.03), gap=0.02)


def test_the_only_metric_need_not_be_named() -> None:
    table = ladder({"a": Source(), "b": Source(E=0.85)}, rng=np.random.default_rng(0), metric="loss")
    assert plan(table, budget_flops=1e14, bootstraps=200).metric == "loss"
