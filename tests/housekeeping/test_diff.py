"""`curate diff` says what a slow comparison in plain Python would say, and why, in bounded memory."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.housekeeping import diff as diff_module
from curate.housekeeping import id_join
from curate.housekeeping.datasets import open_dataset
from curate.housekeeping.diff import Diff, diff
from curate.writers import ParquetWriter

from .conftest import Place


def slow(place: Place) -> tuple[set[str], set[str], set[str], Counter[tuple[str, str]]]:
    """Ids that left, entered, were edited between raw and full, and why they left."""
    sides = [
        {row["id"]: row["text"] for row in place.table(place.root / "out" / name).to_pylist()}
        for name in ("raw", "full")
    ]
    left, entered = set(sides[0]) - set(sides[1]), set(sides[1]) - set(sides[0])
    edited = {key for key in set(sides[0]) & set(sides[1]) if sides[0][key] != sides[1][key]}
    why: Counter[tuple[str, str]] = Counter()
    for made in place.made().stages:
        for row in place.table(Path(made.folder), "ledger").to_pylist():
            if row["id"] in left and row["fate"] not in ("kept", "edited"):
                why[row["step"], row["rule"] or ""] += 1
    return left, entered, edited, why


@pytest.mark.parametrize("range_rows", [1 << 20, 16])
def test_counts_are_those_of_plain_sets(place: Place, monkeypatch: pytest.MonkeyPatch, range_rows: int) -> None:
    monkeypatch.setattr(id_join, "RANGE_ROWS", range_rows)
    found = diff(place.made("raw"), place.made("full"))
    left, entered, edited, why = slow(place)
    assert sum(reason.documents for reason in found.left) == len(left) and len(left) > 50
    assert sum(reason.documents for reason in found.entered) == len(entered) == 0
    assert found.edited == len(edited) > 20
    assert {(reason.step, reason.rule): reason.documents for reason in found.left} == dict(why)
    assert found.same + found.edited + len(left) == found.documents[0]
    raw = {row["id"]: row["text"] for row in place.table(place.root / "out/raw").to_pylist()}
    assert sum(reason.bytes for reason in found.left) == sum(len(raw[key].encode()) for key in left)
    for reason in found.left:
        assert 1 <= len(reason.samples) <= 3
        for sample in reason.samples:
            assert raw[sample.id].startswith(sample.text) and sample.text
            assert reason.rule != "c4.curly_bracket" or sample.value is not None


def test_the_other_way_round_what_left_enters(place: Place) -> None:
    there, back = diff(place.made("raw"), place.made()), diff(place.made(), place.made("raw"))
    assert [(each.step, each.rule, each.documents) for each in there.left] == [
        (each.step, each.rule, each.documents) for each in back.entered
    ]
    assert back.left == [] and back.edited_bytes == -there.edited_bytes


def test_edits_are_shown_line_by_line(place: Place) -> None:
    found = diff(place.made("raw"), place.made())
    assert len(found.edits) == 3
    raw = {row["id"]: row["text"] for row in place.table(place.root / "out/raw").to_pylist()}
    for edited in found.edits:
        removed = [line[1:] for line in edited.lines if line.startswith("-")]
        assert removed and all(any(each.startswith(line) for each in raw[edited.id].splitlines()) for line in removed)


def test_equal_datasets_have_no_difference_and_equal_files_are_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff_module, "documents", None)
    found = diff(place.published(), place.published())
    assert found.changes == [] and found.first_stage == "" and found.same == found.documents[0] > 0
    assert found.left == found.entered == found.edits == []


def test_published_output_of_two_formats_is_the_same_data(place: Place) -> None:
    found = diff(place.published("raw"), place.published("raw-lines"))
    assert found.same == found.documents[0] == found.documents[1] and found.edited == 0 and not found.left


def test_without_ledgers_the_reason_is_not_known(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.curate("diff", place.root / "out/raw", place.root / "out/full", "--ids-only") == 0
    out = capsys.readouterr().out
    assert "published output has no ledger" in out and "first stage that differs" in out


def test_a_changed_parameter_is_named_with_the_first_stage_that_it_changes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    text = place.recipe("full").read_text()
    place.recipe("other").write_text(text.replace("- gopher_quality", "- gopher_quality: {min_words: 60}"))
    arguments = ("diff", place.recipe("full"), place.recipe("other"), "--work", place.work)
    assert place.curate(*arguments, "--json", place.root / "changes.json") == 0
    out = capsys.readouterr().out
    assert "gopher_quality.min_words: 50 → 60" in out and "did not run to its end" in out
    said = json.loads((place.root / "changes.json").read_text())
    assert said["changes"] == [{"what": "gopher_quality.min_words", "before": "50", "after": "60"}]
    assert said["first_stage"] == "gopher_quality+c4"


def test_steps_that_were_put_in_and_inputs_that_changed_are_named(place: Place) -> None:
    text = place.recipe("raw").read_text()
    place.recipe("more").write_text(text + "  - c4: {terminal_punctuation: false}\n")
    found = diff(place.made("raw"), open_dataset(str(place.recipe("more")), work=place.work))
    assert found.changes is not None
    assert [change.what for change in found.changes] == ["step c4"] and "c4" in found.first_stage
    (place.root / "crawl" / "more.warc.gz").write_bytes(next((place.root / "crawl").glob("*.gz")).read_bytes())
    found = diff(place.published("raw"), open_dataset(str(place.recipe("raw")), work=place.work))
    assert found.changes is not None and found.changes[0].what == "input files"
    assert "more.warc.gz" in found.changes[0].after and found.first_stage == "read warc+extract"


def output(folder: Path, ids: list[str], texts: list[str]) -> None:
    folder.mkdir()
    table = pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())})
    with ParquetWriter(folder / "part-00000.parquet", table.schema) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    info = writer.close()
    part = {"name": "part-00000.parquet", "bytes": info.bytes, "rows": info.rows, "hash": info.hash}
    size = sum(len(text.encode()) for text in texts)
    manifest = {
        "name": folder.name,
        "documents": len(ids),
        "text_bytes": size,
        "parts": [part],
        "fingerprint": folder.name,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def compared(tmp_path: Path, first: tuple[list[str], list[str]], second: tuple[list[str], list[str]]) -> Diff:
    output(tmp_path / "a", *first)
    output(tmp_path / "b", *second)
    return diff(*(open_dataset(str(tmp_path / name), work=tmp_path) for name in ("a", "b")))


def test_ids_that_stand_twice_are_counted_twice(tmp_path: Path) -> None:
    found = compared(tmp_path, (["x", "x", "x", "y"], list("aaab")), (["x", "z", "x"], list("aca")))
    assert found.same == 2 and sum(reason.documents for reason in found.left) == 2
    assert sum(reason.documents for reason in found.entered) == 1


def test_hostile_texts_and_ids_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = ["\x1b[2J\x1b]0;owned\x07", "[red]markup[/red]", "\u202eevil", "a\nb"]
    compared(tmp_path, (hostile, hostile), (["other"], ["\x1b[31m"]))
    from curate import cli
    from curate.commands import diff as command

    if command not in cli.COMMANDS:
        cli.COMMANDS = (*cli.COMMANDS, command)
    assert cli.main(["diff", str(tmp_path / "a"), str(tmp_path / "b"), "--samples", "3"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "[red]markup[/red]" in out


def test_the_join_is_that_of_plain_python_for_any_spread_of_ids() -> None:
    chance = np.random.default_rng(0)
    for _ in range(50):
        sides = []
        for _ in range(2):
            records = np.zeros(chance.integers(0, 40), id_join.DOCUMENT)
            records["hi"], records["lo"] = chance.integers(0, 4, len(records)), chance.integers(0, 4, len(records))
            records["row"] = np.arange(len(records))
            sides.append(records[np.lexsort((records["row"], records["lo"], records["hi"]))])
        keys = [Counter(zip(side["hi"].tolist(), side["lo"].tolist(), strict=True)) for side in sides]
        found = id_join.joined(*sides)
        assert len(found.both[0]) == len(found.both[1]) == (keys[0] & keys[1]).total()
        assert (found.both[0]["hi"] == found.both[1]["hi"]).all() and (found.both[0]["lo"] == found.both[1]["lo"]).all()
        assert Counter(zip(found.left["hi"].tolist(), found.left["lo"].tolist(), strict=True)) == keys[0] - keys[1]
        assert (
            Counter(zip(found.entered["hi"].tolist(), found.entered["lo"].tolist(), strict=True)) == keys[1] - keys[0]
        )


@pytest.mark.slow
def test_memory_of_a_comparison_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys, resource; from curate.housekeeping.datasets import open_dataset;"
        "from curate.housekeeping.diff import diff;"
        "diff(open_dataset(sys.argv[1], work='.'), open_dataset(sys.argv[2], work='.'), texts=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for rows in (1 << 20, 1 << 23):
        for name, start in (("a", 0), ("b", rows // 10)):
            folder = tmp_path / f"{name}-{rows}"
            folder.mkdir()
            ids = pa.array(np.arange(start, start + rows)).cast(pa.string())
            pq.write_table(pa.table({"id": ids}), folder / "part-00000.parquet", row_group_size=1 << 16)
            size = (folder / "part-00000.parquet").stat().st_size
            part = {"name": "part-00000.parquet", "bytes": size, "rows": rows, "hash": f"{name}{rows}"}
            (folder / "manifest.json").write_text(json.dumps({"documents": rows, "parts": [part]}))
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / f"a-{rows}"), str(tmp_path / f"b-{rows}")],
            capture_output=True,
            check=True,
            text=True,
        )
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 150, peaks
