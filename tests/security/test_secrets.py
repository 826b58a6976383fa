"""No credential reaches a message, a manifest, an event, a page or a card: each carries what storage.redacted left."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine

KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
URLS = [
    f"s3://AKIAIOSFODNN7EXAMPLE:{KEY}@bucket/x.parquet",
    f"https://user:{KEY}@127.0.0.1:9/x.parquet",
    f"http://127.0.0.1:9/x.parquet?X-Amz-Signature={KEY}",
    f"http://127.0.0.1:9/x.parquet?token={KEY}",
    f"ftp://user:{KEY}@127.0.0.1:9/x.parquet",
    f"nosuch://user:{KEY}@host/x.parquet",
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "0")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.mark.parametrize("url", URLS)
def test_an_address_that_cannot_be_reached_is_told_without_its_key(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: r\nsource: {{parquet: {json.dumps(url)}}}\nsteps: [exact]\n")
    assert main(["run", str(recipe), "--work", str(tmp_path / "work"), "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert KEY not in said.out + said.err and "curate:" in said.err and "Traceback" not in said.err
    _check_folder(tmp_path / "work")


def test_the_environment_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", KEY)
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "text": [f"one {KEY[:8]}", "two"]}), tmp_path / "in" / "a.parquet")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nsource: {parquet: in/a.parquet}\nsteps: [exact]\noutput: {parquet: out}\n")
    assert main(["run", str(recipe), "--work", str(tmp_path / "work"), "--workers", "1"]) == 0
    assert Engine(tmp_path / "work", executor_for(1)).run(load_recipe(recipe)).documents == 2
    assert _check_folder(tmp_path / "work") > 4 and _check_folder(tmp_path / "out") > 1


def _check_folder(folder: Path) -> int:
    """Every file of the folder is free of the key; how many there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
        assert b"LD_LIBRARY_PATH" not in path.read_bytes(), path
    return len(files)
