"""DCLM's table read with the guard on: what is confounded, what is decided, what small scales say of large ones.

133 joined runs (shipped with the package) and the 416-run database (beside the project; skipped where absent).
"""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from curate.comparator import Verdict, compare
from curate.comparator.examples import load_example

PUBLISHED = Path(__file__).resolve().parents[3] / ".." / "shared/data/published"
DATABASE = PUBLISHED / "dclm/assets/DCLM_model_database.csv"
JOINED = PUBLISHED / "derived/dclm_runs_joined.csv"
FINEWEB_EDU = "fineweb_edu_sample_350BT"
OH_ELI5 = (
    "rw_v2_cc_v3_f0.15_resiliparse_fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_0.1"  # DCLM-baseline
)


@pytest.fixture(scope="module")
def core_v2() -> Verdict:
    example = load_example("dclm")
    return compare(example.table, metric="core_v2", at=example.at, bootstraps=300)


@pytest.fixture(scope="module")
def core_v1() -> Verdict:
    return compare(load_example("dclm").table, metric="core_v1", bootstraps=300)


def test_the_verdict_says_what_it_left_out(core_v2: Verdict) -> None:
    assert str(core_v2).startswith("! severe: Measured on fewer than 5 budgets")
    assert len(core_v2.datasets) >= 10
    left = {e.reason.partition(":")[0].partition(" not as")[0]: e for e in core_v2.excluded}
    matched = next(e for e in core_v2.excluded if "not as most datasets have it" in e.reason)
    assert "learning_rate" in matched.reason
    assert "weight_decay" in matched.reason
    assert OH_ELI5 in matched.datasets
    assert "too few scales for a trend" in left
    total = len(core_v2.points) + sum(e.rows for e in core_v2.excluded)
    assert total == 133  # every run is compared or counted


def test_confounds_at_7b_1x_are_flagged(core_v2: Verdict) -> None:
    scale = core_v2.headline.scale("7B-1x")
    assert {d.name for d in scale.differs} >= {"learning_rate", "weight_decay"}
    assert any(
        c.name == "confounded_scale" and c.message.startswith("7B-1x") and "learning_rate" in c.message
        for c in core_v2.checks
    )
    clean = core_v2.headline.scale("400M-1x")
    assert clean.differs == ()
    assert not any(p.confounded for p in clean.pairs)


def test_fineweb_edu_and_oh_eli5_are_level_at_400m_and_confounded_at_7b_2x(core_v1: Verdict) -> None:
    """.183 and .180 at 400M-1x, one run each; 7 points apart at 7B-2x, where learning rate and decay differ too."""
    result = core_v1.headline
    small = result.scale("400M-1x")
    assert [round(small.runs(d).mean, 3) for d in (FINEWEB_EDU, OH_ELI5)] == [0.183, 0.180]
    assert not small.pair(FINEWEB_EDU, OH_ELI5).decided
    large = result.scale("7B-2x")
    assert max(large.runs(OH_ELI5).values) - large.runs(FINEWEB_EDU).mean == pytest.approx(0.07, abs=0.002)
    pair = large.pair(FINEWEB_EDU, OH_ELI5)
    assert (pair.better, pair.decided) == (OH_ELI5, False)
    assert {"learning_rate", "weight_decay"} <= set(pair.confounded)
    assert pair.runs_better == 3


def test_all_five_runs_of_oh_eli5_at_7b_1x_are_shown(core_v1: Verdict) -> None:
    runs = core_v1.headline.scale("7B-1x").runs(OH_ELI5)
    assert (len(runs.values), sum(runs.matched)) == (5, 1)
    assert (round(min(runs.values), 3), round(max(runs.values), 3)) == (0.410, 0.448)
    words = core_v1.by_scale(FINEWEB_EDU, OH_ELI5)
    assert "only rw_v2_cc" in words.splitlines()[-1]
    assert words.splitlines()[-1].endswith(": 7B-1x")
    assert "confounded by learning_rate, weight_decay" in words
    assert "400M-1x" in words.splitlines()[0]
    assert "undecided: no run repeated" in words.splitlines()[0]


@pytest.mark.parametrize("runs", ["matched", "all averaged"])
def test_rank_agreement_of_400m_with_7b_comes_with_its_interval_and_n(core_v2: Verdict, runs: str) -> None:
    (found,) = (a for a in core_v2.headline.agreement if (a.small, a.large, a.runs) == ("400M-1x", "7B-1x", runs))
    scales = [core_v2.headline.scale(name) for name in (found.small, found.large)]
    if runs == "matched":
        values = [[s.runs(d).mean for d in found.datasets] for s in scales]
        assert all(any(s.runs(d).matched) for s in scales for d in found.datasets)
    else:
        values = [[float(np.mean(s.runs(d).values)) for d in found.datasets] for s in scales]
    assert found.n == 11
    assert found.pairs == 55
    assert found.kendall.value == pytest.approx(stats.kendalltau(*values).statistic)
    assert 0.5 < found.decision_accuracy.low < found.decision_accuracy.value < found.decision_accuracy.high < 1.001
    assert "11 datasets" in found.note
    assert "rough" in found.note


