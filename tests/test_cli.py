"""The command line answers at once, and every error is one sentence without a traceback."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from curate.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from curate.cli import main\n"
        "try:\n main(['--help'])\n"
        "except SystemExit:\n pass\n"
        "heavy = {'torch', 'ray', 'datatrove', 'numba', 'pyarrow', 'plotly'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout


@pytest.mark.parametrize("command", ["demo", "study", "run", "why", "compare"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: curate" in capsys.readouterr().out


def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nsource: {warc: nothing-*.gz}\nsteps:\n  - gopher_qualty\n")
    assert main(["run", str(path), "--work", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert "line 4, steps[0]" in error
    assert "Traceback" not in error


def test_files_that_are_not_there_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.yaml"
    path.write_text("name: none\nsource: {warc: 'nothing-*.gz'}\nsteps:\n  - extract\n")
    assert main(["run", str(path), "--work", str(tmp_path / "work"), "--workers", "1"]) == 2
    assert "nothing-*.gz" in capsys.readouterr().err


def test_every_package_folder_is_in_the_wheel() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    roots = {"curate": "curate", "filters": "curate.filters", "pipelines": "curate.pipelines",
             "proxy_training": "curate.proxy_training"}  # fmt: skip
    found = set()
    for folder, package in roots.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(ROOT / folder).parts]))
    assert found == declared


def test_a_work_folder_that_is_a_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["1"], "text": ["text"]}), tmp_path / "a.parquet")
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nsource: {parquet: a.parquet}\nsteps: []\n")
    assert main(["run", str(path), "--work", str(path), "--workers", "1"]) == 2
    assert "cannot be made" in capsys.readouterr().err
