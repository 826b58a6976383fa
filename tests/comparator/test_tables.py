"""Results from elsewhere: what is missing is filled in and said, what is wrong is one sentence with its row."""

import resource
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.comparator import backtest, compare, read_results, read_runs
from curate.comparator.tables import as_count, complete, notes_of
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

HEADER = "dataset,metric,value,params,tokens"
GOOD = ["a,loss,3.1,1e6,1e7", "a,loss,2.9,2e6,2e7", "b,loss,3.2,1e6,1e7", "b,loss,3.0,2e6,2e7"]
SIZES = (10**7, 3 * 10**7, 10**8, 3 * 10**8, 10**9)


def csv(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "results.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_five_columns_are_enough_and_the_rest_is_filled_in_and_said(tmp_path: Path) -> None:
    table = read_results(csv(tmp_path, GOOD))
    assert table.column_names == SCHEMA.names
    assert table["flops"].to_pylist() == [6e13, 2.4e14, 6e13, 2.4e14]
    assert table["lower_is_better"].to_pylist() == [True] * 4
    notes = " ".join(notes_of(table))
    assert "6 x params x tokens" in notes
    assert "lower is better" in notes
    assert "no run_id" in notes


def test_flops_alone_are_enough(tmp_path: Path) -> None:
    rows = [
        f"{d},loss,{3.5 - 0.2 * i + gap},{10.0**c}"
        for d, gap in (("a", 0.0), ("b", 0.5))
        for i, c in enumerate(range(12, 18))
    ]
    verdict = compare(read_results(csv(tmp_path, rows, "dataset,metric,value,flops")), metric="loss", bootstraps=200)
    assert verdict.ranking.order[0].dataset == "a"
    assert {f.law for f in verdict.fits} == {"power"}


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    from_csv = read_results(csv(tmp_path, GOOD))
    path = tmp_path / "results.parquet"
    pq.write_table(pa.table({c: from_csv[c] for c in HEADER.split(",")}), path)
    assert read_results(path).equals(from_csv)


def test_equal_cells_without_a_seed_become_seeds(tmp_path: Path) -> None:
    table = read_results(csv(tmp_path, [*GOOD, "a,loss,3.15,1e6,1e7"]))
    assert table["seed"].to_pylist() == [0, 0, 0, 0, 1]
    assert len(set(table["run_id"].to_pylist())) == 5


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([*GOOD, "a,loss,nan,3e6,1e7"], HEADER, "row 5: value is empty or NaN"),
        ([*GOOD, "a,loss,,3e6,1e7"], HEADER, "row 5: value is empty or NaN"),
        ([*GOOD, "a,loss,inf,3e6,1e7"], HEADER, "row 5: value inf"),
        ([*GOOD, "a,loss,-2.5,3e6,1e7"], HEADER, "row 5: value -2.5 is negative"),
        ([*GOOD, GOOD[1]], HEADER, "row 5: is a copy of row 2"),
        ([*GOOD, "a,loss,2.9,-3e6,1e7"], HEADER, "row 5: params -3000000.0 must be positive"),
        ([*GOOD, "a,loss,2.9,3e6,0"], HEADER, "row 5: tokens 0.0 must be positive"),
        ([*GOOD, "a,loss,2.9,3e6,"], HEADER, "row 5: flops is missing, and so is params or tokens"),
        ([*GOOD, ",loss,2.9,3e6,1e7"], HEADER, "row 5: dataset is empty, or a word like NA"),
        ([*GOOD, "a,loss,high,3e6,1e7"], HEADER, "row 5: value holds 'high'; it must be a number"),
        ([r.replace("loss", "accuracy") for r in GOOD], HEADER, "looks like percent"),
        (["a,accuracy,.4,1e6,1e7", "a,accuracy,44,2e6,1e7"], HEADER, "mixture of shares and percent"),
        (["a,quux,.4,1e6,1e7"], HEADER, "is a lower 'quux' better or worse"),
        (["loss,3,1e6,1e7"], "metric,value,params,tokens", "no column 'dataset'"),
        (["a,3,1e6,1e7"], "dataset,value,params,tokens", "no column 'metric'"),
        (["a,loss,1e6,1e7"], "dataset,metric,params,tokens", "no column 'value'"),
        (["a,loss,3"], "dataset,metric,value", "row 1: flops is missing"),
        ([], HEADER, "holds no rows"),
        (["a,loss,3,1e6"], HEADER, "cannot be read"),
        (["r,a,loss,3,1e6,1e7", ",a,loss,2,2e6,1e7"], f"run_id,{HEADER}", "row 2: run_id is empty"),
        (["r,a,loss,3,1e6,1e7", "r,a,loss,2,1e6,1e7"], f"run_id,{HEADER}", "row 2: measures the same run"),
        (["true,a,loss,3,1e6,1e7", "false,a,loss,2,2e6,1e7"], f"lower_is_better,{HEADER}", "row 2: lower_is_better"),
        (["6ND+attention,a,loss,3,1e6,1e7"], f"flops_convention,{HEADER}", "give the flops"),
        ([*GOOD, "a,loss,2.9,1.4,28.8e9"], HEADER, "row 5: params 1.4 is too small for a count of params"),
        ([*GOOD, "a,loss,2.9,1.4e9,28.8"], HEADER, "row 5: tokens 28.8 is too small for a count of tokens"),
        ([*GOOD, "a,loss,2.9,big,1e7"], HEADER, "row 5: params has 'big'; give a number, or one like 1.4B"),
        ([*GOOD, '"a",loss,2.9,"1,44e6",1e7'], HEADER, "row 5: params has '1,44e6'"),
        (["6e13,a,loss,3,1e6,1e7", "240,b,loss,2,2e6,2e7"], f"flops,{HEADER}", "row 2: flops is 240, but 6 x params"),
        (["6ND,7e13,a,loss,3,1e6,1e7"], f"flops_convention,flops,{HEADER}", "correct the numbers or the flops_conv"),
        (["samples,6e13,a,loss,3,1e6,1e7", ",6e13,b,loss,2,1e6,1e7"], f"token_unit,flops,{HEADER}", "give one unit"),
        (
            ["samples,a,loss,3,1e6,1e7"],
            f"token_unit,{HEADER}",
            "row 1: flops is missing and tokens counts samples",
        ),
        (["words,a,loss,3,1e6,1e7"], f"token_unit,{HEADER}", "token_unit 'words' is not known"),
        (
            [".25,a,acc,.3,1e6,1e7", ".5,b,acc,.4,1e6,1e7"],
            f"chance,{HEADER}",
            "row 2: chance of 'acc' is 0.5, and 0.25",
        ),
        (["inf,a,acc,.3,1e6,1e7"], f"chance,{HEADER}", "chance inf must be finite"),
        (
            [".25,false,a,quux,41,1e6,1e7"],
            f"chance,lower_is_better,{HEADER}",
            "quux is 41: the column looks like percent",
        ),
        (["-.1,a,loss,3,1e6,1e7"], f"error,{HEADER}", "error -0.1 is negative"),
        (["1.5,a,loss,3,1e6,1e7"], f"seed,{HEADER}", "row 1: seed holds '1.5'; it must be a whole number"),
    ],
)
def test_a_bad_table_is_one_clear_sentence_with_its_row(
    tmp_path: Path, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(MeasurementError, match=message) as caught:
        read_results(csv(tmp_path, rows, header))
    assert "\n" not in str(caught.value)
    assert "results.csv" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff" * 50, b"PAR1 nothing"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(MeasurementError, match="broken"):
        read_results(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no such file"):
        read_results(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.4B", 1.4e9),
        ("411m", 4.11e8),
        ("28.8e9", 2.88e10),
        ("1,439,795,200", 1439795200.0),
        ("3 T", 3e12),
        ("7k", 7e3),
    ],
)
def test_a_count_written_as_text_is_read_and_said(tmp_path: Path, text: str, count: float) -> None:
    assert as_count(text) == count
    rows = [*GOOD, f'c,loss,3,"{text}","20B"']
    table = read_results(csv(tmp_path, rows))
    assert table["params"][4].as_py() == count and table["tokens"][4].as_py() == 2e10
    assert any("params is text" in note for note in notes_of(table)) or text == "28.8e9"


@pytest.mark.parametrize("text", ["", "B", "1.4X", "1,4B", "1.4.2", "--", "1e", "12,34,567"])
def test_what_is_no_count_is_none(text: str) -> None:
    assert as_count(text) is None


@given(st.floats(min_value=1, max_value=1e14, allow_nan=False))
def test_every_number_reads_back_as_itself(number: float) -> None:
    assert as_count(repr(number)) == number
    assert as_count(f"{round(number):,}") == round(number)


def test_flops_conventions_other_than_6nd_may_differ_from_it_but_not_by_units(tmp_path: Path) -> None:
    header = f"flops,flops_convention,{HEADER}"
    rows = ["8e13,with attention,a,loss,3,1e6,1e7", "9e13,with attention,b,loss,2,1e6,1e7"]
    assert read_results(csv(tmp_path, rows, header))["flops"].to_pylist() == [8e13, 9e13]
    with pytest.raises(MeasurementError, match="in other units"):
        read_results(csv(tmp_path, [r.replace("e13", "e4") for r in rows], header))  # GFLOPs


def test_one_dataset_and_one_point_a_dataset_are_one_sentence_each(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="only dataset 'a'"):
        compare(read_results(csv(tmp_path, GOOD[:2])), metric="loss")
    with pytest.raises(MeasurementError) as caught:
        compare(read_results(csv(tmp_path, [GOOD[0], GOOD[2]])), metric="loss")
    assert "\n" not in str(caught.value)


def test_two_scales_are_compared_with_a_word_on_how_little_that_is(tmp_path: Path) -> None:
    rows = [f"{d},loss,{3.2 - 0.2 * i + gap + 0.01 * s},{1e6 * 4**i},{1e7 * 4**i},{s}"
            for d, gap in (("a", 0.0), ("b", 0.5)) for i in range(2) for s in range(3)]  # fmt: skip
    verdict = compare(read_results(csv(tmp_path, rows, f"{HEADER},seed")), metric="loss", bootstraps=200)
    assert {"few_points", "few_scales"} <= {check.name for check in verdict.checks}


def test_a_million_rows_are_refused_in_seconds_with_advice(tmp_path: Path) -> None:
    n = 1_000_000
    table = pa.table(
        {
            "dataset": ["a", "b"] * (n // 2),
            "metric": ["loss"] * n,
            "value": [2.0 + (i % 1000) / 1000 for i in range(n)],
            "flops": [1e12 + i * 1e9 for i in range(n)],
        }
    )
    with pytest.raises(MeasurementError, match=r"1,000,000 points; at most 5,000"):
        compare(table, metric="loss")
    path = tmp_path / "curves.csv"
    pacsv.write_csv(table, path)
    started, (before, _) = time.perf_counter(), memory()
    with pytest.raises(MeasurementError, match=r"curves\.csv: loss has 1,000,000 points"):
        read_results(path)
    assert time.perf_counter() - started < 20
    assert memory()[1] - before < 1 << 30
    with pytest.raises(MeasurementError, match=r"curves\.csv: has more than 200,000 rows"):
        read_runs(path, columns={"metric:loss": "value"})


def memory() -> tuple[int, int]:
    """(resident now, at most so far) in bytes."""
    return psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_file_larger_than_any_table_of_runs_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(MeasurementError, match=r"huge\.csv: has 1\.1 GB"):
        read_results(path)


class Frame:
    """What pandas and polars hand out since 2024."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_a_data_frame_is_as_good_as_a_table_and_a_path_is_told_from_one(tmp_path: Path) -> None:
    path = csv(tmp_path, [*GOOD, "b,loss,2.9,3e6,1e7"])
    frame = Frame(pacsv.read_csv(path))
    assert complete(frame).equals(complete(pacsv.read_csv(path)))  # type: ignore[arg-type]
    for wrong, words in ((str(path), "is a path, not a table; read it first"), ([1, 2], "not a list")):
        with pytest.raises(MeasurementError, match=words):
            complete(wrong)  # type: ignore[arg-type]


def test_spaces_around_a_name_make_no_second_dataset_and_are_told(tmp_path: Path) -> None:
    table = read_results(csv(tmp_path, ["a,loss,3.1,1e6,1e7", " a ,loss,3.0,2e6,1e7", "b,loss ,3.2,1e6,1e7"]))
    assert table["dataset"].to_pylist() == ["a", "a", "b"]
    assert set(table["metric"].to_pylist()) == {"loss"}
    assert "spaces around the dataset of 1 rows were taken away" in notes_of(table)


def test_compute_as_one_number_and_the_only_metric_need_no_ceremony(tmp_path: Path) -> None:
    rows = [f"{d},loss,{3 + 400 / n**0.34 + gap},{n},{20 * n}" for d, gap in (("a", 0), ("b", 0.1)) for n in SIZES]
    table = read_results(csv(tmp_path, rows))
    verdict = compare(table, at=1e18, bootstraps=100)
    assert (verdict.metric, verdict.at) == ("loss", (1e18,))
    assert backtest(table).metric == "loss"
    two = read_results(csv(tmp_path, [*rows, "a,accuracy,.5,1e7,2e8"]))
    with pytest.raises(MeasurementError, match="several metrics: accuracy, loss"):
        compare(two)


def test_percent_under_an_unknown_name_is_asked_about(tmp_path: Path) -> None:
    rows = [f"{d},quux,{s * 10 + gap},{n},{20 * n}" for d, gap in (("a", 3), ("b", 1)) for s, n in enumerate(SIZES, 2)]
    table = read_runs(csv(tmp_path, rows), constants={"lower_is_better": "false"})
    said = [c.message for c in compare(table, bootstraps=100).checks if c.name == "law_not_fitted"]
    assert said and said[0].endswith("quux goes up to 63: is it percent?")
