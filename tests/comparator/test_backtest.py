"""Back-tests: what is held out stays out, right forms cover and wrong ones are named, the choice follows its rule."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate.comparator.backtest import Backtest, backtest, backtest_points
from curate.comparator.backtests.choice import choose
from curate.comparator.backtests.holdouts import HeldOut, choose_cuts, hold_out, select, up_to
from curate.comparator.laws import CHINCHILLA, POWER, POWER2
from curate.comparator.points import Points, as_points
from curate.comparator.tables import complete
from curate.errors import MeasurementError


def ladder(
    *,
    floor: float = 1.6,
    datasets: int = 2,
    sizes: int = 10,
    ratios: tuple[float, ...] = (20.0,),
    noise: float = 0.004,
    seed: int = 0,
    metric: str = "loss",
) -> pa.Table:
    """Losses floor + (C / 1e17)^-.12 (one ratio of tokens), or of Chinchilla's form where there are several."""
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(datasets):
        for params in np.geomspace(2e7, 2e9, sizes):
            for ratio in ratios:
                tokens = ratio * params
                flops = 6 * params * tokens
                shape = (flops / 1e17) ** -0.12 if len(ratios) == 1 else 90 * params**-0.3 + 150 * tokens**-0.27
                rows.append(
                    {
                        "run_id": f"{d}-{params:.3g}-{ratio}",
                        "dataset": f"d{d}",
                        "params": params,
                        "tokens": tokens,
                        "flops": flops,
                        "metric": metric,
                        "value": (floor + shape) * (1 + 0.02 * d) * float(np.exp(noise * rng.standard_normal())),
                        "lower_is_better": True,
                    }
                )
    return complete(pa.Table.from_pylist(rows))


def spoiled(points: Points, rows: np.ndarray) -> Points:
    value = points.value.copy()
    value[rows] *= 3.0
    return replace(points, value=value)


def claims(held: HeldOut, rows: np.ndarray) -> tuple[list[float], ...]:
    return tuple(getattr(held, side)[rows].tolist() for side in ("predicted", "low", "high", "cut"))


def test_what_lies_beyond_a_cut_changes_neither_prediction_nor_band() -> None:
    points = as_points(ladder())
    cuts = choose_cuts(points)
    honest = hold_out(points, POWER, cuts=cuts, bootstraps=40)
    for cut in cuts[2:-1:3]:
        other = hold_out(spoiled(points, points.flops > cut * 1.001), POWER, cuts=cuts, bootstraps=40)
        early, same = honest.cut <= cut, other.cut <= cut
        assert early.any()
        assert claims(honest, early) == claims(other, same)
        assert not np.array_equal(honest.actual, other.actual)


def test_every_hold_out_lies_beyond_what_its_fit_saw() -> None:
    points = as_points(ladder(ratios=(10.0, 40.0)))
    held = hold_out(points, POWER2, cuts=choose_cuts(points), bootstraps=40)
    assert len(held) > 50
    assert (held.flops > held.cut).all() and (held.seen <= held.cut * 1.001).all()
    assert (held.horizon > 1.0).all()


def branching(seed: int = 0) -> Points:
    """Six sizes, one run each with three branches that span a factor of four."""
    table = ladder(datasets=1, sizes=6, ratios=(5.0, 10.0, 20.0), seed=seed)
    runs = [f"run-{params:.4g}" for params in table["params"].to_pylist()]
    return as_points(table.set_column(table.schema.get_field_index("run_id"), "run_id", pa.array(runs)))


def test_a_run_that_goes_on_beyond_the_cut_lends_nothing_to_the_fit() -> None:
    points = branching()
    big = points.params > 1e8
    middle = float(points.flops[big].min())  # inside the branches of the first big run
    straddles = np.isin(points.run, points.run[big & (points.flops <= middle)])
    assert not up_to(points, middle)[straddles].any()
    lower = straddles & (points.flops <= middle)
    assert lower.any()
    honest, other = (hold_out(p, POWER2, cuts=[middle], bootstraps=40) for p in (points, spoiled(points, lower)))
    assert len(honest) and claims(honest, np.ones(len(honest), bool)) == claims(other, np.ones(len(other), bool))


