"""One real run of the sample's recipes on one of its WARC files, cut into parts; each test works on a copy of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import cli
from curate.commands import card, diff, gc, remove, verify
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.housekeeping.datasets import Made, Published, open_dataset
from curate.sample import crawl, positives

SOURCE = 'source: {warc: {files: "crawl/*.warc.gz", part_bytes: 450KB}}'
RAW = f"""name: raw
{SOURCE}
output: {{parquet: out/raw, jsonl: out/raw-lines}}
steps:
  - extract: {{with: resiliparse}}
  - language: {{keep: [en], min_score: 0.65, max_chars: 4000}}
"""
FULL = f"""name: full
description: A test of everything.
licence: odc-by
{SOURCE}
artifacts:
  quality:
    fasttext:
      positive: [positives.parquet]
      negative: {{sample: raw, documents: 200}}
      dim: 4
      bucket: 1000
      epoch: 2
output: {{parquet: out/full}}
steps:
  - extract: {{with: resiliparse}}
  - language: {{keep: [en], min_score: 0.65, max_chars: 4000}}
  - materialise
  - gopher_quality
  - c4: {{terminal_punctuation: false}}
  - minhash: {{preset: fineweb, verify: exact, keep: longest}}
  - quality: {{model: quality, keep: {{top: 65%}}}}
"""


@dataclass(frozen=True)
class Place:
    """A copy of the run."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    def recipe(self, name: str) -> Path:
        return self.root / f"{name}.yaml"

    def made(self, name: str = "full") -> Made:
        found = open_dataset(str(self.recipe(name)), work=self.work)
        assert isinstance(found, Made)
        return found

    def published(self, name: str = "full") -> Published:
        found = open_dataset(str(self.root / "out" / name), work=self.work)
        assert isinstance(found, Published)
        return found

    def run(self, name: str = "full") -> None:
        executor = executor_for(1)
        try:
            Engine(self.work, executor).run(load_recipe(self.recipe(name)))
        finally:
            executor.close()

    def stage(self, step: str) -> Path:
        """The folder of the stage that ends with `step`."""
        (found,) = (made.folder for made in self.made().stages if made.folder.name.startswith(step))
        return Path(found)

    def table(self, folder: Path, kind: str = "part") -> pa.Table:
        files = sorted(folder.glob(f"{kind}-*.parquet"))
        return pa.concat_tables([pq.read_table(file) for file in files])

    def curate(self, *arguments: str | Path) -> int:
        return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    (root / "crawl").mkdir()
    shutil.copy2(crawl()[0], root / "crawl")
    shutil.copy2(positives(), root)
    (root / "raw.yaml").write_text(RAW)
    (root / "full.yaml").write_text(FULL)
    place = Place(root)
    place.run("raw")
    place.run("full")
    return root


@pytest.fixture
def place(_made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy that a test may change; all commands of housekeeping are hung in."""
    missing = [command for command in (gc, verify, remove, card, diff) if command not in cli.COMMANDS]
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, *missing))
    shutil.copytree(_made_once, tmp_path / "copy")
    return Place(tmp_path / "copy")


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """All files below a folder with their bytes, but for the memory of contents."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "contents.json"
        }

    return read
