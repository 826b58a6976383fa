"""A recipe or study from a stranger (`--builtin-only`): it stays in its folder, asks no store, brings no code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.errors import CurateError, InputError, RecipeError
from curate.study import load_study

Write = Callable[..., Path]
OUTSIDE = [
    "/etc/passwd", "/", "../secret.parquet", "corpus/../../secret.parquet", "./../secret.parquet", "~/secret.parquet",
    "~root/x", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "http://localhost:8080/x.parquet",
    "https://example.org/x.parquet", "s3://bucket/x.parquet", "gs://bucket/x", "memory://x", "ftp://example.org/x",
    "local::/etc/passwd", "simplecache::file:///etc/passwd", "zip://x::file:///etc/passwd", "smb://host/x",
    "//server/share", "..", "github://a:b@c/x", "reference://::http://10.0.0.1/x", "data:,::http://10.0.0.1/",
]  # fmt: skip
"""What leads out of a folder of files."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder, and a secret beside it."""
    inside = tmp_path / "stranger"
    (inside / "corpus").mkdir(parents=True)
    table = pa.table({"id": ["a", "b"], "text": ["one two three", "four five six"]})
    for path in (inside / "corpus" / "a.parquet", inside / "heldout.parquet", tmp_path / "secret.parquet"):
        pq.write_table(table, path)
    return inside


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a stranger's recipe."""

    def write(name: str = "r.yaml", **fields: object) -> Path:
        recipe: dict[str, object] = {"name": "r", "source": {"parquet": "corpus/*.parquet"}, "steps": ["exact"]}
        path = folder / name
        path.write_text(json.dumps(recipe | fields))  # JSON is YAML
        return path

    return write


def _plan(path: Path) -> None:
    Engine(path.parent / "work", executor_for(1)).plan(load_recipe(path, builtin_only=True))


def test_an_honest_recipe_passes(write: Write, tmp_path: Path) -> None:
    path = write(output={"parquet": "out/x"})
    dataset = Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path, builtin_only=True))
    assert dataset.documents == 2 and (path.parent / "out" / "x" / "manifest.json").exists()


@pytest.mark.parametrize("target", OUTSIDE)
def test_no_file_outside_of_the_folder(write: Write, target: str) -> None:
    negative = {"sample": ["corpus/a.parquet"]}
    fasttext = {"positive": ["corpus/a.parquet"], "negative": negative}
    wrong: list[dict[str, object]] = [
        {"source": {"parquet": target}},
        {"source": {"parquet": ["corpus/a.parquet", target]}},
        {"source": {"jsonl": {"files": [target]}}},
        {"output": {"parquet": target}},
        {"removed": target},
        {"artifacts": {"q": {"fasttext": fasttext | {"positive": [target]}}}},
        {"artifacts": {"q": {"fasttext": fasttext | {"negative": {"sample": target}}}}},
        {"artifacts": {"q": {"fasttext": fasttext | {"negative": {"sample": ["corpus/a.parquet", target]}}}}},
    ]
    for fields in wrong:
        path = write(**fields)
        with pytest.raises(CurateError, match=r"r\.yaml|leads out"):
            load_recipe(path, builtin_only=True)


def test_the_hub_is_open_and_nothing_behind_it(write: Write) -> None:
    for name in ("owner/name", "hf://datasets/owner/name/x.parquet", "owner/name@main/data/*.parquet"):
        assert load_recipe(write(source={"huggingface": name}), builtin_only=True).source.files == (name,)
    for name in ("hf://datasets/a/b::file:///etc/passwd", "../a", "hf://spaces/a/b", "s3://a/b", "/etc"):
        with pytest.raises(RecipeError, match="stranger"):
            load_recipe(write(source={"huggingface": name}), builtin_only=True)
    with pytest.raises(RecipeError, match="stranger"):
        load_recipe(write(source={"parquet": "hf://datasets/owner/name/x.parquet"}), builtin_only=True)