def without_outcome(result: Backtest) -> dict[str, object]:
    plain = result.to_dict()
    for name in ("sealed", "sealed_envelope", "decisions", "lines"):
        plain.pop(name)
    for name in ("forecasts", "envelopes"):
        for row in plain[name]:
            for outcome in ("actual", "inside", "calibrated_inside"):
                row.pop(outcome, None)
    return plain


def test_sealed_points_enter_no_fit_no_choice_and_no_band() -> None:
    points = as_points(ladder(datasets=4, sizes=12))
    target = float(np.sort(np.unique(points.flops))[-2])
    beyond = points.flops >= target * 0.99
    honest, other = (backtest_points(p, target_flops=target, bootstraps=60) for p in (points, spoiled(points, beyond)))
    assert without_outcome(honest) == without_outcome(other)
    assert {f.flops for f in honest.forecasts} == set(points.flops[beyond])
    by_law = {s.law: s for s in honest.sealed}
    assert by_law["power"].n == 8 and by_law["power"].claimed.covered >= 6
    assert {s.law: s.claimed.covered for s in other.sealed}["power"] == 0
    assert by_law["power"].calibrated.n == 8  # 24 held-out runs below the target were enough for a conformal scale


def test_the_right_form_covers_and_the_wrong_one_is_said_not_to() -> None:
    result = backtest(ladder(datasets=6, sizes=12), metric="loss")
    assert result.law("power").overall.claimed.covers() is True
    assert result.law("power2").overall.claimed.covers() is False
    assert result.covers("power2") is False
    assert "does not cover" in str(result)
    scale = result.law("power2").scale.scale
    assert scale is not None and scale > 1.5
    assert result.law("power2").overall.bias < -0.01  # without a floor it promises too much


def test_the_choice_names_every_form_that_the_hold_outs_leave_open() -> None:
    floored = backtest(ladder(datasets=4), metric="loss")
    assert (floored.chosen, floored.near) == ("power", ("power",))
    bare = backtest(ladder(datasets=4, floor=0.0), metric="loss")  # power2 is the truth, power contains it
    assert set(bare.near) >= {"power2"}
    assert "fewest parameters" in bare.rule
    by_law = {c.law: c for c in bare.contrasts}
    assert by_law["power2"].excess <= by_law["power2"].standard_error


def test_of_equals_the_form_with_a_floor_is_chosen_and_then_the_simpler() -> None:
    points = as_points(ladder(datasets=4, sizes=8, ratios=(10.0, 30.0)))
    truth = hold_out(points, POWER, cuts=choose_cuts(points), bootstraps=20)
    same = [replace(truth, law=law) for law in (CHINCHILLA, POWER2, POWER)]  # told apart by nothing
    _, near, chosen, reason = choose(points, same, "one standard error")
    assert near == ("power", "chinchilla", "power2")
    assert chosen == "power"
    assert "do not tell it from chinchilla or power2" in reason
    assert choose(points, same[1:2], "one standard error")[2] == "power2"  # where there is no other


def test_tokens_and_parameters_are_needed_where_their_ratio_varies() -> None:
    result = backtest(ladder(datasets=2, sizes=7, ratios=(5.0, 20.0, 160.0)), metric="loss")
    assert result.chosen == "chinchilla"
    assert result.near == ("chinchilla",)
    worse = {c.law: c for c in result.contrasts if c.law != "chinchilla"}
    assert all(c.excess > 2 * c.standard_error for c in worse.values())


def test_a_law_of_two_inputs_that_move_together_is_not_tested() -> None:
    result = backtest(ladder(), metric="loss", laws=["chinchilla", "power"])  # D = 20 N throughout
    assert [found.law for found in result.laws] == ["power"]
    assert any(note.startswith("chinchilla could not be tested") for note in result.notes)


