"""Scale by scale: all runs listed, pairs on equal settings, Student intervals, orders compared between scales."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from curate.comparator import compare
from curate.comparator.backtests.decisions import decision_accuracy
from curate.comparator.scales import compare_scales
from curate.comparator.tables import complete
from curate.comparator.verdict import ScaleComparison
from tests.comparator.worlds import Source, ladder

Run = tuple[str, str, float, float]  # dataset, scale, value, learning rate


def runs(rows: list[Run]) -> pa.Table:
    size = {"small": 1e8, "large": 1e9}
    return complete(
        pa.table(
            {
                "run_id": [f"r{i}" for i in range(len(rows))],
                "dataset": [r[0] for r in rows],
                "scale": [r[1] for r in rows],
                "params": [size[r[1]] for r in rows],
                "tokens": [20 * size[r[1]] for r in rows],
                "metric": ["accuracy"] * len(rows),
                "value": [r[2] for r in rows],
                "hyperparameters": [json.dumps({"learning_rate": r[3]}) for r in rows],
            }
        )
    )


def scale(rows: list[Run], name: str = "small") -> ScaleComparison:
    found, _ = compare_scales(runs(rows), confidence=0.95, seed=0)
    return next(s for s in found if s.scale == name)


THREE_SEEDS: list[Run] = [("a", "small", v, 0.1) for v in (0.60, 0.61, 0.62)] + [
    ("b", "small", v, 0.1) for v in (0.50, 0.51, 0.52)
]


def test_the_interval_is_students_with_pooled_variance() -> None:
    pair = scale(THREE_SEEDS).pair("b", "a")
    reference = stats.ttest_ind([0.60, 0.61, 0.62], [0.50, 0.51, 0.52])
    low, high = reference.confidence_interval(0.95)
    assert pair.gap is not None
    assert (pair.better, pair.worse, pair.runs_better, pair.runs_worse) == ("a", "b", 3, 3)
    assert (pair.gap.low, pair.gap.high) == pytest.approx((low, high))
    assert pair.p_better == pytest.approx(1 - reference.pvalue / 2)
    assert pair.decided


def test_without_a_repeated_run_there_is_no_interval_and_nothing_is_decided() -> None:
    found = scale([("a", "small", 0.9, 0.1), ("b", "small", 0.1, 0.1)])
    (pair,) = found.pairs
    assert found.noise_sd is None
    assert (pair.gap, pair.p_better, pair.decided) == (None, None, False)
    assert pair.difference == pytest.approx(0.8)


def test_runs_of_other_settings_are_listed_but_not_compared() -> None:
    found = scale([*THREE_SEEDS, ("a", "small", 0.80, 0.3)])
    a = found.runs("a")
    assert (a.values, a.matched) == ((0.60, 0.61, 0.62, 0.80), (True, True, True, False))
    assert a.mean == pytest.approx(0.61)
    assert found.pair("a", "b").difference == pytest.approx(0.10)
    assert found.pair("a", "b").basis == "matched"
    (differing,) = found.differs
    assert (differing.name, differing.values) == ("learning_rate", {"a": ("0.1", "0.3"), "b": ("0.1",)})


def test_a_pair_without_equal_settings_is_confounded_and_never_decided() -> None:
    rows = [*THREE_SEEDS, *[("c", "small", v, 0.3) for v in (0.90, 0.91)]]
    found = scale(rows)
    pair = found.pair("a", "c")
    assert (pair.confounded, pair.basis, pair.decided) == (("learning_rate",), "all", False)
    assert found.pair("a", "b").decided


def test_a_pair_is_matched_on_settings_that_the_scale_does_not_share() -> None:
    rows: list[Run] = [(d, "small", 0.5, 0.1) for d in "abc"]
    found = scale([*rows, ("d", "small", 0.7, 0.3), ("a", "small", 0.6, 0.3)])
    assert found.pair("a", "d").difference == pytest.approx(0.1)
    assert found.pair("a", "d").basis == "matched"
    assert found.pair("b", "d").confounded == ("learning_rate",)


def test_a_loss_is_ordered_the_other_way() -> None:
    table = runs(THREE_SEEDS)
    table = table.set_column(table.schema.get_field_index("metric"), "metric", pa.array(["loss"] * 6))
    table = table.set_column(table.schema.get_field_index("lower_is_better"), "lower_is_better", pa.array([True] * 6))
    (found,), _ = compare_scales(table, confidence=0.95, seed=0)
    assert [r.dataset for r in found.datasets] == ["b", "a"]
    assert found.pair("a", "b").better == "b"


def test_equal_datasets_are_seldom_decided_at_a_scale() -> None:
    """Ten equal datasets with three seeds each: some pair is decided in at most 5% of 200 worlds (seed 0)."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        rows = [(f"d{i}", "small", float(v), 0.1) for i in range(10) for v in 0.5 + 0.01 * rng.standard_normal(3)]
        wrong += any(p.decided for p in scale(rows).pairs)
    assert wrong <= 16  # 10 expected at most; 16 is its 97% quantile


