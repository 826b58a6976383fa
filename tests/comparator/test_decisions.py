"""Decision accuracy against a slow reference, its interval, seed conventions, and what each ranking may use."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.comparator.backtests.decisions import DecisionRow, decision_accuracy, decision_table
from curate.comparator.laws import POWER, POWER2
from curate.comparator.points import Points, as_points
from curate.comparator.tables import complete
from curate.errors import MeasurementError

VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9)


def slow_accuracy(small: list[int], target: list[int]) -> float:
    agree, pairs = 0.0, 0
    for i in range(len(small)):
        for j in range(i):
            pairs += 1
            if small[i] == small[j] or target[i] == target[j]:
                agree += 0.5
            elif (small[i] > small[j]) == (target[i] > target[j]):
                agree += 1.0
    return agree / pairs


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_accuracy_counts_pairs_and_ties_as_a_person_would(values: list[tuple[int, int]]) -> None:
    small, target = ([float(v[k]) for v in values] for k in (0, 1))
    names = [f"d{i}" for i in range(len(values))]
    found = decision_accuracy(
        dict(zip(names, small, strict=True)),
        dict(zip(names, target, strict=True)),
        lower_is_better=True,
        bootstraps=200,
    )
    assert found.value == pytest.approx(slow_accuracy([v[0] for v in values], [v[1] for v in values]))
    assert found.low <= found.value <= found.high
    assert found.pairs == len(values) * (len(values) - 1) // 2
    assert found.kendall == pytest.approx(2 * found.value - 1)


def test_the_interval_holds_the_truth_though_eight_datasets_are_few() -> None:
    # 300 worlds of 8 datasets, correlated normal values, true accuracy .5 + asin(r) / pi; seed 0
    rng = np.random.default_rng(0)
    for r in (0.0, 0.8, 0.99):
        truth = 0.5 + np.arcsin(r) / np.pi
        held = 0
        for world in range(300):
            target = rng.standard_normal(8)
            small = r * target + np.sqrt(1 - r * r) * rng.standard_normal(8)
            found = decision_accuracy(
                dict(enumerate_names(small)),
                dict(enumerate_names(target)),
                lower_is_better=True,
                bootstraps=500,
                seed=world,
            )
            held += found.low <= truth <= found.high
        assert held / 300 >= 0.93


def enumerate_names(values: np.ndarray) -> list[tuple[str, float]]:
    return [(f"d{i}", float(v)) for i, v in enumerate(values)]


def test_agreement_on_every_pair_is_no_proof_of_perfection() -> None:
    names = dict(enumerate_names(np.arange(8.0)))
    found = decision_accuracy(names, names, lower_is_better=True)
    assert found.value == 1.0 == found.high
    assert 0.5 < found.low < 0.9
    assert "Jeffreys" in found.interval
    opposite = decision_accuracy({k: -v for k, v in names.items()}, names, lower_is_better=True)
    assert (opposite.value, opposite.low) == (0.0, 0.0) and opposite.high > 0.1


def test_a_loss_may_rank_for_an_accuracy_and_the_regret_is_in_the_targets_units() -> None:
    accuracy = {"a": 0.60, "b": 0.55, "c": 0.50}
    loss = {"a": 3.1, "b": 3.0, "c": 3.2, "d": 2.0}
    found = decision_accuracy(loss, accuracy, lower_is_better=False, small_lower_is_better=True)
    assert found.value == pytest.approx(2 / 3)
    assert (found.picked, found.best, found.left_out) == (("b",), ("a",), ("d",))
    assert found.regret == pytest.approx(0.05)


def test_one_dataset_in_common_is_refused_in_a_sentence() -> None:
    with pytest.raises(MeasurementError, match=r"needs two datasets.*only at one of them: b, c"):
        decision_accuracy({"a": 1.0, "b": 2.0}, {"a": 1.0, "c": 2.0}, lower_is_better=True)


def grid(
    datasets: int = 5, *, seeds: int = 3, sizes: int = 6, noise: float = 0.004, seed: int = 0, branches: int = 1
) -> pa.Table:
    """A ladder whose datasets differ by a constant gap of .01 nats."""
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(datasets):
        for params in np.geomspace(1e7, 1e9, sizes):
            for s in range(seeds):
                for share in [0.25, 0.5, 1.0][3 - branches :]:
                    tokens = 20 * params * share
                    loss = 1.5 + 0.01 * d + 60 * params**-0.2 + 20 * tokens**-0.2
                    rows.append(
                        {
                            "run_id": f"{d}-{params:.3g}-{s}",
                            "dataset": f"d{d}",
                            "params": params,
                            "tokens": tokens,
                            "flops": 6 * params * tokens,
                            "seed": s,
                            "metric": "loss",
                            "value": loss * float(np.exp(noise * rng.standard_normal())),
                            "lower_is_better": True,
                        }
                    )
    return complete(pa.Table.from_pylist(rows))


def by_method(rows: tuple[DecisionRow, ...], method: str) -> list[DecisionRow]:
    return [r for r in rows if r.method == method]


def test_every_method_stands_beside_the_single_scale_with_what_it_cost() -> None:
    rows = decision_table(as_points(grid()), laws=[POWER2, POWER])
    methods = {r.method for r in rows}
    assert methods == {"single scale", "mean of scales", "law power2", "law power", "paired gaps"}
    single = by_method(rows, "single scale")
    assert len(single) == 5  # six sizes, the dearest is the target
    cheapest = single[0]
    assert cheapest.flops == pytest.approx(5 * 3 * 120 * 1e14, rel=1e-6)  # 5 datasets x 3 seeds x 6 N (20 N)
    assert cheapest.share_of_target == pytest.approx(1e-4)
    assert cheapest.runs == 15
    law = by_method(rows, "law power")[-1]
    assert law.flops == pytest.approx(sum(r.flops for r in single))
    assert {r.target_seeds for r in rows} == {"mean of seeds"}
    assert all(r.up_to_flops < r.target_flops and not r.same_runs for r in rows)


def test_the_seed_conventions_are_kept_apart_and_named() -> None:
    points = as_points(grid(noise=0.02, seed=3))
    tables = (
        decision_table(points, gaps=False),
        decision_table(points, gaps=False, target_seeds="default seed"),
        decision_table(points, gaps=False, small_seeds="each seed in turn"),
    )
    mean, default, turn = (by_method(table, "single scale")[2] for table in tables)
    assert (mean.target_seeds, default.target_seeds) == ("mean of seeds", "default seed (0)")
    assert turn.seeds == "each of 3 seeds in turn"
    cell = np.flatnonzero(np.isclose(points.flops, mean.up_to_flops))
    final = np.isclose(points.flops, mean.target_flops)
    names = np.array(points.names)[points.dataset]
    target = {n: float(points.value[final & (names == n)].mean()) for n in points.names}
    one_by_one = [
        decision_accuracy(
            {names[i]: float(points.value[i]) for i in cell if points.seed[i] == s}, target, lower_is_better=True
        ).value
        for s in range(3)
    ]
    assert turn.accuracy.value == pytest.approx(np.mean(one_by_one))
    assert len({mean.accuracy.value, default.accuracy.value, turn.accuracy.value}) > 1  # they are different numbers


def test_a_default_seed_that_nobody_has_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"no default seed.*asked for 17"):
        decision_table(as_points(grid()), target_seeds="default seed", default_seed=17)


def spoil(points: Points, rows: np.ndarray) -> Points:
    value = points.value.copy()
    value[rows] *= np.exp(np.random.default_rng(9).standard_normal(int(rows.sum())))
    return replace(points, value=value)


def test_nothing_at_or_beyond_the_target_enters_a_ranking() -> None:
    points = as_points(grid(noise=0.02))
    levels = np.unique(points.flops.round(-6))
    aim = float(levels[-2])  # a target with a dearer size beyond it
    honest = decision_table(points, laws=[POWER2], target_flops=aim)
    spoiled = decision_table(spoil(points, points.flops > aim * 0.99), laws=[POWER2], target_flops=aim)
    assert honest[0].target_flops == pytest.approx(aim)
    assert [r.accuracy.picked for r in honest] == [r.accuracy.picked for r in spoiled]
    assert [r.accuracy.regret for r in honest] != [r.accuracy.regret for r in spoiled]
    assert all(r.up_to_flops < aim for r in honest)


def test_branches_of_the_targets_own_runs_are_marked_and_cost_a_run_once() -> None:
    rows = decision_table(as_points(grid(branches=3, seeds=1)), laws=[POWER2])
    marked = [r for r in by_method(rows, "single scale") if r.same_runs]
    assert {r.scale.split("/")[0] for r in marked} == {"1e+03M"}
    assert len(marked) == 2
    assert not any(r.same_runs for r in rows if r.method.startswith("law") or r.method == "paired gaps")
    law = by_method(rows, "law power2")[-1]
    sizes = np.geomspace(1e7, 1e9, 6)[:5]
    assert law.flops == pytest.approx(5 * (120 * sizes**2).sum(), rel=1e-6)  # the longest branch of each run


def test_the_target_is_a_scale_that_most_datasets_have() -> None:
    table = grid(datasets=8, seeds=1)
    few = pa.compute.is_in(table["dataset"], value_set=pa.array(["d0", "d1", "d2"]))
    keep = pa.compute.or_(few, pa.compute.less(table["params"], 9e8))  # only three datasets at the dearest size
    points = as_points(table.filter(keep))
    rows = decision_table(points)
    assert rows[0].accuracy.datasets == 8
    assert rows[0].target_flops < points.flops.max()


def test_two_datasets_have_no_decision_table() -> None:
    assert decision_table(as_points(grid(datasets=2))) == ()
