"""`curate verify` finds every kind of damage, names the file, and finds none where there is none."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.engine.ledger import LEDGER_SCHEMA
from curate.fingerprints import file_fingerprint
from curate.housekeeping.verify import verify
from curate.writers import ParquetWriter

from .conftest import Place


def problems(place: Place, name: str = "full", *, published: bool = False, quick: bool = False) -> list[str]:
    dataset = place.published(name) if published else place.made(name)
    return [problem for found in verify(dataset, quick=quick, workers=2) for problem in found.problems]


@pytest.mark.parametrize("quick", [False, True])
def test_a_run_and_its_outputs_are_as_their_manifests_say(place: Place, quick: bool) -> None:
    assert problems(place, quick=quick) == []
    for name in ("full", "raw", "raw-lines"):
        assert problems(place, name, published=True, quick=quick) == []
    facts = [found.facts for found in verify(place.made("raw"))]
    records = place.table(Path(place.made("raw").stages[0].folder), "ledger").num_rows
    assert len(facts) == 2 and f"{records:,} records in" in facts[0] and "3 parts" in facts[0]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("damage", "said"),
    [(flipped, "content is not what was written"), (shortened, "the manifest says"), (Path.unlink, "is missing")],
)
@pytest.mark.parametrize("file", ["out/full/part-00001.parquet", "out/raw-lines/part-00000.jsonl.gz"])
def test_a_damaged_output_is_named(place: Place, damage: Callable[[Path], None], said: str, file: str) -> None:
    damage(place.root / file)
    found = problems(place, Path(file).parent.name, published=True)
    assert len(found) == 1 and file in found[0] and said in found[0]


@pytest.mark.parametrize("kind", ["part", "ledger"])
def test_a_damaged_stage_is_named_but_quick_sees_sizes_only(place: Place, kind: str) -> None:
    file = place.stage("minhash") / f"{kind}-00001.parquet"
    flipped(file)
    assert problems(place, quick=True) == []
    found = problems(place)
    assert len(found) == 1 and str(file) in found[0]
    shortened(file)
    assert str(file) in problems(place, quick=True)[0]


def test_a_lost_part_manifest_and_an_unfinished_stage_are_named(place: Place) -> None:
    (place.stage("language") / "part-00002.json").unlink()
    assert "part-00002.json: is missing" in " ".join(problems(place))
    (place.stage("c4") / "manifest.json").unlink()
    assert "the stage is not finished" in " ".join(problems(place))


def test_files_that_nothing_names_are_named(place: Place) -> None:
    strays = [place.stage("c4") / "part-00009.parquet", place.root / "out/full/part-00007.parquet"]
    for stray in strays:
        stray.write_bytes(b"left by somebody")
    assert [str(strays[0]) in each for each in problems(place)] == [True]
    assert [str(strays[1]) in each for each in problems(place, published=True)] == [True]


def renamed_id(path: Path, manifests: list[Path]) -> None:
    """A ledger that calls a document by another id, with manifests that name the new file by its right hash."""
    table = pq.read_table(path)
    ids = table.column("id").to_pylist()
    table = table.set_column(0, LEDGER_SCHEMA.field("id"), [["somebody else", *ids[1:]]])
    with ParquetWriter(path, LEDGER_SCHEMA) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    for manifest in manifests:
        said = json.loads(manifest.read_text())
        for entry in said.get("parts", [said]):
            ledger = entry["files"]["ledger"]
            if ledger["name"] == path.name:
                ledger |= {"bytes": path.stat().st_size, "hash": file_fingerprint(path)}
        manifest.write_text(json.dumps(said))


def test_a_ledger_with_other_ids_than_the_data_is_found_though_its_hash_is_right(place: Place) -> None:
    folder = place.stage("language")
    renamed_id(folder / "ledger-00000.parquet", [folder / "manifest.json", folder / "part-00000.json"])
    found = problems(place)
    assert any("ledger" in each and "ids" in each and str(folder) in each for each in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.update(documents=manifest["documents"] + 1), "documents is"),
        (lambda manifest: manifest.update(text_bytes=1), "text_bytes is 1"),
        (lambda manifest: manifest["funnel"][1].update(out=3), "step extract has"),
        (lambda manifest: manifest["parts"][0].update(rows=3), "rows"),
    ],
)
def test_counts_that_do_not_add_up_are_found(place: Place, change: Callable[[dict], None], said: str) -> None:
    path = place.root / "out/full/manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    assert any(said in each for each in problems(place, published=True))


def test_a_part_of_another_schema_is_found(place: Place) -> None:
    path = place.root / "out/full/part-00001.parquet"
    table = pq.read_table(path).drop_columns(["quality_score"])
    pq.write_table(table, path)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["parts"][1] |= {"bytes": path.stat().st_size, "hash": file_fingerprint(path)}
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    assert any("another schema" in each for each in problems(place, published=True))


def test_the_command_says_what_is_wrong_and_exits_with_2(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.curate("verify", place.root / "out/full", place.recipe("raw"), "--work", place.work) == 0
    assert "all is as the manifests say" in capsys.readouterr().out
    flipped(place.root / "out/full/part-00000.parquet")
    assert place.curate("verify", place.root / "out/full", "--work", place.work) == 2
    out = capsys.readouterr().out
    assert "part-00000.parquet: its content is not what was written" in out and "1 problems" in out


@pytest.mark.parametrize("name", ["../../secrets", "/etc/passwd", "a/b.parquet", ""])
def test_a_manifest_that_points_outside_is_refused(place: Place, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = place.root / "out/full/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parts"][0]["name"] = name
    path.write_text(json.dumps(manifest))
    assert place.curate("verify", place.root / "out/full") == 2
    assert "no plain file name" in capsys.readouterr().err


def test_what_is_no_dataset_gets_one_sentence(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in ((place.work, "looks like a work folder"), (place.root / "nothing", "no such folder")):
        assert place.curate("verify", given) == 2
        assert said in capsys.readouterr().err
    assert place.curate("verify", place.recipe("full"), "--work", place.root / "nowhere") == 2
    assert "no such work folder" in capsys.readouterr().err


def test_output_behind_a_url_is_checked_rewritten_and_described_alike(place: Place) -> None:
    from curate.housekeeping.card import card, facts
    from curate.housekeeping.datasets import open_dataset
    from curate.housekeeping.remove import remove
    from curate.storage import at, put

    folder = at("memory://housekeeping/full")
    for path in (place.root / "out/full").iterdir():
        put(folder / path.name, path.read_bytes())
    dataset = open_dataset("memory://housekeeping/full", work=place.work)
    assert [problem for found in verify(dataset) for problem in found.problems] == []
    victim = place.table(place.root / "out/full").column("id")[0].as_py()
    remove([dataset], [victim], reason="a test")
    dataset = open_dataset("memory://housekeeping/full", work=place.work)
    assert [problem for found in verify(dataset) for problem in found.problems] == []
    assert "Taken out after it was made" in card(facts(dataset))
    put(folder / "part-00000.parquet", b"nothing")
    assert any("part-00000.parquet: has 7 bytes" in each for found in verify(dataset) for each in found.problems)
