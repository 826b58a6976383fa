"""`curate dedup`: three dumps one after the other, and one of them withdrawn."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.dedup.index import load_index
from tests.dedup.test_index import words

RECIPE = """
name: {name}
source: {{jsonl: "{name}.jsonl"}}
steps:
  - minhash: {{bands: 32, rows: 1, ngram: 3, threshold: 0.5, require_similar_to_survivor: true{more}}}
output: {{parquet: "out-{name}"}}
"""
PAGES = {f"p{number}": " ".join(words(number)) for number in range(6)}
DUMPS = {"d1": ("p0", "p1", "p2"), "d2": ("p1", "p3"), "d3": ("p3", "p2", "p4")}


def wrote(folder: Path, name: str, *, against: bool = True) -> str:
    rows = [{"id": f"{name}-{page}", "text": PAGES[page] + f" seen in {name}"} for page in DUMPS[name]]
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = f', against: index, dump: "{name}"' if against else ""
    (folder / f"{name}.yaml").write_text(RECIPE.format(name=name, more=more))
    return str(folder / f"{name}.yaml")


def ids(folder: Path) -> list[str]:
    return sorted(key for path in folder.glob("*.parquet") for key in pq.read_table(path).column("id").to_pylist())


def test_three_dumps_and_one_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index").mkdir()
    common = ["--workers", "1", "--work", "work"]
    for name in DUMPS:
        recipe = wrote(tmp_path, name, against=name != "d1")
        assert main(["run", recipe, *common]) == 0
        more = ["--to", "index", "--dump", "d1"] if name == "d1" else []
        assert main(["dedup", "index", recipe, *more, *common]) == 0
    assert ids(tmp_path / "out-d1") == ["d1-p0", "d1-p1", "d1-p2"]
    assert ids(tmp_path / "out-d2") == ["d2-p3"]
    assert ids(tmp_path / "out-d3") == ["d3-p4"]
    told = capsys.readouterr().out
    assert "dump d3: 1 documents in index" in told.replace(str(tmp_path) + "/", "")
    assert "2 had left for documents of older dumps" in told

    assert main(["why", "d3.yaml", "d3-p3", "--work", "work"]) == 0
    assert "kept in its place: d2-p3 (kept in dump d2 of the index)" in capsys.readouterr().out

    # Run again, each dump is held against the older ones only: nothing is done again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "stages").rglob("*")}
    for name in DUMPS:
        assert main(["run", f"{name}.yaml", *common]) == 0
    assert main(["dedup", "index", "d2.yaml", *common]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "stages").rglob("*")} == before
    assert "where they were already" in capsys.readouterr().out.replace("\n", " ")

    assert main(["dedup", "list", "index", "--verify"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in DUMPS)

    assert main(["dedup", "withdraw", "index", "d1", "--ids", "back.parquet"]) == 0
    told = capsys.readouterr().out
    assert "1 documents of d2 had left for one of its" in told
    assert "1 documents of d3 had left for one of its" in told
    assert sorted(pq.read_table("back.parquet").column("id").to_pylist()) == ["d2-p1", "d3-p2"]
    assert [dump.name for dump in load_index(tmp_path / "index").dumps] == ["d2", "d3"]

    # As the docs say: the later dumps run again, one after the other.
    for name in ("d3", "d2"):
        assert main(["dedup", "withdraw", "index", name]) == 0
    for name in ("d2", "d3"):
        assert main(["run", f"{name}.yaml", *common]) == 0
        assert main(["dedup", "index", f"{name}.yaml", *common]) == 0
    assert ids(tmp_path / "out-d2") == ["d2-p1", "d2-p3"]
    assert ids(tmp_path / "out-d3") == ["d3-p2", "d3-p4"]


def test_what_is_not_clear_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = wrote(tmp_path, "d1", against=False)
    common = ["--workers", "1", "--work", "work"]

    def said(*arguments: str) -> str:
        assert main(["dedup", *arguments]) == 2
        return capsys.readouterr().err

    assert "Name the index with --to and the dump with --dump" in said("index", recipe, *common)
    assert "it has minhash: name it (--step)" in said("index", recipe, "--step", "exact", *common)
    assert "a name has letters" in said("index", recipe, "--to", "index", "--dump", "../x", *common)
    assert "one recipe, or Parquet files" in said("index", recipe, recipe, *common)
    assert "name minhash or exact" in said("index", "x.parquet", "--to", "i", "--dump", "d", "--step", "c4", *common)
    assert "it is no index" in said("list", str(tmp_path))
    assert "has no dump 'd9'; it has none" in said("withdraw", str(tmp_path / "none"), "d9")
    (tmp_path / "d2.jsonl").write_text("")
    other = wrote(tmp_path, "d2")
    assert "'index' is neither an artifact nor a file" in said("index", other, *common)
    (tmp_path / "index").write_text("no folder")
    assert "is a file, and an index is a folder" in said("index", other, *common)
