"""The command line answers at once, and every error is one sentence without a traceback."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from curate.cli import main
from curate.engine.event_log import RunLogs
from curate.engine.events import Listeners

ROOT = Path(__file__).resolve().parents[1]
SIZES = (10**7, 3 * 10**7, 10**8, 3 * 10**8, 10**9)


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


@pytest.mark.parametrize("command", ["demo", "study", "run", "why", "compare", "backtest", "plan"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "usage: curate" in said
    if command in ("compare", "backtest", "plan"):
        assert f"examples:\n  curate {command} " in said


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


def results(folder: Path, name: str = "results.csv") -> Path:
    path = folder / name
    rows = [f"{d},loss,{3 + 400 / n**0.34 + gap},{n},{20 * n}" for d, gap in (("a", 0), ("b", 0.1)) for n in SIZES]
    path.write_text("\n".join(["dataset,metric,value,params,tokens", *rows]) + "\n")
    return path


def test_a_comparison_says_what_it_filled_in_and_writes_figures_on_one_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, data = tmp_path / "sheet.svg", tmp_path / "verdict.json"
    command = ["compare", str(results(tmp_path)), "--figures", str(sheet), "--json", str(data), "--bootstraps", "100"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "a > b" in said
    assert "note: flops of 10 rows filled in as 6 x params x tokens" in said
    assert "note: loss: lower is better (from its name)" in said
    assert sheet.exists()
    assert json.loads(data.read_text())["lines"][0] in said


def test_an_example_is_compared_by_its_own_law(tmp_path: Path) -> None:
    for given, law in (([], "chinchilla"), (["--law", "power"], "power")):
        assert (
            main(["compare", "--example", "gadre", "--bootstraps", "100", "--json", str(tmp_path / "v.json"), *given])
            == 0
        )
        assert json.loads((tmp_path / "v.json").read_text())["law"] == law


def test_a_folder_to_write_to_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, option in (("compare", "--report"), ("compare", "--json"), ("backtest", "--json"), ("plan", "--json")):
        assert main([command, str(results(tmp_path)), option, str(tmp_path)]) == 2
        out, error = capsys.readouterr()
        assert "is a folder; name a file to write" in error
        assert not out
    assert main(["compare", str(results(tmp_path)), "--figures", str(results(tmp_path))]) == 2
    assert "is a file; name a folder for figures, or FILE.pdf" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    Listeners([logs]).emit("run_started", recipe="a.yaml", name="a", fingerprint="f", stages=[])
    logs.close()
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "curate.cli", "status", "--json", "--work", str(tmp_path)]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_folder_in_place_of_a_recipe_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path)]) == 2
    assert "is a folder; name the YAML file in it" in capsys.readouterr().err