def test_links_that_lead_out_are_refused(write: Write, folder: Path) -> None:
    (folder / "corpus" / "b.parquet").symlink_to(folder.parent / "secret.parquet")
    with pytest.raises(InputError, match="leads out"):
        _plan(write())
    (folder / "corpus" / "b.parquet").unlink()
    (folder / "elsewhere").symlink_to(folder.parent)
    for fields in ({"source": {"parquet": "elsewhere/*.parquet"}}, {"output": {"parquet": "elsewhere/out"}}):
        with pytest.raises(InputError, match="leads out"):
            _plan(write(**fields))
    (folder / "other.yaml").symlink_to(folder.parent / "other.yaml")
    shutil.copy(write(), folder.parent / "other.yaml")
    fasttext = {"positive": ["corpus/a.parquet"], "negative": {"sample": "other.yaml"}}
    with pytest.raises(InputError, match="leads out"):
        _plan(write(artifacts={"q": {"fasttext": fasttext}}))


def test_the_person_who_runs_it_may_name_other_files(write: Write, folder: Path) -> None:
    secret = str(folder.parent / "secret.parquet")
    recipe = load_recipe(write(source={"parquet": "/etc/passwd"}), source=secret, builtin_only=True)
    assert Engine(folder / "work", executor_for(1)).plan(recipe).input_bytes > 0


def test_models_are_trained_and_never_brought(write: Write, folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"\x00" * 100)
    steps = [{"quality": {"model": "model.bin", "keep": {"above": 0.5}}}]
    with pytest.raises(RecipeError, match=r"steps\[0\]\.quality\.model: .* may not bring a model file"):
        load_recipe(write(steps=steps), builtin_only=True)
    fasttext = {"positive": ["corpus/a.parquet"], "negative": {"sample": ["corpus/a.parquet"]}}
    steps = [{"quality": {"model": "q", "keep": {"above": 0.5}}}]
    assert load_recipe(write(steps=steps, artifacts={"q": {"fasttext": fasttext}}), builtin_only=True)


@pytest.mark.parametrize("step", ["os.system", "curate.steps.Step", "subprocess:Popen", "curate.engine.run.Engine"])
def test_no_code_by_import_path(write: Write, step: str) -> None:
    with pytest.raises(RecipeError, match=r"built-in steps only|no step has the name"):
        load_recipe(write(steps=[{step: {}}]), builtin_only=True)


def test_nothing_is_taken_from_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "corpus/a.parquet")
    for target in ("${SECRET}", "$SECRET", "%SECRET%", "{{SECRET}}"):
        path = write(source={"parquet": target})
        with pytest.raises(InputError, match="no file found") as caught:
            _plan(path)
        assert "corpus/a.parquet" not in str(caught.value)


def _study(folder: Path, **fields: object) -> Path:
    study: dict[str, object] = {
        "name": "s",
        "datasets": {"a": "r.yaml", "b": {"parquet": "corpus/*.parquet"}},
        "ladder": "demo",
        "heldout": {"w": "heldout.parquet"},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(study | fields))
    return path


def test_a_study_of_a_stranger_stays_in_its_folder(write: Write, folder: Path) -> None:
    write()
    assert load_study(_study(folder), builtin_only=True).recipes["a"].builtin_only
    for target in OUTSIDE:
        for fields in (
            {"datasets": {"a": "r.yaml", "b": {"parquet": target}}},
            {"datasets": {"a": "r.yaml", "b": target}},
            {"datasets": {"a": "r.yaml", "b": {"tokens": target}}, "tokenizer": "t.json"},
            {"ladder": target},
            {"tokenizer": target},
            {"heldout": {"w": target}},
        ):
            with pytest.raises(CurateError, match=r"study\.yaml.*stranger"):
                load_study(_study(folder, **fields), builtin_only=True)


def test_recipes_of_a_study_of_a_stranger_are_a_strangers(write: Write, folder: Path) -> None:
    for fields in ({"steps": ["own.Step"]}, {"source": {"parquet": "/etc/*"}}, {"output": {"parquet": "../out"}}):
        write(**fields)
        with pytest.raises(RecipeError, match=r"r\.yaml"):
            load_study(_study(folder), builtin_only=True)


def test_the_command_line_asks_for_it(write: Write, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(source={"parquet": "/etc/*.parquet"})
    work = ["--work", str(folder / "work"), "--builtin-only"]
    for command in (["run", str(path)], ["why", str(path), "x"], ["study", str(_study(folder))]):
        assert main([*command, *work]) == 2
        assert "a recipe from a stranger" in capsys.readouterr().err
