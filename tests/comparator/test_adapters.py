"""Results of other tools: what their files say is read as they mean it, what they do not say is asked for."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.comparator.adapters import read_runs
from curate.comparator.adapters.flops import CONVENTIONS, kaplan, palm, six_nd, to_six_nd
from curate.comparator.adapters.open_clip import seen
from curate.comparator.tables import notes_of
from curate.errors import MeasurementError
from curate.measurements import SCHEMA, read_measurements, write_measurements

PUBLISHED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "published"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="published runs are not at hand")


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def rows_of(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def only(table: pa.Table, metric: str) -> dict[str, Any]:
    found = table.filter(pc.equal(table["metric"], metric)).to_pylist()
    assert len(found) == 1, found
    return dict(found[0])


# ---- any table, by a column map -------------------------------------------------------------------------------------


def test_a_long_table_with_other_names_is_read_by_a_column_map(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "r.csv",
        [
            ["corpus", "task", "score", "n", "d", "lr"],
            ["a", "loss", 3.1, "1.4B", 1e10, 3e-3],
            ["b", "loss", 3.0, "411M", 8e9, 3e-4],
        ],
    )
    table = read_runs(
        path,
        columns={"dataset": "corpus", "metric": "task", "value": "score", "params": "n", "tokens": "d"}
        | {"hyperparameters.learning_rate": "lr"},
        constants={"evaluation": "v2", "hyperparameters.schedule": "cosine"},
    )
    assert rows_of(table, "dataset", "params", "evaluation") == [("a", 1.4e9, "v2"), ("b", 4.11e8, "v2")]
    assert json.loads(table["hyperparameters"][1].as_py()) == {"learning_rate": 3e-4, "schedule": "cosine"}
    assert any("1.4B" in note for note in notes_of(table))


def test_a_wide_table_gives_one_measurement_a_cell_and_percent_becomes_shares(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "r.csv",
        [["dataset", "params", "tokens", "val_loss", "top1"], ["a", 1e8, 2e9, 3.1, 41.5], ["b", 1e8, 2e9, 3.0, ""]],
    )
    table = read_runs(path, columns={"metric:loss": "val_loss", "percent:accuracy": "top1"})
    assert rows_of(table, "dataset", "metric", "value") == [
        ("a", "loss", 3.1),
        ("a", "accuracy", 0.415),
        ("b", "loss", 3.0),
    ]
    assert any("accuracy (1)" in note for note in notes_of(table))


def test_a_table_without_values_is_told_how_to_name_its_metrics(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [["dataset", "params", "tokens", "val_loss"], ["a", 1e8, 2e9, 3.1]])
    with pytest.raises(MeasurementError, match="metric:NAME=val_loss"):
        read_runs(path)


@pytest.mark.parametrize(
    ("columns", "constants", "message"),
    [
        ({"data_set": "d"}, None, "'data_set' is no column of the measurements"),
        (None, {"dataste": "c4"}, "'dataste' is no column of the measurements"),
        ({"dataset": "corpus"}, None, "no column 'corpus'"),
        ({"metric:loss": "loss_val"}, None, "no column 'loss_val'"),
    ],
)
def test_a_wrong_map_is_refused_by_name(
    tmp_path: Path, columns: dict[str, str] | None, constants: dict[str, str] | None, message: str
) -> None:
    path = write_csv(tmp_path / "r.csv", [["dataset", "params", "tokens", "val_loss"], ["a", 1e8, 2e9, 3.1]])
    with pytest.raises(MeasurementError, match=message):
        read_runs(path, columns=columns, constants=constants)


def test_several_files_are_one_table_and_errors_name_the_right_one(tmp_path: Path) -> None:
    one = write_csv(
        tmp_path / "a.csv", [["run_id", "dataset", "metric", "value", "flops"], ["r1", "a", "loss", 3, 1e18]]
    )
    two = write_csv(
        tmp_path / "b.csv", [["run_id", "dataset", "metric", "value", "flops"], ["r2", "b", "loss", 3, 1e18]]
    )
    assert read_runs([one, two])["dataset"].to_pylist() == ["a", "b"]
    two.write_text(two.read_text() + "r3,b,loss,-1,1e18\n")
    with pytest.raises(MeasurementError, match=r"b\.csv, row 2: value -1"):
        read_runs([one, two])
    two.write_text("run_id,dataset,metric,value,flops\nr1,a,loss,3,1e18\n")
    with pytest.raises(
        MeasurementError, match=r"b\.csv, row 1: measures the same run, budget and metric as .*a\.csv, row 1"
    ):
        read_runs([one, two])
    with pytest.raises(MeasurementError, match=r"a\.csv: was given twice"):
        read_runs([one, one])


def test_our_own_measurements_come_back_unchanged_and_old_ones_are_read(tmp_path: Path) -> None:
    table = read_runs(
        write_csv(tmp_path / "a.csv", [["dataset", "metric", "value", "params", "tokens"], ["a", "loss", 3, 1e8, 2e9]])
    )
    write_measurements(table, tmp_path / "new.parquet")
    assert read_runs(tmp_path / "new.parquet").equals(table)
    old = table.drop_columns(["chance", "tokenizer", "token_unit"])
    pq.write_table(old, tmp_path / "old.parquet")
    assert read_runs(tmp_path / "old.parquet").equals(table)
    assert set(read_measurements(tmp_path / "old.parquet").column_names) == set(SCHEMA.names)
    write_measurements(old, tmp_path / "again.parquet")
    assert pq.read_schema(tmp_path / "again.parquet").names == SCHEMA.names


# ---- DCLM -----------------------------------------------------------------------------------------------------------


@needs_published
def test_exp_data_says_run_by_run_what_it_contradicts_or_lacks() -> None:
    table = read_runs(PUBLISHED / "dclm" / "exp_data")
    notes = notes_of(table)

    def said(*words: str) -> int:
        return sum(all(word in note for word in words) for note in notes)

    assert len(set(table["run_id"].to_pylist())) == 133
    assert said("goes on from", "count this phase only") == 3
    assert said("says failed", "mult=2-seed=124") == 1
    assert said("seed 124 from its command line") == 5
    assert said("lr is 0.002 in its JSON, 0.001 on its command line") == 1
    assert said("names no dataset") == 1
    assert said("missing tasks", "extended_v1, extended_v2 left out") == 7
    assert said("23 evaluations name no model") == 1


@needs_published
def test_the_model_databases_traps_are_found_and_named_by_row() -> None:
    table = read_runs(PUBLISHED / "dclm" / "assets" / "DCLM_model_database.csv")
    notes = notes_of(table)

    def note_on(start: str) -> str:
        found = [note for note in notes if note.startswith(start)]
        assert len(found) == 1, (start, found)
        return found[0]

    assert "the same evaluation again; left out, row 130 stays" in note_on("rows 139 ")
    assert "row 354 stays" in note_on("rows 316, 318, 319, 320, 322, 323, 342, 343 ")
    assert "copy" in note_on("row 66 ") and "row 65" in note_on("row 66 ")
    assert "the model is at chance" in note_on("row 254 ")
    assert "its evaluation failed" in note_on("row 308 ")
    assert "is 'rpj'" in note_on("row 156:")
    assert note_on("extended_v1 of 292 rows left out")
    assert note_on("core_v1 of 87 rows is empty")
    assert note_on("9 rows have another tokenizer but the params of the GPT-NeoX vocabulary")
    core = table.filter(pc.equal(table["metric"], "core_v1"))
    assert core.num_rows == 317 and min(core["value"].to_pylist()) > 0.12
    assert len(set(table["run_id"].to_pylist())) == 416 - 1 - 8 - 1 - 2


@needs_published
def test_the_database_and_exp_data_agree_on_core_v1_where_they_share_runs() -> None:
    def core(path: Path) -> dict[str, float]:
        table = read_runs(path)
        table = table.filter(pc.equal(table["metric"], "core_v1"))
        return dict(rows_of(table, "run_id", "value"))

    old, new = core(PUBLISHED / "dclm/assets/DCLM_model_database.csv"), core(PUBLISHED / "dclm/exp_data")
    shared = set(old) & set(new)
    assert len(shared) == 115
    assert max(abs(old[run] - new[run]) for run in shared) < 1e-9


def test_one_evaluation_of_dclm_alone_asks_for_the_folder(tmp_path: Path) -> None:
    path = write_json(tmp_path / "e.json", {"eval_metrics": {"icl": {}}, "model_uuid": "x"})
    with pytest.raises(MeasurementError, match="give the exp_data folder"):
        read_runs(path)


# ---- lm-evaluation-harness ------------------------------------------------------------------------------------------

NEW = {
    "results": {
        "arc_easy": {"alias": "arc_easy", "acc,none": 0.62, "acc_stderr,none": 0.0099}
        | {"acc_norm,none": 0.58, "acc_norm_stderr,none": 0.0101},
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.01}
        | {"exact_match,flexible-extract": 0.3, "exact_match_stderr,flexible-extract": 0.01},
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 21.5, "word_perplexity_stderr,none": "N/A"},
        "mmlu": {"alias": "mmlu", "acc,none": 0.31, "acc_stderr,none": 0.004},
        "mmlu_stem": {"alias": " - stem", "acc,none": 0.30, "acc_stderr,none": 0.008},
        "mmlu_anatomy": {"alias": "  - anatomy", "acc,none": 0.33, "acc_stderr,none": 0.04},
    },
    "groups": {"mmlu": {"acc,none": 0.31, "alias": "mmlu"}},
    "group_subtasks": {"mmlu": ["mmlu_stem"], "mmlu_stem": ["mmlu_anatomy"], "arc_easy": []},
    "configs": {},
    "versions": {"arc_easy": 1.0, "gsm8k": 3.0, "mmlu": 2},
    "n-shot": {"arc_easy": 25, "gsm8k": 5, "mmlu": 5},
    "higher_is_better": {"arc_easy": {"acc": True, "acc_norm": True}, "wikitext": {"word_perplexity": False}},
    "config": {"model": "hf", "model_args": "pretrained=org/model-1b,dtype=bfloat16", "limit": None}
    | {"model_num_parameters": 1_000_000_000},
    "model_name": "org/model-1b",
}
OLD = {
    "results": {
        "arc_easy": {"acc": 0.62, "acc_stderr": 0.0099, "acc_norm": 0.58, "acc_norm_stderr": 0.0101},
        "lambada_openai": {"ppl": 13.0, "ppl_stderr": 0.6, "acc": 0.5, "acc_stderr": 0.01},
        "hendrycksTest-anatomy": {"acc": 0.26, "acc_stderr": 0.03},
    },
    "versions": {"arc_easy": 0, "lambada_openai": 0, "hendrycksTest-anatomy": 1},
    "config": {"model": "hf-causal", "model_args": "pretrained=org/old", "num_fewshot": 0, "limit": None},
}


def test_lm_eval_0_4_gives_metrics_by_task_with_error_chance_direction_and_shots(tmp_path: Path) -> None:
    path = write_json(tmp_path / "results_2024-11-15.json", NEW)
    table = read_runs(path, constants={"dataset": "c4", "tokens": "20B"})
    arc = only(table, "acc_norm/arc_easy")
    assert (arc["value"], arc["error"], arc["chance"], arc["lower_is_better"]) == (0.58, 0.0101, 0.25, False)
    assert arc["evaluation"] == "lm_eval, version 1.0, 25-shot"
    assert (arc["params"], arc["flops"], arc["run_id"]) == (1e9, 6 * 1e9 * 20e9, "org/model-1b")
    perplexity = only(table, "word_perplexity/wikitext")
    assert (perplexity["lower_is_better"], perplexity["error"], perplexity["chance"]) == (True, None, None)
    assert only(table, "exact_match[strict-match]/gsm8k")["value"] == 0.25
    assert only(table, "exact_match[flexible-extract]/gsm8k")["chance"] == 0.0


def test_subtasks_of_a_group_are_left_to_the_group_and_counted(tmp_path: Path) -> None:
    table = read_runs(write_json(tmp_path / "results.json", NEW), constants={"dataset": "c4", "tokens": "20B"})
    assert only(table, "acc/mmlu")["chance"] == 0.25
    assert not [name for name in table["metric"].to_pylist() if "stem" in name or "anatomy" in name]
    assert any("2 scores of subtasks are in their group mmlu" in note for note in notes_of(table))


def test_groups_that_hold_each_other_do_not_hang(tmp_path: Path) -> None:
    scores = {"acc,none": 0.3, "acc_stderr,none": 0.01}
    content = {"results": {"a": scores, "b": scores}, "group_subtasks": {"a": ["b", "a"], "b": ["a"]}, "config": {}}
    with pytest.raises(MeasurementError, match="no metric with a number"):
        read_runs(write_json(tmp_path / "results.json", content), constants={"dataset": "c4", "flops": "1e18"})


def test_lm_eval_0_3_is_read_with_directions_known_from_the_metric(tmp_path: Path) -> None:
    table = read_runs(
        write_json(tmp_path / "old.json", OLD), constants={"dataset": "pile", "params": "160M", "tokens": "300B"}
    )
    assert only(table, "ppl/lambada_openai")["lower_is_better"] is True
    assert only(table, "acc/lambada_openai")["chance"] == 0.0
    assert only(table, "acc/hendrycksTest-anatomy")["chance"] == 0.25
    assert only(table, "acc/arc_easy")["evaluation"] == "lm_eval, version 0, 0-shot"
    assert only(table, "acc/arc_easy")["run_id"] == "org/old"


def test_the_leaderboards_task_names_are_understood(tmp_path: Path) -> None:
    content = {
        "results": {"harness|arc:challenge|25": {"acc_norm": 0.5, "acc_norm_stderr": 0.01}},
        "config_general": {"model_name": "m"},
    }
    row = only(
        read_runs(write_json(tmp_path / "r.json", content), constants={"dataset": "a", "flops": "1e20"}),
        "acc_norm/arc_challenge",
    )
    assert (row["evaluation"], row["chance"], row["run_id"]) == ("lm_eval, 25-shot", 0.25, "m")


def test_a_table_of_runs_says_what_each_model_was(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(tmp_path / "evals" / name / "results_x.json", NEW | {"model_name": f"org/{name}"})
    runs = write_csv(
        tmp_path / "runs.csv",
        [
            ["run", "dataset", "tokens", "seed", "hyperparameters.lr"],
            ["one", "c4", "20B", 1, 3e-3],
            ["org/two", "pile", 4e10, 2, 3e-3],
        ],
    )
    table = read_runs(tmp_path / "evals", constants={"runs_table": str(runs)})
    found = table.filter(pc.equal(table["metric"], "acc/mmlu"))
    assert rows_of(found, "dataset", "tokens", "seed", "run_id") == [
        ("c4", 2e10, 1, "org/one"),
        ("pile", 4e10, 2, "org/two"),
    ]
    assert json.loads(found["hyperparameters"][0].as_py()) == {"lr": "0.003"}


def test_what_a_model_was_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    path = write_json(tmp_path / "results.json", NEW)
    with pytest.raises(MeasurementError, match=r"results\.json, results: nothing says which dataset 'org/model-1b'"):
        read_runs(path)
    runs = write_csv(tmp_path / "runs.csv", [["run", "dataset"], ["other", "c4"]])
    with pytest.raises(MeasurementError, match=r"no row of .*runs\.csv has run = 'org/model-1b'"):
        read_runs(path, constants={"runs_table": str(runs)})
    runs = write_csv(tmp_path / "runs.csv", [["run", "dataset", "params"], ["org/model-1b", "c4", 2e9]])
    with pytest.raises(MeasurementError, match=r"params is 1000000000 in the results, 2000000000\.0 in"):
        read_runs(path, constants={"runs_table": str(runs)})
    with pytest.raises(MeasurementError, match="flops is missing, and so is params or tokens"):
        read_runs(path, constants={"dataset": "c4"})


def test_two_evaluations_of_one_model_are_refused_with_both_files(tmp_path: Path) -> None:
    for name in ("results_1.json", "results_2.json"):
        write_json(tmp_path / name, NEW)
    with pytest.raises(MeasurementError, match=r"results_2\.json.*results_1\.json"):
        read_runs(tmp_path, constants={"dataset": "c4", "tokens": "20B"})


# ---- open_clip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("laion2b_s34b_b79k", ("laion2b", 34e9, 79e3, "")),
        ("commonpool_m_clip_s128m_b4k", ("commonpool_clip", 128e6, 4e3, "")),
        ("commonpool_xl_s13b_b90k", ("commonpool_no_filter", 13e9, 90e3, "")),
        ("datacomp_l_s1b_b8k", ("datacomp", 1e9, 8e3, "")),
        ("laion2b_s34b_b82k_augreg_soup", ("laion2b", 34e9, 82e3, "_augreg_soup")),
        ("openai", (None, None, None, "")),
    ],
)
def test_an_open_clip_tag_says_dataset_samples_and_batch(tag: str, expected: tuple[object, ...]) -> None:
    assert seen(tag) == expected


@needs_published
def test_open_clip_results_count_samples_and_name_what_cannot_be_placed() -> None:
    table = read_runs(PUBLISHED / "open_clip" / "openclip_results.csv")
    assert set(table["token_unit"].to_pylist()) == {"samples"}
    assert any(note.startswith("60 models left out") for note in notes_of(table))
    average = table.filter(pc.equal(table["metric"], "average"))
    assert average.num_rows == 61
    pool = average.filter(
        pc.or_(pc.starts_with(average["dataset"], "commonpool"), pc.equal(average["dataset"], "datacomp"))
    )
    assert pool.num_rows == 25 + 3  # the filtering track, and three more architectures on DataComp's best pool
    row = next(r for r in average.to_pylist() if r["run_id"] == "ViT-B-32/laion2b_s34b_b79k")
    assert row["flops"] == pytest.approx(3 * 14.78e9 * 34e9)
    imagenet = table.filter(pc.equal(table["metric"], "zero_shot/ImageNet 1k"))
    assert set(imagenet["chance"].to_pylist()) == {0.001}


# ---- Weights & Biases -----------------------------------------------------------------------------------------------


def test_a_wandb_chart_gives_the_last_value_of_each_run(tmp_path: Path) -> None:
    header = ["Step"] + [
        f"{run} - eval/loss{band}" for run in ("brisk-pond-1", "a - b") for band in ("", "__MIN", "__MAX")
    ]
    path = write_csv(
        tmp_path / "chart.csv", [header, [0, 5, 5, 5, 6, 6, 6], [10, 4, 4, 4, "", "", ""], [20, 3, 3, 3, 5.5, 5, 6]]
    )
    runs = write_csv(
        tmp_path / "runs.csv", [["run", "dataset", "flops"], ["brisk-pond-1", "c4", 1e18], ["a - b", "pile", 1e18]]
    )
    table = read_runs(path, constants={"runs_table": str(runs)})
    assert rows_of(table, "dataset", "metric", "value") == [("c4", "eval/loss", 3.0), ("pile", "eval/loss", 5.5)]
    assert any("3 earlier values" in note for note in notes_of(table))


def test_a_wandb_table_of_runs_takes_finished_runs_and_names_the_others(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "wandb_export.csv",
        [
            ["Name", "State", "User", "Tags", "Created", "Runtime", "dataset", "n_params", "lr", "tokens", "val/loss"],
            ["r1", "finished", "me", "", "2024", 100, "c4", 1e8, 3e-3, 2e9, 3.1],
            ["r2", "crashed", "me", "", "2024", 100, "pile", 1e8, 3e-3, 2e9, 7.0],
            ["r3", "finished", "me", "", "2024", 100, "pile", 1e8, 3e-4, 2e9, 3.2],
        ],
    )
    table = read_runs(path, columns={"params": "n_params", "hyperparameters.lr": "lr", "metric:loss": "val/loss"})
    assert rows_of(table, "run_id", "dataset", "value", "flops") == [
        ("r1", "c4", 3.1, 1.2e18),
        ("r3", "pile", 3.2, 1.2e18),
    ]
    assert json.loads(table["hyperparameters"][1].as_py()) == {"lr": "0.0003"}
    assert any("r2 (crashed)" in note for note in notes_of(table))


def test_a_wandb_history_and_an_api_dump_say_the_same(tmp_path: Path) -> None:
    history = [
        {"_step": s, "_runtime": 1.0, "eval/loss": 5.0 - s, "lr": 0.1, "tokens": 1e9 * (s + 1)} for s in range(3)
    ]
    lines = tmp_path / "run-7.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in history))
    config, summary = {"params": {"value": 1e8, "desc": None}}, {"eval/loss": 3.0, "tokens": 3e9, "_step": 2}
    dump = [{"name": "run-7", "state": "finished", "config": config, "summary": summary}]
    one = read_runs(lines, constants={"dataset": "c4", "params": "100M"})
    two = read_runs(write_json(tmp_path / "runs.json", dump), constants={"dataset": "c4"})
    columns = ("run_id", "dataset", "metric", "value", "params", "tokens", "flops")
    assert rows_of(one, *columns) == rows_of(two, *columns) == [("run-7", "c4", "eval/loss", 3.0, 1e8, 3e9, 1.8e18)]


def test_logged_scalars_without_an_evaluation_are_listed(tmp_path: Path) -> None:
    path = write_json(tmp_path / "h.json", [{"_step": 0, "train/loss": 3.0, "grad_norm": 1.0}])
    with pytest.raises(MeasurementError, match=r"no scalar is clearly an evaluation.*grad_norm, train/loss"):
        read_runs(path, constants={"dataset": "c4", "flops": "1e18"})


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


def test_tensorboards_csv_and_json_of_one_run_are_put_together(tmp_path: Path) -> None:
    one = write_csv(
        tmp_path / "run-big_c4-tag-eval_loss.csv", [["Wall time", "Step", "Value"], [1.0, 10, 3.5], [2.0, 20, 3.25]]
    )
    two = write_json(tmp_path / "run-big_c4-tag-eval_accuracy.json", [[1.0, 10, 0.3], [2.0, 20, 0.35]])
    table = read_runs([one, two], constants={"dataset": "c4", "params": "1B", "tokens": "20B"})
    assert sorted(rows_of(table, "run_id", "metric", "value")) == [
        ("big_c4", "eval_accuracy", 0.35),
        ("big_c4", "eval_loss", 3.25),
    ]
    named = read_runs([one], columns={"metric:loss": "eval/loss"}, constants={"dataset": "c4", "flops": "1e18"})
    assert rows_of(named, "metric", "value") == [("loss", 3.25)]


def test_a_scalar_file_without_run_and_tag_in_its_name_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "loss.csv", [["Wall time", "Step", "Value"], [1.0, 10, 3.5]])
    with pytest.raises(MeasurementError, match=r"run-<run>-tag-<tag>\.csv"):
        read_runs(path, constants={"dataset": "c4", "flops": "1e18"})


def test_event_files_are_read_run_by_run(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    summary_pb2 = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    for run, end in (("c4", 3.0), ("pile", 3.5)):
        log = writer.EventFileWriter(str(tmp_path / run))
        for step in range(5):
            value = summary_pb2.Summary.Value(tag="val/loss", simple_value=end + 4 - step)
            log.add_event(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[value])))
        log.close()
    runs = write_csv(tmp_path / "runs.csv", [["run", "dataset", "flops"], ["c4", "C4", 1e18], ["pile", "Pile", 1e18]])
    table = read_runs(tmp_path, constants={"runs_table": str(runs)})
    assert rows_of(table, "dataset", "metric", "value") == [("C4", "val/loss", 3.0), ("Pile", "val/loss", 3.5)]


# ---- what is none of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"results": 3}', "[[1, 2], [3, 4]]", '"text"', "{not json", "", "[" * 100_000]
)
def test_json_of_no_known_tool_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(MeasurementError, match=r"x\.json") as caught:
        read_runs(path)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["", "N/A", "acc,none", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["acc,none", "acc", "value", "name", "params", "limit", "_step", "t"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_malformed_exports_are_read_or_refused_in_one_sentence(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in the fields of a results file, a run or a history: no other error than ours."""
    fields = {
        "lm_eval": ["results", "config", "versions", "n-shot", "higher_is_better", "groups", "group_subtasks"],
        "runs": ["config", "summary", "name", "state"],
        "history": ["_step", "eval/loss", "params", "hyperparameters"],
    }
    kind = data.draw(st.sampled_from(sorted(fields)))
    content: Any = {name: data.draw(JSON) for name in fields[kind]}
    if kind == "lm_eval":
        scores = {"acc,none": 0.3, "acc_stderr,none": data.draw(JSON)}
        content["results"] = {"arc_easy": scores, "t": data.draw(JSON)}
    path = write_json(tmp_path / "x.json", content if kind == "lm_eval" else [content, content])
    try:
        read_runs(path, constants={"dataset": "a", "flops": "1e18"})
    except MeasurementError as error:
        assert "x.json" in str(error) and "\n" not in str(error)


