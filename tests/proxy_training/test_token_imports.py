"""Tokens of other tools, from files written here as those tools write them."""

import gzip
import io
import json
import struct
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.tokens.token_imports import TokenFormat, import_tokens, read_megatron
from curate.proxy_training.tokens.tokenizer import encode_documents, load_tokenizer

from .conftest import sentences

END = 0


@pytest.fixture(scope="module")
def documents(world: Path) -> list[list[int]]:
    return encode_documents(load_tokenizer(world / "tokenizer.json"), sentences(8, 40))


def write_megatron(prefix: Path, sequences: list[list[int]], *, borders: list[int], dtype: str = "<u2") -> Path:
    """The pair of files as Megatron-LM's IndexedDatasetBuilder leaves them."""
    code = {"<u2": 8, "<i4": 4}[dtype]
    arrays = [np.array(some, dtype) for some in sequences]
    prefix.with_suffix(".bin").write_bytes(b"".join(some.tobytes() for some in arrays))
    lengths = np.array([len(some) for some in arrays], "<i4")
    places = np.cumsum([0, *(some.nbytes for some in arrays)])[:-1].astype("<i8")
    header = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(arrays), len(borders))
    index = header + lengths.tobytes() + places.tobytes() + np.array(borders, "<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(index)
    return prefix.with_suffix(".bin")


def write_shard(path: Path, sequences: list[list[int]], *, packed: bool = True) -> Path:
    """A tar as WebDataset's TarWriter leaves it: a member a sequence."""
    with tarfile.open(path, "w") as archive:
        for number, ids in enumerate(sequences):
            content = json.dumps(ids).encode()
            content = gzip.compress(content) if packed else content
            member = tarfile.TarInfo(f"{number:08}.json.gz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def imported(world: Path, kind: TokenFormat, files: list[Path], out: Path) -> TokenizedDataset:
    return import_tokens(kind, files, name="d", fingerprint="f", tokenizer=world / "tokenizer.json", out=out)


def cut_at_ends(packed: TokenizedDataset) -> list[list[int]]:
    stream = np.array(packed.stream())
    assert stream[-1] == END
    return sorted(some[:-1].tolist() for some in np.split(stream, np.flatnonzero(stream == END) + 1)[:-1])


@pytest.mark.parametrize("dtype", ["<u2", "<i4"])
def test_megatrons_documents_are_those_of_its_index(
    world: Path, tmp_path: Path, documents: list[list[int]], dtype: str
) -> None:
    sequences = [
        documents[0][:3],
        documents[0][3:],
        [*documents[1], END],
        *documents[2:],
    ]  # the first one is cut in two
    file = write_megatron(tmp_path / "d", sequences, borders=[0, 2, *range(3, len(sequences) + 1)], dtype=dtype)
    packed = imported(world, "megatron", [file], tmp_path / "packed")
    assert cut_at_ends(packed) == sorted(documents)
    assert (packed.documents, packed.tokens) == (40, sum(map(len, documents)) + 40)
    assert packed.text_bytes == 0  # nobody knows
    stamp = (packed.folder / "tokens.bin").stat().st_mtime_ns
    assert imported(world, "megatron", [tmp_path / "d.idx"], tmp_path / "packed") == packed
    assert (packed.folder / "tokens.bin").stat().st_mtime_ns == stamp


def test_dclms_sequences_come_whole_and_without_padding(
    world: Path, tmp_path: Path, documents: list[list[int]]
) -> None:
    base = load_tokenizer(world / "tokenizer.json").get_vocab_size(with_added_tokens=False)
    sequences = [*documents[:-2], [*documents[-2], -1, -1], [*documents[-1], -2, *[base + 2] * 9]]
    shards = []
    for number, (first, last) in enumerate(pairwise([0, 7, 25, 40])):
        shards.append(write_shard(tmp_path / f"{number:08}.tar", sequences[first:last], packed=number != 1))
    packed = imported(world, "dclm", shards, tmp_path / "packed")
    assert cut_at_ends(packed) == sorted(documents)
    whole = imported(world, "dclm", [write_shard(tmp_path / "all.tar", sequences)], tmp_path / "whole")
    assert (whole.folder / "tokens.bin").read_bytes() == (packed.folder / "tokens.bin").read_bytes()


def test_bad_token_files_are_named(world: Path, tmp_path: Path) -> None:
    def pair(name: str, **changes: bytes) -> Path:
        file = write_megatron(tmp_path / name, [[1, 2], [3]], borders=[0, 1, 2])
        for suffix, content in changes.items():
            file.with_suffix(f".{suffix}").write_bytes(content)
        return file

    index = pair("good").with_suffix(".idx").read_bytes()
    lonely = tmp_path / "lonely.bin"
    lonely.write_bytes(b"12")
    (tmp_path / "junk.tar").write_bytes(b"no tar " * 200)
    bad: dict[str, tuple[TokenFormat, Path]] = {
        r"lonely\.idx: cannot be read": ("megatron", lonely),
        r"absent\.bin: no such file": ("megatron", tmp_path / "absent.bin"),
        r"magic\.idx: not an index": ("megatron", pair("magic", idx=b"TNTIDX\0\0\0" + index[9:])),
        r"floats\.idx: version 1 with integers of code 7": (
            "megatron",
            pair("floats", idx=index[:17] + b"\7" + index[18:]),
        ),
        r"cut\.idx: cut short": ("megatron", pair("cut", idx=index[:-9])),
        r"short\.idx: points outside of short\.bin": ("megatron", pair("short", bin=b"12")),
        r"large\.bin: holds the token id 60000": (
            "megatron",
            write_megatron(tmp_path / "large", [[60000]], borders=[0, 1]),
        ),
        r"'d' holds no tokens": ("megatron", write_megatron(tmp_path / "empty", [], borders=[0])),
        r"junk\.tar: cannot be read as a tar": ("dclm", tmp_path / "junk.tar"),
        r"odd\.tar, member 00000000\.json\.gz: .*not a list": ("dclm", write_shard(tmp_path / "odd.tar", [{"a": 1}])),  # type: ignore[list-item]
        r"true\.tar, .*whole numbers": ("dclm", write_shard(tmp_path / "true.tar", [[1, True]])),
        r"huge\.tar, ": ("dclm", write_shard(tmp_path / "huge.tar", [[10**30]])),
        r"negative\.tar: holds the token id -7": ("dclm", write_shard(tmp_path / "negative.tar", [[-7]])),
    }
    for message, (kind, file) in bad.items():
        with pytest.raises(InputError, match=message):
            imported(world, kind, [file], tmp_path / "out")
        assert not (tmp_path / "out" / "tokens.json").exists()


def test_an_index_may_leave_out_its_last_border(tmp_path: Path) -> None:
    file = write_megatron(tmp_path / "d", [[1, 2], [3], [4]], borders=[0, 2])
    assert [some.tolist() for batch in read_megatron(file) for some in batch] == [[1, 2, 3], [4]]
