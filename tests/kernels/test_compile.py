"""Kernels are cached, and a cache made from other sources is never used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import curate
from curate.kernels import compile, hashing
from curate.kernels.compile import kernel, source_stamp
from curate.kernels.hashing import _hash_texts

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, pyarrow as pa
from curate.kernels import hashing
print(hashing.__file__)
print(hashing.hash_strings(pa.array(["a", "b" * 20]))[1])
print(sum(hashing._hash_texts.stats.cache_hits.values()))
"""


def run(root: Path) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root)], capture_output=True, text=True, check=True, env=environment
    )
    lines = done.stdout.split()
    assert Path(lines[0]).is_relative_to(root)
    return lines[1:]


def test_a_change_in_an_inlined_file_is_never_hidden_by_the_cache(tmp_path: Path) -> None:
    source = Path(curate.__file__).parent
    target = tmp_path / "curate"
    shutil.copytree(source / "kernels", target / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "errors.py"):
        shutil.copy(source / name, target / name)
    first = run(tmp_path)
    assert first[1] == "0"
    assert run(tmp_path) == [first[0], "1"]
    memory = target / "kernels" / "memory.py"
    before = memory.read_text()
    after = before.replace(
        "return load(builder, arguments[0], WORD)", "return builder.not_(load(builder, arguments[0], WORD))"
    )
    assert after != before
    memory.write_text(after)
    changed = run(tmp_path)
    assert changed[1] == "0"
    assert changed[0] != first[0]


def test_a_kernel_works_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])

    def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    with pytest.raises(RuntimeError):
        numba.njit(cache=True)(add)
    assert kernel(add)(1, 2) == 3


def test_all_kernels_carry_the_stamp_of_their_sources() -> None:
    assert _hash_texts._cache._cache_file._source_stamp == source_stamp(Path(hashing.__file__))


def test_a_kernel_is_compiled_again_only_for_files_that_it_may_consist_of(tmp_path: Path) -> None:
    def stamp_after(change: str) -> str:
        for name in ("a", "b", "c", "d"):
            imports = {"a": "from curate.kernels.b import thing\n", "b": "from curate.kernels import (\n    c,\n)\n"}
            text = imports.get(name, "") + ("# changed\n" if name == change else "")
            (tmp_path / f"{name}.py").write_text(text)
        compile._source.cache_clear()
        source_stamp.cache_clear()
        return source_stamp(tmp_path / "a.py")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile, "_FOLDER", tmp_path)
        before = stamp_after("")
        assert [stamp_after(name) != before for name in ("a", "b", "c", "d")] == [True, True, True, False]
    compile._source.cache_clear()
    source_stamp.cache_clear()
