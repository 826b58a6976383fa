"""Mutations of bytes, text, trees and whole formats. All draws come from the `random.Random` that is given.

`mutated(dice, kind, data, other)` damages one input as the web, a bad disk or an enemy would: bits, blocks, splices,
lengths and counts at their extremes, lines and fields moved about, compressed streams broken from outside or made
anew around broken content. Knowing the format takes the damage past the first check.
"""

import gzip
import json
import random
import re
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import yaml
import zstandard

MOST_BYTES = 512 << 10
"""No input is larger: the fuzzer is after odd bytes; bombs are tests of their own."""

EXTREMES = ["0", "-1", "1", "00", "2147483647", "4294967296", "9223372036854775808", "99999999999999999999", "1e400",
            "0x10", "٣", "NaN", "-0", "1_000", ".5", "18446744073709551615", "127", "-9223372036854775809"]  # fmt: skip
WORDS: dict[str, list[bytes]] = {
    "warc": [
        b"WARC/1.0\r\n", b"WARC/1.1\r\nWARC-Type: response\r\n", b"\r\n\r\n", b"\n\n", b"Content-Length: ",
        b"\r\n \r\n", b"WARC-Type: resource", b"WARC-Type: conversion", b"WARC-Record-ID: <urn:uuid:1>",
        b"HTTP/1.1 200 OK\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: br, zstd, deflate\r\n", b"Content-Type: text/html; charset=utf-7\r\n", b"FFFFFFFF\r\n",
        b"0\r\n\r\n", b"\x00", b"\xef\xbb\xbf", b"WARC-Target-URI: file:///etc/passwd\r\n",
        b"WARC-Filename: ../../x\r\n", b"\x1f\x8b\x08",
    ],
    "jsonl": [
        b'"text"', b'"id"', b"\\ud800", b"\\u0000", b"{", b"}", b"[" * 2000, b"null", b"\n", b"\r\n", b"1e999", b"\xff",
        b'{"text": "x"}\n', b"\xef\xbb\xbf", b'"extra"', b"-", b"9" * 400, b'{"id": {}, "text": []}', b"\x00",
    ],
    "yaml": [
        b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system ['true']", b"!!int ", b"!!binary x", b"- ",
        b": ", b"{", b"}", b"[", b"]", b"|\n", b"? ", b"---\n", b"\t", b"null", b".inf", b".nan", b"-.inf", b"yes",
        b"2020-99-99", b"!!timestamp ", b"!!set {a}", b"!!omap [a: 1]", b"'", b'"', b"\x00", b"\xff\xfe", b"#",
        b"../", b"0o17", b"~", b"@", b"\\x", b"source", b"steps", b"name", b"artifacts", b"output",
        b"curate.steps.Step", b"\xed\xa0\x80", b"%YAML 9.9\n", b"190:20:30", b"1" * 5000, b"!!float 1_",
    ],
    "bytes": [
        b"\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80" * 9 + b"\x01", b"PAR1", b"\x28\xb5\x2f\xfd",
        b"\x1f\x8b\x08\x00", b"\x04\x22\x4d\x18", b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
    ],
}  # fmt: skip
SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", " ", "x", "a" * 5000, "\u202e", "é", "\U0001f600", "../../x", "/", "~", "s3://x/y", "x\ny", "\x00", "{}", [],
    {}, [[]], {"a": {}}, ["a", 1], {"text": 1}, "10%", "-5%", "1e14", "curate.steps.Step", "warc", "materialise", "*",
    "[", "**",
]  # fmt: skip
NAMES: list[Any] = ["x", "files", "text", "model", "sample", 1, None, True, "a\nb", "curate.steps.Step"]

Mutation = Callable[[random.Random, bytearray, list[bytes]], None]


