"""The confound guard: what differs is left out and counted, or pooled and said; nothing silently."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from curate.comparator import compare
from curate.comparator.matching import differing, hyperparameter_settings, most_shared, tuned
from curate.errors import MeasurementError, MismatchError
from tests.comparator.worlds import Source, ladder

THREE = {"full": Source(), "middle": Source(E=1.0), "raw": Source(E=1.2, B=1.4)}


def table(change: Callable[[dict[str, object]], dict[str, object]] | None = None) -> pa.Table:
    whole = ladder(THREE, rng=np.random.default_rng(0))
    rows = whole.to_pylist()
    return pa.Table.from_pylist([r | change(r) for r in rows] if change else rows, schema=whole.schema)


def rate(value: float) -> dict[str, object]:
    return {"hyperparameters": json.dumps({"learning_rate": value})}


def test_a_ladder_may_tune_each_size_for_itself() -> None:
    rates = {"0.12M": 0.01, "0.35M": 0.006, "1M": 0.004, "3.2M": 0.002}
    verdict = compare(table(lambda r: rate(rates[str(r["scale"])])), bootstraps=100)
    assert verdict.excluded == ()
    assert not any(c.severity == "severe" for c in verdict.checks)


def test_runs_of_other_settings_on_a_cell_are_left_out_and_counted() -> None:
    verdict = compare(
        table(lambda r: rate(0.02 if r["dataset"] == "raw" and r["scale"] == "1M" else 0.01)), bootstraps=100
    )
    (out,) = verdict.excluded
    assert (out.rows, out.datasets, out.metric) == (3, ("raw",), "bits_per_byte")
    assert "learning_rate" in out.reason
    assert len(verdict.points) == 54 - 3
    assert verdict.pool == "matched"


def test_everything_is_pooled_on_request_and_called_severe() -> None:
    mixed = table(lambda r: rate(0.02 if r["dataset"] == "raw" and r["scale"] == "1M" else 0.01))
    verdict = compare(mixed, bootstraps=100, pool="all")
    assert (verdict.excluded, len(verdict.points), verdict.pool) == ((), 54, "all")
    assert str(verdict).startswith("! severe: learning_rate differs between datasets on the same cell")
    with pytest.raises(MeasurementError, match="pool is 'some'"):
        compare(mixed, pool="some")  # type: ignore[arg-type]


def test_a_dataset_with_settings_of_its_own_everywhere_stays_severely_confounded() -> None:
    verdict = compare(table(lambda r: rate(0.02 if r["dataset"] == "raw" else 0.01)), bootstraps=100)
    assert "raw" in verdict.datasets
    assert str(verdict).startswith("! severe: learning_rate")


@pytest.mark.parametrize("field", ["procedure", "evaluation", "flops_convention", "tokenizer"])
def test_datasets_that_differ_in_a_field_are_refused_or_pooled_severely(field: str) -> None:
    mixed = table(lambda r: {field: "odd" if r["dataset"] == "raw" else "even"})
    with pytest.raises(MismatchError, match=f'differ in {field}.*pool="all"'):
        compare(mixed, bootstraps=100)
    verdict = compare(mixed, bootstraps=100, pool="all")
    assert [c.name for c in verdict.checks if c.severity == "severe"] == [f"mixed_{field}"]


def test_one_odd_dataset_of_many_is_left_out_and_the_rest_compared() -> None:
    many = ladder({f"d{i}": Source(E=0.8 + 0.1 * i) for i in range(6)}, rng=np.random.default_rng(0))
    rows = [r | {"tokenizer": "odd" if r["dataset"] == "d3" else "even"} for r in many.to_pylist()]
    verdict = compare(pa.Table.from_pylist(rows, schema=many.schema), bootstraps=100)
    assert set(verdict.datasets) == {"d0", "d1", "d2", "d4", "d5"}
    assert [(e.rows, e.datasets) for e in verdict.excluded] == [(18, ("d3",))]
    assert any(c.name == "mixed_tokenizer" for c in verdict.checks)


def test_another_evaluation_on_cells_of_its_own_is_no_setting_of_the_ladder() -> None:
    """Two datasets that share no cell differ in evaluation: each cell has one, and yet it is the dataset's."""
    moved = table(
        lambda r: (
            {"evaluation": "odd", "tokens": 3 * float(str(r["tokens"])), "flops": None}
            if r["dataset"] == "raw"
            else {"evaluation": "even"}
        )
    )
    with pytest.raises(MismatchError, match="differ in evaluation"):
        compare(moved, bootstraps=100)


def test_at_one_scale_alone_datasets_with_seeds_are_compared_and_the_others_shown() -> None:
    sources = {"full": Source(), "raw": Source(E=1.2), "once": Source(E=1.0)}
    whole = ladder(sources, rng=np.random.default_rng(0))
    rows = [
        r
        for r in whole.to_pylist()
        if r["scale"] == "0.12M" and r["tokens"] == 1e6 and (r["dataset"] != "once" or r["seed"] == 0)
    ]
    verdict = compare(pa.Table.from_pylist(rows, schema=whole.schema), bootstraps=100)
    assert verdict.datasets == ("full", "raw")
    assert verdict.pairs[0].comparisons[0].better == "full"
    (scale,) = verdict.headline.scales
    assert {r.dataset for r in scale.datasets} == {"full", "raw", "once"}
    assert [e.datasets for e in verdict.excluded] == [("once",)]


def test_what_only_names_a_run_confounds_nothing() -> None:
    for name in ("seed", "data_seed", "run_name", "steps", "train_steps", "tokens", "model_config", "out_path"):
        assert not tuned(name), name
    for name in ("learning_rate", "weight_decay", "batch_size", "batch_tokens", "tokenizer", "z_loss", "truncation"):
        assert tuned(name), name
    for name in ("warmup_steps", "warmup_tokens", "lr_warmup_iters", "decay_steps", "cooldown_fraction"):
        assert tuned(name), name
    made = table(lambda r: {"hyperparameters": json.dumps({"run_name": r["run_id"], "seed": r["seed"], "lr": 0.1})})
    assert set(hyperparameter_settings(made)) == {(("lr", "0.1"),)}


def test_another_warm_up_on_the_same_cell_is_a_confound_and_not_pooled_silently() -> None:
    """Porian et al. 2024: the length of the warm-up alone moves the exponent of N*(C) by a tenth."""
    made = table(lambda r: {"hyperparameters": json.dumps({"warmup_steps": 5000 if r["dataset"] == "raw" else 500})})
    verdict = compare(made, bootstraps=100)
    assert "warmup_steps" in {d.name for s in verdict.headline.scales for d in s.differs}
    assert any("warmup_steps" in c.message for c in verdict.checks if c.name in ("hyperparameters", "unmatched"))


def test_what_only_some_rows_state_is_a_difference() -> None:
    made = table(lambda r: rate(0.1) if r["dataset"] == "raw" else {})
    assert differing(hyperparameter_settings(made)) == ("learning_rate",)


def test_the_settings_of_most_datasets_win_over_those_of_most_runs() -> None:
    few, many = (("lr", "1"),), (("lr", "2"),)
    assert most_shared(["a", "b", "c", "c", "c", "c"], [few, few, many, many, many, many]) == few
    assert most_shared(["a", "c", "c"], [few, many, many]) == many
