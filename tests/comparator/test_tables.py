"""Results from elsewhere: what is missing is filled in and said, what is wrong is one sentence with its row."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.comparator import compare, read_results
from curate.comparator.tables import notes_of
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

HEADER = "dataset,metric,value,params,tokens"
GOOD = ["a,loss,3.1,1e6,1e7", "a,loss,2.9,2e6,2e7", "b,loss,3.2,1e6,1e7", "b,loss,3.0,2e6,2e7"]


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
        ([*GOOD, "a,loss,nan,3e6,1e7"], HEADER, r"row 5: value .* not a finite number"),
        ([*GOOD, "a,loss,,3e6,1e7"], HEADER, r"row 5: value None"),
        ([*GOOD, "a,loss,inf,3e6,1e7"], HEADER, "row 5: value inf"),
        ([*GOOD, "a,loss,-2.5,3e6,1e7"], HEADER, "row 5: value -2.5 is negative"),
        ([*GOOD, GOOD[1]], HEADER, "row 5: is a copy of row 2"),
        ([*GOOD, "a,loss,2.9,-3e6,1e7"], HEADER, "row 5: params -3000000.0 must be positive"),
        ([*GOOD, "a,loss,2.9,3e6,0"], HEADER, "row 5: tokens 0.0 must be positive"),
        ([*GOOD, "a,loss,2.9,3e6,"], HEADER, "row 5: flops None is missing"),
        ([*GOOD, ",loss,2.9,3e6,1e7"], HEADER, "row 5: dataset None is empty"),
        ([*GOOD, "a,loss,high,3e6,1e7"], HEADER, "row 5 has 'high'"),
        ([r.replace("loss", "accuracy") for r in GOOD], HEADER, "looks like percent"),
        (["a,accuracy,.4,1e6,1e7", "a,accuracy,44,2e6,1e7"], HEADER, "mixture of shares and percent"),
        (["a,quux,.4,1e6,1e7"], HEADER, "is a lower 'quux' better or worse"),
        (["loss,3,1e6,1e7"], "metric,value,params,tokens", "no column 'dataset'"),
        (["a,3,1e6,1e7"], "dataset,value,params,tokens", "no column 'metric'"),
        (["a,loss,1e6,1e7"], "dataset,metric,params,tokens", "no column 'value'"),
        (["a,loss,3"], "dataset,metric,value", "row 1: flops None is missing"),
        ([], HEADER, "holds no rows"),
        (["a,loss,3,1e6"], HEADER, "cannot be read"),
        (["r,a,loss,3,1e6,1e7", ",a,loss,2,2e6,1e7"], f"run_id,{HEADER}", "row 2: run_id is empty"),
        (["r,a,loss,3,1e6,1e7", "r,a,loss,2,1e6,1e7"], f"run_id,{HEADER}", "row 2: measures the same run"),
        (["true,a,loss,3,1e6,1e7", "false,a,loss,2,2e6,1e7"], f"lower_is_better,{HEADER}", "row 2: lower_is_better"),
        (["6ND+attention,a,loss,3,1e6,1e7"], f"flops_convention,{HEADER}", "give the flops"),
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
    with pytest.raises(MeasurementError, match=r"1,000,000 points; at most 20,000"):
        compare(table, metric="loss")