def _flip(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    for _ in range(dice.choice([1, 1, 1, 2, 8])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _overwrite(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    start, length = dice.randrange(len(data)), dice.choice([1, 1, 2, 4, 8, 64, 512])
    length = min(length, len(data) - start)
    data[start : start + length] = dice.choice([dice.randbytes(length), bytes(length), b"\xff" * length])


def _delete(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.choice([1, 2, 4, 16, 100, 1000, 20_000])]


def _copy(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    start, length = dice.randrange(len(data)), dice.choice([1, 4, 16, 100, 1000, 20_000])
    block = bytes(data[start : start + length]) * dice.choice([1, 1, 2, 20])
    place = dice.randrange(len(data))
    data[place:place] = block


def _insert(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    place = dice.randrange(len(data) + 1)
    data[place:place] = dice.choice([dice.randbytes(dice.choice([1, 4, 64])), dice.choice(words)])


def _truncate(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    if dice.random() < 0.8:
        del data[dice.randrange(len(data)) :]
    else:
        del data[: dice.randrange(len(data))]


def _number(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    """A number in text to an extreme one."""
    places = [found.span() for found in re.finditer(rb"\d+", data[: 1 << 16])]
    if not places:
        return _flip(dice, data, words)
    start, end = dice.choice(places)
    data[start:end] = dice.choice([*EXTREMES, str(int(data[start:end][:18]) + dice.choice([-1, 1, 10]))]).encode()
    return None


def _length(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    """Four or eight bytes that may be a length, little-endian, to an extreme one."""
    width = dice.choice([2, 4, 4, 8])
    start = dice.choice([0, dice.randrange(len(data)), max(0, len(data) - 8), dice.randrange(min(64, len(data)))])
    value = dice.choice(
        [0, 1, (1 << (8 * width)) - 1, (1 << (8 * width - 1)) - 1, dice.getrandbits(8 * width), len(data)]
    )
    data[start : start + width] = (value % (1 << (8 * width))).to_bytes(width, "little")


def _lines(dice: random.Random, data: bytearray, words: list[bytes]) -> None:
    """Lines deleted, doubled, swapped, indented."""
    lines = bytes(data).split(b"\n")
    first, second = dice.randrange(len(lines)), dice.randrange(len(lines))
    kind = dice.randrange(4)
    if kind == 0:
        del lines[first]
    elif kind == 1:
        lines[second:second] = [lines[first]] * dice.choice([1, 2, 50])
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first] = dice.choice([b" ", b"  ", b"\t", b"- "]) + lines[first]
    data[:] = b"\n".join(lines)


ANYWHERE: list[Mutation] = [_flip, _overwrite, _delete, _copy, _insert, _truncate, _length]
IN_TEXT: list[Mutation] = [*ANYWHERE, _number, _number, _lines, _lines, _insert]


def damaged(dice: random.Random, data: bytes, *, words: str, text: bool) -> bytes:
    """One to five mutations in a row; most often one."""
    held = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 5])):
        if not held:
            held += dice.choice(WORDS[words])
        dice.choice(IN_TEXT if text else ANYWHERE)(dice, held, WORDS[words])
    return bytes(held[:MOST_BYTES])


def spliced(dice: random.Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one input and the end of another."""
    return one[: dice.randrange(len(one) + 1)] + other[dice.randrange(len(other) + 1) :]


def tree(dice: random.Random, value: Any) -> Any:
    """Nested data with one place replaced, removed, doubled or moved a level."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []:
            places.append((node, key))
            collect(node[key])

    collect(value)
    if not places:
        return dice.choice(SCALARS)
    node, key = dice.choice(places)
    kind = dice.randrange(6)
    if kind <= 2:
        node[key] = dice.choice(SCALARS)
    elif kind == 3:
        del node[key]
    elif kind == 4:
        from_node, from_key = dice.choice(places)
        node[key] = json.loads(json.dumps(from_node[from_key], default=str)) if from_key in _keys(from_node) else None
    elif isinstance(node, dict):
        node[dice.choice(NAMES)] = dice.choice(SCALARS)
    else:
        node.append(dice.choice(SCALARS))
    return value


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _yaml(dice: random.Random, data: bytes) -> bytes:
    if dice.random() < 0.5:
        return damaged(dice, data, words="yaml", text=True)
    try:
        value = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, AttributeError, TypeError):
        return damaged(dice, data, words="yaml", text=True)
    for _ in range(dice.choice([1, 1, 2, 3])):
        value = tree(dice, value)
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def _json_lines(dice: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    if dice.random() < 0.5:
        return damaged(dice, data, words="jsonl", text=True)
    place = dice.randrange(len(lines))
    try:
        value = tree(dice, json.loads(lines[place]))
    except (ValueError, RecursionError):
        return damaged(dice, data, words="jsonl", text=True)
    lines[place] = json.dumps(value).encode()
    return b"\n".join(lines)


def _parquet(dice: random.Random, data: bytes) -> bytes:
    if len(data) < 12 or dice.random() < 0.4:
        return damaged(dice, data, words="bytes", text=False)
    held = bytearray(data)
    footer = int.from_bytes(held[-8:-4], "little")
    start = max(0, len(held) - 8 - footer)
    kind = dice.randrange(3)
    if kind == 0:  # numbers of the footer: varints and the types of thrift fields
        for _ in range(dice.choice([1, 1, 2, 4])):
            held[dice.randrange(start, len(held))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
    elif kind == 1:  # page headers and the first bytes of pages
        for _ in range(dice.choice([1, 2, 4])):
            held[min(len(held) - 1, 4 + dice.randrange(max(1, min(400, start))))] = dice.randrange(256)
    else:  # a footer of another length, with the length put right
        place = dice.randrange(start, max(start + 1, len(held) - 8))
        block = dice.choice([dice.choice(WORDS["bytes"]), b""])
        held[place : place + dice.choice([0, 1, 4, 30])] = block
        held[-8:-4] = (len(held) - 8 - start).to_bytes(4, "little", signed=True) if len(held) - 8 >= start else bytes(4)
    return bytes(held)


def _lz4(data: bytes) -> bytes:
    return pa.Codec("lz4").compress(data, asbytes=True)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "zst": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
    "lz4": _lz4,
}


def unpacked(codec: str, data: bytes) -> bytes:
    """What can be decompressed of `data`, as far as MOST_BYTES."""
    out = b""
    try:
        if codec == "gz":
            while data.startswith(b"\x1f\x8b") and len(out) < MOST_BYTES:
                inflater = zlib.decompressobj(wbits=31)
                out += inflater.decompress(data, MOST_BYTES)
                data = inflater.unused_data
        elif codec == "zst":
            out = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(data).read(MOST_BYTES)
        else:
            out = pa.CompressedInputStream(pa.BufferReader(data), "lz4").read(MOST_BYTES)
    except (zlib.error, zstandard.ZstdError, OSError, ValueError):
        pass  # what could be read is enough to go on with
    return out


def packed(dice: random.Random, codec: str, data: bytes) -> bytes:
    """Compressed: as one stream, or (gzip) as one member a WARC record, as crawlers do."""
    if codec != "gz" or dice.random() < 0.4:
        return PACK[codec](data)
    return b"".join(PACK[codec](piece) for piece in re.split(rb"(?=WARC/\d\.\d\r?\n)", data) if piece)


def mutated(dice: random.Random, kind: str, data: bytes, other: bytes) -> bytes:
    """Another input of `kind` (a name such as `warc.gz`) from two that are there."""
    form, _, codec = kind.partition(".")
    if dice.random() < 0.12:
        data = spliced(dice, data, other)
    if codec:
        if dice.random() < 0.5:
            return damaged(dice, data, words="bytes", text=False)
        return packed(dice, codec, mutated(dice, form, unpacked(codec, data), unpacked(codec, other)))[:MOST_BYTES]
    if form == "parquet":
        made = _parquet(dice, data)
    elif form == "jsonl":
        made = _json_lines(dice, data)
    elif form in ("recipe", "study", "ladder"):
        made = _yaml(dice, data)
    else:
        made = damaged(dice, data, words="warc", text=True)
    return made[:MOST_BYTES]