def test_orders_of_two_scales_are_compared_matched_and_averaged() -> None:
    values = {"a": (0.1, 0.1), "b": (0.2, 0.2), "c": (0.3, 0.4), "d": (0.4, 0.3), "e": (0.5, 0.5)}
    rows: list[Run] = [(d, s, v[i], 0.1) for d, v in values.items() for i, s in enumerate(("small", "large"))]
    rows.append(("e", "large", -0.4, 0.3))  # averaged, e falls to the last place
    _, found = compare_scales(runs(rows), confidence=0.95, seed=0)
    matched, averaged = found
    assert (matched.runs, averaged.runs) == ("matched", "all averaged")
    assert (matched.small, matched.large, matched.n, matched.pairs) == ("small", "large", 5, 10)
    assert matched.decision_accuracy.value == 0.9
    assert matched.kendall.value == pytest.approx(stats.kendalltau([1, 2, 3, 4, 5], [1, 2, 4, 3, 5]).statistic)
    assert averaged.decision_accuracy.value == pytest.approx(0.5)
    assert matched.decision_accuracy.low <= 0.9 <= matched.decision_accuracy.high
    assert "5 datasets" in matched.note
    assert "rough" in matched.note
    left, right = ({d: v[i] for d, v in values.items()} for i in (0, 1))
    assert decision_accuracy(left, right, lower_is_better=False).value == matched.decision_accuracy.value


def test_three_datasets_are_too_few_for_an_agreement() -> None:
    rows: list[Run] = [(d, s, 0.1 * i, 0.1) for i, d in enumerate("abc") for s in ("small", "large")]
    assert compare_scales(runs(rows), confidence=0.95, seed=0)[1] == ()


def test_the_single_scale_baseline_stands_beside_the_verdict() -> None:
    sources = {"full": Source(), "middle": Source(E=1.0), "raw": Source(E=1.2, B=1.4)}
    verdict = compare(ladder(sources, rng=np.random.default_rng(0)), bootstraps=100)
    assert len(verdict.headline.scales) == 12
    for found in verdict.headline.scales:
        assert found.judged == 3
        assert found.same_as_verdict == 3
        assert len(found.pairs) == 3
    assert verdict.headline.scale("0.12M, 1M tokens").degrees_of_freedom == 6
    assert verdict.headline.scale("3.2M, 3.2M tokens").noise_sd is None


def test_two_datasets_scale_by_scale_in_words() -> None:
    rows = [*THREE_SEEDS, ("a", "small", 0.80, 0.3), ("a", "large", 0.9, 0.1), ("b", "large", 0.7, 0.3)]
    verdict = compare(runs([*rows, ("a", "large", 0.88, 0.3)]), metric="accuracy", bootstraps=100)
    small, large = verdict.by_scale("a", "b").splitlines()
    assert small.startswith("small  a .600 to .800 (4 runs, 3 matched); b .500 to .520 (3 runs); a ahead by .100 [")
    assert small.endswith("decided")
    assert large == "large  a .880 to .900 (2 runs, 1 matched); b .700; a ahead by .180, undecided: no run repeated"


def test_many_datasets_keep_neighbours_and_the_best_against_each() -> None:
    found = scale([(f"d{i:03}", "small", 0.9 - 0.001 * i, 0.1) for i in range(100)])
    assert len(found.pairs) == 99 + 98
    assert found.pair("d000", "d099").difference == pytest.approx(0.099)
    with pytest.raises(KeyError):
        found.pair("d050", "d099")


def test_of_many_equal_datasets_the_best_and_the_worst_are_not_told_apart() -> None:
    """80 equal datasets with two seeds each: the pairs that are kept are picked by the order, so all 3,160 count. Some
    pair is decided in at most 5% of 60 worlds (seed 0); in 1 of them; counting only the 157 pairs kept, in 11.
    """
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        rows = [(f"d{i}", "small", float(v), 0.1) for i in range(80) for v in 0.5 + 0.01 * rng.standard_normal(2)]
        found = scale(rows)
        assert len(found.pairs) == 79 + 78
        wrong += any(p.decided for p in found.pairs)
    assert wrong <= 7  # 3 expected at most
