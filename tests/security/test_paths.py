"""Names in manifests are names: nothing outside of a folder is read, overwritten or deleted through them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.executors import executor_for
from curate.engine.manifest import file_entry, plain_name, read_valid, write_manifest
from curate.engine.recipe import load_recipe
from curate.engine.run import Dataset, Engine
from curate.fingerprints import file_fingerprint

HOSTILE = [
    "../secret.parquet", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\x", "~/x", "~", ".hidden", "a\0b", "a\nb",
    "-", "-rf", "a" * 300, "s3://b/x", "file:///etc/passwd", "\u202ex", "é", "%2e%2e/x", "../" * 40 + "etc/passwd",
    "part-00000.parquet/../../x", " ", "a b", "a:b", "x\x1b[31m", "$(id)", "`id`", "a;b", "a|b", "*", "?", "CON ",
    5, None, [], {}, 1.5, True,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_that_is_no_plain_file_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="no plain file name"):
        plain_name(name)


def test_random_names_either_stay_in_the_folder_or_are_refused(tmp_path: Path) -> None:
    dice = random.Random(5)
    taken = 0
    for _ in range(20_000):
        name = "".join(dice.choices("ab.-_/\\~\0\n :%é", k=dice.randrange(1, 12)))
        try:
            path = tmp_path / plain_name(name)
        except ValueError:
            continue
        taken += 1
        assert path.parent == tmp_path and path.name == name and path.resolve().parent == tmp_path.resolve()
    assert taken > 50


def _manifest(folder: Path, name: object, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    secret = folder.parent / "secret.parquet"
    secret.write_bytes(b"secret")
    entry = {"name": name, "bytes": 6, "rows": 1, "hash": file_fingerprint(secret)}
    write_manifest(folder / "part-00000.json", {"files": {"data": entry}, **more})
    return folder / "part-00000.json"


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_manifest_that_points_elsewhere_counts_as_none(name: object, tmp_path: Path) -> None:
    assert read_valid(_manifest(tmp_path / "stage", name)) is None
    path = tmp_path / "stage" / "manifest.json"
    write_manifest(path, {"files": {}, "parts": [{"files": {"data": {"name": name}}}]})
    assert read_valid(path) is None


def test_a_link_out_of_the_folder_is_no_file_of_it(tmp_path: Path) -> None:
    path = _manifest(tmp_path / "stage", "x.parquet")
    (path.parent / "x.parquet").symlink_to(tmp_path / "secret.parquet")
    assert read_valid(path, verify=True) is None
    (path.parent / "x.parquet").unlink()
    (path.parent / "y.parquet").write_bytes(b"secret")
    (path.parent / "x.parquet").symlink_to("y.parquet")  # within the folder it may lead where it likes
    assert read_valid(path, verify=True) is not None


def test_a_manifest_that_was_edited_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"12345")
    path = tmp_path / "part-00000.json"
    write_manifest(
        path, {"files": {"x": file_entry(tmp_path / "x.bin", 1)}, "records_in": 7, "x": {3: 1.5}, "t": (1, 2)}
    )
    told = read_valid(path, ("records_in",))
    assert told is not None and told["records_in"] == 7 and "seal" not in told
    text = path.read_text()
    for old, new in (("7", "8"), ('"records_in"', '"records_on"'), ("1.5", "1.6")):
        path.write_text(text.replace(old, new, 1))
        assert read_valid(path) is None
    path.write_text("[" * 100_000)
    assert read_valid(path) is None


@pytest.fixture
def run(tmp_path: Path) -> Callable[[], Dataset]:
    """A small recipe that publishes, run in a work folder; a secret lies beside both."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["one two", "three four"]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"id": ["s"], "text": ["secret"]}), tmp_path / "secret.parquet")
    recipe = "name: r\nsource: {parquet: in/a.parquet}\nsteps: [exact]\noutput: {parquet: out}\n"
    (tmp_path / "r.yaml").write_text(recipe)
    return lambda: Engine(tmp_path / "work", executor_for(1)).run(load_recipe(tmp_path / "r.yaml"))


def test_a_stage_whose_manifest_points_elsewhere_is_made_again(run: Callable[[], Dataset], tmp_path: Path) -> None:
    first = run()
    secret = tmp_path / "secret.parquet"
    for stage in first.stages:
        for path in stage.folder.glob("*.json"):
            told = json.loads(path.read_text())
            told.pop("seal")
            for files in [told.get("files", {}), *(part["files"] for part in told.get("parts", []))]:
                for file in files.values():
                    file |= {"name": "../../../secret.parquet", "bytes": secret.stat().st_size}
                    file |= {"hash": file_fingerprint(secret)}
            write_manifest(path, told)
    again = run()
    assert [pq.read_table(part)["text"].to_pylist() for part in again.parts] == [["one two", "three four"]]
    assert all(part.parent.is_relative_to(tmp_path / "work") for part in again.parts)


def test_publishing_deletes_nothing_that_another_manifest_names(run: Callable[[], Dataset], tmp_path: Path) -> None:
    run()
    path = tmp_path / "out" / "manifest.json"
    told = json.loads(path.read_text())
    for name in ("../secret.parquet", "/etc/hostname", str(tmp_path / "secret.parquet"), "part-1.parquet\n", "sub/x"):
        told["parts"] = [{"name": name, "bytes": 1, "rows": 1, "hash": ""}]
        path.write_text(json.dumps(told))
        run()
        assert (tmp_path / "secret.parquet").exists()
        assert json.loads(path.read_text())["parts"][0]["name"] == "part-00000.parquet"
