"""The published results that ship: complete, as published, and fit for comparison."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.comparator.adapters import read_runs
from curate.comparator.examples import EXAMPLES, FOLDER, GADRE_17_TASKS, load_example
from curate.comparator.tables import complete, notes_of
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

PUBLISHED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "published"


def values(table: pa.Table, **where: object) -> dict[str, float]:
    for name, value in where.items():
        table = table.filter(pc.equal(table[name], value))
    return dict(zip(table["run_id"].to_pylist(), table["value"].to_pylist(), strict=True))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_checked_table_with_its_source_and_its_caveats(name: str) -> None:
    example = load_example(name)
    assert example.table.column_names == SCHEMA.names
    assert complete(example.table) is example.table
    assert complete(example.table.replace_schema_metadata(None)).num_rows == example.table.num_rows
    assert example.metric in example.table["metric"].to_pylist()
    assert example.notes == notes_of(example.table)
    assert "arXiv" in example.source
    assert set(example.table["token_unit"].to_pylist()) == {"tokens"}
    assert set(example.table["flops_convention"].to_pylist()) == {"6ND"}


def test_an_unknown_example_lists_those_there_are() -> None:
    with pytest.raises(MeasurementError, match="dclm, open-sci-ref, gadre"):
        load_example("pile")


def test_every_file_that_ships_is_named_in_the_notice_with_its_terms() -> None:
    notice = (FOLDER / "NOTICE").read_text()
    for file in FOLDER.glob("*.csv"):
        assert file.name in notice
    for terms in ("MIT", "Apache", "Copyright (c) 2024 mlfoundations", "WITHOUT WARRANTY OF ANY KIND"):
        assert terms in notice


def test_dclm_holds_the_133_runs_with_the_published_scores_of_its_two_best_known_datasets() -> None:
    example = load_example("dclm")
    core = values(example.table, metric="core_v1")
    assert len(core) == len(values(example.table, metric="core_v2")) == 133
    oh = "rw_v2_cc_v3_f0.15_resiliparse_fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_0.1"
    at_400m = [
        values(example.table, metric="core_v1", scale="400M-1x", dataset=name)
        for name in ("fineweb_edu_sample_350BT", oh)
    ]
    assert [round(next(iter(found.values())), 3) for found in at_400m] == [0.183, 0.180]
    five = sorted(values(example.table, metric="core_v1", scale="7B-1x", dataset=oh).values())
    assert len(five) == 5
    assert [round(five[0], 3), round(five[-1], 3)] == [0.410, 0.448]


def test_dclm_keeps_what_sets_runs_apart() -> None:
    table = load_example("dclm").table
    settings = [json.loads(text) for text in table["hyperparameters"].to_pylist()]
    assert {s["learning_rate"] for s in settings} >= {0.0003, 0.003, 0.002, 0.01}
    assert {s.get("variant") for s in settings} >= {"avg=poly_64", "wise-ft average of two models"}
    assert pc.count_distinct(table["tokenizer"]).as_py() == 2
    assert set(table.filter(pc.equal(table["metric"], "core_v2"))["chance"].to_pylist()) == {0.0}
    assert set(table.filter(pc.equal(table["metric"], "mmlu"))["chance"].to_pylist()) == {0.25}


@pytest.mark.skipif(not (PUBLISHED / "dclm").is_dir(), reason="published runs are not at hand")
def test_the_shipped_dclm_table_is_what_the_adapter_reads_from_exp_data() -> None:
    shipped, read = load_example("dclm").table, read_runs(PUBLISHED / "dclm" / "exp_data")
    assert shipped.num_rows == read.num_rows
    for name in SCHEMA.names:
        if name in ("value", "chance"):
            ours, theirs = (np.array(t[name].to_pylist(), dtype=float) for t in (shipped, read))
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        else:
            assert shipped[name].to_pylist() == read[name].to_pylist(), name


def test_open_sci_ref_never_has_a_stable_phase_point_among_its_cooled_down_ones() -> None:
    table = load_example("open-sci-ref").table
    ends = table.filter(table["cooled_down"])
    curves = table.filter(pc.invert(table["cooled_down"]))
    assert ends.num_rows == 8 * 4 + 3
    assert set(ends["tokens"].to_pylist()) == {3e11, 1e12}
    assert max(curves["tokens"].to_pylist()) <= 0.8 * 3e11
    assert ends.num_rows + curves.num_rows + 248 == 35 + 1160
    assert set(curves["dataset"].to_pylist()) == set(ends["dataset"].to_pylist())
    assert any("read off" in note for note in load_example("open-sci-ref").notes)


def test_gadre_has_every_run_loss_and_task_with_the_task_means_explained() -> None:
    table = load_example("gadre").table
    runs = values(table, metric="loss/c4_val")
    assert len(runs) == 104
    errors = {
        name: np.array(list(values(table, metric=name).values()))
        for name in sorted(set(table["metric"].to_pylist()))
        if name.startswith("error")
    }
    assert len(errors) == 48
    seventeen = np.mean([errors[f"error/{task}"] for task in GADRE_17_TASKS], axis=0)
    np.testing.assert_allclose(seventeen, errors["error_17_tasks"], atol=1e-9)
    all_tasks = np.mean([values for name, values in errors.items() if name.startswith("error/")], axis=0)
    np.testing.assert_allclose(all_tasks, errors["error_46_tasks"], atol=1e-9)
    losses = table.filter(pc.starts_with(table["metric"], "loss/"))
    assert min(losses["error"].to_pylist()) > 0