@needs_published
@pytest.mark.parametrize("spoiled", ["hyperparameters", "name", "uuid", "open_lm_args", "dataset_name"])
def test_a_damaged_model_of_exp_data_is_named_or_survived(tmp_path: Path, spoiled: str) -> None:
    for folder in ("models", "evals"):
        (tmp_path / folder).mkdir()
    source = next((PUBLISHED / "dclm/exp_data/models").glob("fineweb_edu_sample_350BT-d=1024*.json"))
    model = json.loads(source.read_text())
    evaluation = next((PUBLISHED / "dclm/exp_data/evals").glob(f"evaluation_{source.stem}*.json"))
    write_json(tmp_path / "models" / source.name, {k: v for k, v in model.items() if k != spoiled})
    (tmp_path / "evals" / "e.json").write_text(evaluation.read_text())
    if spoiled in ("hyperparameters", "uuid"):
        with pytest.raises(MeasurementError, match=source.stem[:20]):
            read_runs(tmp_path)
    else:
        table = read_runs(tmp_path)
        assert len(set(table["run_id"].to_pylist())) == 1


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="this folder holds no results"):
        read_runs(tmp_path)
    with pytest.raises(MeasurementError, match="no such file"):
        read_runs(tmp_path / "no.csv")
    with pytest.raises(MeasurementError, match="no format 'xls'"):
        read_runs(tmp_path, format="xls")
    with pytest.raises(MeasurementError, match="No results were given"):
        read_runs([])


# ---- FLOP conventions -----------------------------------------------------------------------------------------------


def test_flop_conventions_agree_with_their_papers_examples() -> None:
    gpt3 = {"layers": 96, "width": 12288, "context": 2048}
    assert six_nd(175e9, 300e9) == pytest.approx(3.15e23)
    assert kaplan(174e9, 300e9, **gpt3) / six_nd(174e9, 300e9) == pytest.approx(1 + 96 * 2048 * 12288 / 174e9)
    assert palm(540e9, 1, layers=118, width=18432, context=2048) / six_nd(540e9, 1) == pytest.approx(1.0165, abs=1e-3)
    assert set(CONVENTIONS) >= {"6ND", "6ND non-embedding", "3 x forward x samples"}


def test_measurements_of_several_conventions_can_be_recounted(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "r.csv",
        [
            ["dataset", "metric", "value", "params", "tokens", "flops", "flops_convention"],
            ["a", "loss", 3, 1e8, 2e9, 1.5e18, "with attention"],
        ],
    )
    table = to_six_nd(read_runs(path))
    assert rows_of(table, "flops", "flops_convention") == [(1.2e18, "6ND")]
    assert any("with attention" in note for note in notes_of(table))
