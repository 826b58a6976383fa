"""Limits: bombs cost a stated amount of memory and time, wherever they are hidden; odd names are names.

Memory is measured in a child process (the peak of its resident memory over what it had), under RLIMIT_AS.
"""

import gzip
import json
import os
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.errors import InputError, RecipeError
from curate.readers import READERS, JsonlReader, WarcReader, list_files
from curate.readers.http import MAX_WINDOW, Response, TooLargeError, body
from curate.yamlfile import load_yaml
from tests.readers.hostile import http, member, warc_record

MB = 1 << 20
MORE_MB = 200
"""Megabytes of memory that reading a bomb of 2 GB may add, with records of at most 32 MB."""
READ = """
    import resource, sys
    from curate.readers import READERS, list_files
    from pathlib import Path
    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if "VmHWM" in line).split()[1])
    kind, path = sys.argv[1:]
    list(READERS["jsonl"]().read(list_files(str(Path(path).parent / "warm.jsonl"))[0]))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    before, rows, failed = peak(), 0, 0
    for read in READERS[kind]().read(list_files(path)[0]):
        rows += len(read.batch)
        failed += read.refused.num_rows
    print(rows, failed, (peak() - before) >> 10)
"""


def _zeros(codec: str, size: int) -> bytes:
    """`size` zeros, compressed without ever being whole."""
    if codec == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join(packer.compress(bytes(MB)) for _ in range(size // MB)) + packer.flush()
    if codec == "zstd":
        long = zstandard.ZstdCompressor(level=1).compressobj()
        return b"".join(long.compress(bytes(MB)) for _ in range(size // MB)) + long.flush()
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        for _ in range(size // MB):
            stream.write(bytes(MB))
    return bytes(sink.getvalue())


QUICK = ("zstd.warc", "page.parquet")
"""The others take tens of seconds on a busy machine."""
BOMB = 2 << 30
CASES: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "x.jsonl.gz": ("jsonl", lambda: member(b'{"text": "a"}\n') + _zeros("gzip", BOMB), 1),
    "x.jsonl.zst": ("jsonl", lambda: _zeros("zstd", BOMB), 1),
    "x.jsonl.lz4": ("jsonl", lambda: _zeros("lz4", BOMB), 1),
    "x.warc.gz": ("warc", lambda: _zeros("gzip", BOMB), 1),
    "length.warc.gz": ("warc", lambda: member(warc_record(0, b"", length=BOMB)[:-4]) + _zeros("gzip", BOMB), 1),
    "body.warc.gz": ("warc", lambda: member(_body("gzip", _zeros("gzip", BOMB))), 1),
    "deflate.warc.gz": ("warc", lambda: member(_body("deflate", _zeros("gzip", BOMB)[10:-8])), 1),
    "zstd.warc": ("warc", lambda: _body("zstd", _zeros("zstd", BOMB)), 1),
    "nested.warc": ("warc", lambda: _body("gzip, gzip", gzip.compress(_zeros("gzip", BOMB))), 1),
    "page.parquet": ("parquet", lambda: _page_bomb(), 1),
}


def _body(encoding: str, payload: bytes) -> bytes:
    return warc_record(0, http(payload, headers=f"Content-Type: text/html\r\nContent-Encoding: {encoding}"))


def _page_bomb() -> bytes:
    """One text of 300 MB in a page of 10 KB."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["y" * (300 * MB)]}), sink, compression="zstd", use_dictionary=False)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_bomb_of_two_gigabytes_costs_a_bounded_amount_of_memory(name: str, tmp_path: Path) -> None:
    kind, make, failed = CASES[name]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "warm.jsonl").write_text('{"text": "a"}\n')
    assert (tmp_path / name).stat().st_size < 12 * MB
    command = [sys.executable, "-c", textwrap.dedent(READ), kind, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    rows, refused, more = map(int, done.stdout.split())
    assert refused == failed and rows <= 1
    assert more < MORE_MB, f"{more} MB more"


def _decoded(encoding: str, payload: bytes, *, limit: int = 4 * MB) -> bytes:
    return body(Response(200, {"content-encoding": encoding}, payload), max_bytes=limit)


def test_windows_larger_than_a_response_needs_are_refused() -> None:
    made = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27))
    long = made.compressobj()
    payload = long.compress(b"<p>" + bytes(MB)) + long.flush()
    assert MAX_WINDOW < 1 << 27
    with pytest.raises(ValueError, match="zstd cannot be decoded"):
        _decoded("zstd", payload)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_decoding_ends_one_byte_beyond_the_limit(encoding: str) -> None:
    import brotli  # type: ignore[import-untyped]

    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress, "br": brotli.compress}[
        encoding
    ]
    assert _decoded(encoding, pack(b"<p>" + bytes(997)), limit=1000) == b"<p>" + bytes(997)
    with pytest.raises(TooLargeError, match="more than max_record_bytes = 1,000"):
        _decoded(encoding, pack(b"<p>" + bytes(998)), limit=1000)


@pytest.mark.parametrize(
    "case", ["empty gzip members", "chunks of one byte", "folded header", "chunk extensions", "header without end"]
)
def test_a_response_that_makes_work_is_done_in_seconds(case: str, tmp_path: Path) -> None:
    html = "Content-Type: text/html"
    blocks = {
        "empty gzip members": http(
            member(b"") * 400_000 + member(b"<p>x"), headers=f"{html}\r\nContent-Encoding: gzip"
        ),
        "chunks of one byte": http(b"1\r\nx\r\n" * 1_000_000, headers=f"{html}\r\nTransfer-Encoding: chunked"),
        "folded header": http(b"<p>x", headers=f"{html}\r\nX: a" + "\r\n b" * 1_000_000),
        "chunk extensions": http(b"1;" * 4_000_000, headers=f"{html}\r\nTransfer-Encoding: chunked"),
        "header without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000,
    }
    (tmp_path / "x.warc").write_bytes(warc_record(0, blocks[case]))
    began = time.process_time()
    (read,) = WarcReader().read(list_files(str(tmp_path / "x.warc"))[0])
    assert len(read.batch) + read.refused.num_rows == 1
    assert time.process_time() - began < 5


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]\n" for last, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 5_000)}]\n",
        "a: " + "[" * 60_000,
        "a: " + "{a: " * 20_000,
        "[],\n" * 500_000,
        "a: &a [*a]\n",
        "a: " + "9" * 120_000,
        "a: 0b" + "1" * 100_000,
        "a: !!float " + "9" * 100_000,
        "a: " + "1:" * 30_000 + "1",
        "? " * 60_000,
    ],
    ids=["billion laughs", "long text", "deep lists", "deep maps", "large file", "own alias", "digits", "bits", "float",
         "sexagesimal", "keys"],
)  # fmt: skip
def test_yaml_bombs_are_one_sentence_in_seconds(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"bomb\.yaml"):
        load_recipe(path)
    assert time.process_time() - began < 8


def test_yaml_makes_plain_data_only(tmp_path: Path) -> None:
    objects = ["object/apply:os.system [id]", "name:os.system", "module:os", "tuple [1]"]
    for tag in [*(f"python/{name}" for name in objects), "set {a}", "omap [b: 1]"]:
        (tmp_path / "x.yaml").write_text(f"a: !!{tag}\n")
        with pytest.raises(RecipeError, match=r"could not determine a constructor|means nothing here"):
            load_yaml(tmp_path / "x.yaml")
    with pytest.raises(yaml.YAMLError):  # the check is PyYAML's own: only its SafeLoader is ever used
        yaml.safe_load("a: !!python/name:os.system")


def test_endless_files_are_not_read_to_their_end(tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with pytest.raises(RecipeError, match="larger than"):
        load_yaml(tmp_path / "zero.yaml")


def test_many_tiny_files_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(600):
        (tmp_path / "in" / f"{number:05d}.jsonl").write_text('{"text": "one two"}\n')
    (tmp_path / "r.yaml").write_text("name: r\nsource: {jsonl: in}\nsteps: []\n")
    began = time.process_time()
    dataset = Engine(tmp_path / "work", executor_for(1)).run(load_recipe(tmp_path / "r.yaml"))
    assert dataset.documents == 600 and len(dataset.parts) < 20
    assert time.process_time() - began < 30


NAMES = [
    "new\nline.jsonl", "esc\x1b[31m.jsonl", "bidi\u202egnp.jsonl", "quote'\".jsonl", "-rf.jsonl", "$(id).jsonl",
    "sp ace.jsonl", "é\u0301.jsonl", "日本.jsonl", "\U0001f600.jsonl", "<script>.jsonl", "a..b.jsonl", "%2e%2e.jsonl",
    "[x].jsonl", "back\\slash.jsonl", "~.jsonl", "a" * 240 + ".jsonl",
]  # fmt: skip


def test_odd_file_names_are_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / name).write_text('{"text": "one two"}\nbroken\n')
    (tmp_path / "r.yaml").write_text("name: r\nsource: {jsonl: in/*.jsonl}\nsteps: []\n")
    dataset = Engine(tmp_path / "work", executor_for(1)).run(load_recipe(tmp_path / "r.yaml"))
    ledger = pa.concat_tables([pq.read_table(path) for path in dataset.stages[0].ledgers])
    assert sorted(ledger["source"].to_pylist()) == sorted(NAMES * 2)
    assert not [path for path in tmp_path.iterdir() if path.name not in ("in", "work", "r.yaml")]


def test_a_name_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "a"}\n')
    with pytest.raises(InputError, match=r"no UTF-8 text; rename it"):
        list_files(str(tmp_path / "*.jsonl"))


@pytest.mark.parametrize("pattern", ["**/*.jsonl", "./in/../in/*.jsonl", "in/*", "in"])
def test_patterns_name_files_once_and_by_their_own_names(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("")
    (file,) = list_files(pattern, base=tmp_path)
    assert ".." not in file.name and file.name.endswith("a.jsonl") and not file.name.startswith("/")


def test_deep_and_huge_json_is_one_failed_row_each(tmp_path: Path) -> None:
    lines = [
        b'{"text": "x", "a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"text": "x", "a": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b'{"text": "x", "n": ' + b"9" * 5_000_000 + b"}",
        b'{"text": "x", "n": 1' + b"0" * 400 + b"}",
        json.dumps({"text": "fine", "n": 2**64 - 1}).encode(),
    ]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    (read,) = JsonlReader().read(list_files(str(tmp_path / "x.jsonl"))[0])
    assert len(read.batch) + read.refused.num_rows == len(lines)
    assert "fine" in read.batch.texts.to_pylist()


def test_every_reader_has_a_limit_of_a_record() -> None:
    assert all(reader().max_record_bytes == 32 * MB for reader in READERS.values())  # type: ignore[attr-defined]