@pytest.mark.parametrize(
    ("small", "large", "agree", "pairs"),
    [("400M-1x", "7B-1x", 47, 55), ("400M-1x", "1B-1x", 44, 66), ("1B-1x", "7B-1x", 84, 105)],
)
def test_rank_agreement_is_what_counting_in_the_csv_gives(
    core_v2: Verdict, small: str, large: str, agree: int, pairs: int
) -> None:
    """All runs of a dataset averaged, no ties: pairs in the same order, counted here from the joined table itself."""
    if not JOINED.exists():
        pytest.skip("published runs are not beside the project (../shared/data/published)")
    values: dict[str, dict[str, list[float]]] = {}
    with JOINED.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            values.setdefault(row["scale"], {}).setdefault(row["dataset"], []).append(float(row["core2"]))
    means = {scale: {d: float(np.mean(v)) for d, v in of.items()} for scale, of in values.items()}
    couples = list(combinations(sorted(set(means[small]) & set(means[large])), 2))
    same = sum((means[small][a] - means[small][b]) * (means[large][a] - means[large][b]) > 0 for a, b in couples)
    assert (same, len(couples)) == (agree, pairs)
    (found,) = (a for a in core_v2.headline.agreement if (a.small, a.large, a.runs) == (small, large, "all averaged"))
    assert found.decision_accuracy.value == pytest.approx(same / len(couples))


def test_scale_by_scale_nothing_without_a_repeated_run_is_decided(core_v2: Verdict) -> None:
    for scale in core_v2.headline.scales:
        assert scale.noise_sd is not None or not any(p.decided for p in scale.pairs)
        assert not any(p.decided and p.confounded for p in scale.pairs)


def test_tasks_weigh_by_signal_and_near_chance_ones_nothing() -> None:
    example = load_example("dclm")
    verdict = compare(example.table, metric="composite:accuracy", at=example.at, bootstraps=200)
    assert verdict.composite is not None
    weights = {t.name: t for t in verdict.composite.tasks}
    assert weights["accuracy/agi_eval_lsat_ar"].near_chance
    assert weights["accuracy/agi_eval_lsat_ar"].weight == 0
    assert weights["accuracy/hellaswag"].weight > 0
    assert sum(t.weight for t in verdict.composite.tasks) == pytest.approx(1)
    assert verdict.tasks_heatmap is not None
    assert len(verdict.tasks_heatmap.cells) == len(verdict.tasks_heatmap.tasks) * len(verdict.datasets)


def database_rows() -> list[dict[str, str]]:
    if not DATABASE.exists():
        pytest.skip("DCLM's model database is not beside the project")
    with DATABASE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_copies_and_the_broken_run_of_the_416_run_database_are_found() -> None:
    """As a table made without the adapter's care: rows 65 and 66 are one evaluation, one 1B run answers nothing."""
    kept = [
        {
            "run_id": f"{row['model_uuid']}-{i}",
            "dataset": row["Dataset"],
            "params": float(row["params"]),
            "tokens": float(row["tokens"]),
            "metric": metric,
            "value": float(row[metric]),
            "lower_is_better": False,
            "chance": 0.0 if metric == "Core" else 0.25,
        }
        for i, row in enumerate(database_rows(), start=1)
        for metric in ("Core", "hellaswag")
        if row[metric] and row["hellaswag"] and row["Dataset"] and row["params"] == "1439795200"
    ]
    verdict = compare(pa.Table.from_pylist(kept), metric="Core", bootstraps=100)
    checks = {c.name: c.message for c in verdict.checks}
    assert "2 runs are copies of" in checks["copied_run"]
    assert "-66 = " in checks["copied_run"]  # of row 65, under another uuid
    assert "-139 = " in checks["copied_run"]  # of row 130, the same evaluation twice
    assert "54491bbd-766d-4331-b49f-b65a72988337" in checks["broken_run"]
    assert "0.0107, median 0.278" in checks["broken_run"]


def test_the_database_through_the_adapter_is_compared_with_its_notes() -> None:
    from curate.comparator import read_runs

    database_rows()
    verdict = compare(read_runs([DATABASE]), metric="core_v1", bootstraps=100)
    notes = " ".join(verdict.notes)
    assert "broken" in notes
    assert "copy" in notes
    assert len({r.dataset for s in verdict.headline.scales for r in s.datasets}) > 150
    assert any(c.name == "confounded_scale" and c.message.startswith("7B-1x") for c in verdict.checks)