def test_few_hold_outs_give_no_conformal_band_and_no_verdict_on_coverage() -> None:
    result = backtest(ladder(datasets=1, sizes=7), metric="loss", laws=[POWER])
    found = result.law("power")
    assert found.scale.scale is None
    assert "not available: needs 19 hold-outs of different runs" in str(result)
    assert result.covers() is None
    assert "too few to say" in str(result)


def test_a_target_beyond_all_points_is_forecast_for_every_dataset() -> None:
    result = backtest(ladder(datasets=4), metric="loss", target_flops=1e22)
    chosen = [f for f in result.forecasts if f.law == result.chosen]
    assert {f.dataset for f in chosen} == {"d0", "d1", "d2", "d3"}
    for f in chosen:
        assert f.low < f.predicted < f.high
        assert f.calibrated_low is not None and f.calibrated_low < f.predicted
        assert f.horizon == pytest.approx(1e22 / (120 * 2e9**2), rel=1e-6)
        assert f.actual is None and f.inside is None
    assert result.sealed == ()


def test_the_result_depends_on_the_seed_and_nothing_else() -> None:
    table = ladder()
    one, two, three = (backtest(table, metric="loss", seed=s).to_dict() for s in (0, 0, 1))
    assert one == two
    assert one != three
    assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_another_dataset_moves_no_prediction_of_the_first() -> None:
    points = as_points(ladder(datasets=3))
    alone = select(points, points.dataset < 2)
    cuts = choose_cuts(points)
    everyone, few = (hold_out(p, POWER2, cuts=cuts, bootstraps=40) for p in (points, alone))
    mine = points.dataset[everyone.row] < 2
    assert sorted(zip(*claims(everyone, mine), strict=True)) == sorted(
        zip(*claims(few, np.ones(len(few), bool)), strict=True)
    )


def test_accuracies_are_tested_as_what_is_missing_from_one() -> None:
    table = ladder(datasets=2)
    share = pa.array(1.0 - np.array(table["value"]) / 6.0)
    table = table.set_column(table.schema.get_field_index("value"), "value", share)
    better = pa.array([False] * table.num_rows)
    table = table.set_column(table.schema.get_field_index("lower_is_better"), "lower_is_better", better)
    result = backtest(table, metric="loss", target_flops=1e22)
    assert not result.lower_is_better
    assert all(f.low < f.predicted < f.high < 1.0 for f in result.forecasts)


def test_a_score_without_a_floor_has_no_law_and_the_result_says_so() -> None:
    points = as_points(ladder())
    result = backtest_points(replace(points, lower_is_better=False))
    assert result.laws == () and result.chosen is None
    assert "neither a loss nor a share" in str(result)


def test_too_little_to_test_is_said_not_hidden() -> None:
    result = backtest(ladder(datasets=1, sizes=3), metric="loss", laws=[POWER2, POWER])
    assert result.laws == ()
    assert result.reason == "no law could be tested on a hold-out"
    assert any("power could not be tested" in note for note in result.notes)


def test_bad_requests_get_a_sentence() -> None:
    table = ladder()
    with pytest.raises(MeasurementError, match=r"No measurement of 'acc'"):
        backtest(table, metric="acc")
    with pytest.raises(MeasurementError, match=r"Unknown law 'wiggle'"):
        backtest(table, metric="loss", laws=["wiggle"])
    with pytest.raises(MeasurementError, match=r"target_flops is -1"):
        backtest(table, metric="loss", target_flops=-1.0)


def test_rows_name_every_law_and_horizon() -> None:
    result = backtest(ladder(ratios=(10.0, 30.0)), metric="loss", laws=[POWER2, CHINCHILLA])
    rows = result.rows()
    assert {r["law"] for r in rows} == {found.law for found in result.laws}
    for found in result.laws:
        mine = [r for r in rows if r["law"] == found.law]
        assert mine[0]["horizon"] == "all"
        assert mine[0]["predictions"] == sum(r["predictions"] for r in mine[1:])
