"""A small run with an exchange and an output, and a fault at any one of its writes: raised, or the end of the process.

`crash_points.py FOLDER STRIDE`: the run in FOLDER dies (os._exit, in a fork of this process, which never runs anything
itself) before and after each STRIDE-th file is put in its place, and is run again; prints a line for each that differs.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine

RECIPE = """name: test
source: {{parquet: {{files: "{corpus}/*.parquet", part_bytes: none}}}}
output: {{jsonl: out}}
steps:
  - own_steps.MinChars: {{chars: 5}}
  - minhash
  - own_steps.Shout
"""


@dataclass(frozen=True)
class Small:
    """The recipe over two files; beside it a publication of three, over which its output is written."""

    folder: Path

    def write(self) -> None:
        """The corpora, their recipes, and what is published before each run."""
        for corpus, files in (("corpus", 2), ("longer", 3)):
            (self.folder / corpus).mkdir(parents=True)
            for number in range(files):
                texts = ["x", *(f"{corpus[:number]} river stone window garden letter {row % 3}" for row in range(5))]
                table = pa.table({"id": [f"doc-{number}-{row}" for row in range(6)], "text": texts})
                pq.write_table(table, self.folder / corpus / f"file-{number}.parquet")
            (self.folder / f"{corpus}.yaml").write_text(RECIPE.format(corpus=corpus))

    @property
    def out(self) -> Path:
        """What is published."""
        return self.folder / "out"

    def run(self, work: Path, recipe: str = "corpus") -> None:
        """The run, in this process."""
        Engine(work, executor_for(1)).run(load_recipe(self.folder / f"{recipe}.yaml"))

    def again(self) -> Path:
        """A new work folder, and the earlier publication in place."""
        work, before = self.folder / "work", self.folder / "before"
        for folder in (work, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, self.out)
        return work

    def made(self, work: Path) -> dict[str, str]:
        """Hash of every data file; of the output every name that is no hidden one."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in (work, self.out)
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".parquet", ".arrow", ".gz")
        } | {"manifest": str((self.out / "manifest.json").exists())}


@contextlib.contextmanager
def fault(number: int, act: Callable[[], None], *, after: bool = False) -> Iterator[list[str]]:
    """`act` before (or after) the `number`-th change of a name on the disk: a file put in its place, or removed, or a
    folder made."""
    changed: list[str] = []
    replace, unlink, mkdir = os.replace, os.unlink, os.mkdir

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(path: Any, *args: Any, **more: Any) -> Any:
            if change is mkdir and os.path.isdir(path):
                return change(path, *args, **more)
            changed.append(f"{change.__name__} {path}")
            if len(changed) == number and not after:
                act()
            result = change(path, *args, **more)
            if len(changed) == number and after:
                act()
            return result

        return changing

    os.replace, os.unlink, os.mkdir = watched(replace), watched(unlink), watched(mkdir)
    try:
        yield changed
    finally:
        os.replace, os.unlink, os.mkdir = replace, unlink, mkdir


def full() -> None:
    """The disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forked(work: Callable[[], None]) -> int:
    """`work` in a fork of this process; its exit code."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
        os._exit(0)
    finally:  # whatever was raised
        os._exit(1)


def main(folder: str, stride: str) -> int:
    """Die at every point, go on, compare."""
    small = Small(Path(folder))
    results = small.folder / "results"

    def go_on(work: Path) -> None:
        small.run(work)
        results.write_text(repr(small.made(work)))

    work = small.again()
    assert forked(lambda: go_on(work)) == 0
    wanted = results.read_text()
    for after in (False, True):
        number = int(stride)
        while True:
            work = small.again()
            with fault(number, lambda: os._exit(9), after=after):
                if forked(lambda: small.run(work)) != 9:  # noqa: B023 - called at once
                    break
            results.unlink(missing_ok=True)
            again = forked(lambda: go_on(work))  # noqa: B023
            if again or results.read_text() != wanted:
                print(f"{'after' if after else 'before'} change {number}: not the same, exit code {again}")
            number += int(stride)
        print(f"{number - 1} changes of names at most")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
