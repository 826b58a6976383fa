"""From a dataset to one flat file of tokens, and from the file to training sequences.

A packed folder holds `tokens.bin` (uint16, or uint32 for vocabularies above 65,536), `tokenizer.json` (a copy,
so that the folder explains itself) and `tokens.json` (counts and fingerprints, written last: without it the
folder does not count). Documents stand in the order of a seeded hash of their id, so neighbours of one source
do not cluster and the file does not depend on how the dataset was cut into parts; each is followed by
`<|endoftext|>`. Sequences of T+1 tokens are windows at multiples of T, visited in a seeded permutation, another
one in each epoch. Costs: the tokens are written twice (a spool in dataset order, then the shuffled file);
memory is one batch plus 32 bytes a document.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError, MismatchError
from curate.fingerprints import file_fingerprint, write_json
from curate.fingerprints import fingerprint as fingerprint_of
from curate.progress import Progress
from curate.proxy_training.tokenizer import END_OF_TEXT, encode_documents, load_tokenizer, tokenizer_fingerprint

PACKING = "documents by seeded hash of id, end-of-text after each, windows of T+1 at multiples of T; v1"
BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 4_000_000
ORDER_BLOCK = 4096
"""Places of the order that are computed at once: one place costs as much as a thousand, a third of a millisecond."""


@dataclass(frozen=True)
class TokenizedDataset:
    """A packed dataset on disk."""

    name: str
    """What the study calls it."""
    folder: Path
    """Where tokens.bin, tokens.json and tokenizer.json lie."""
    tokens: int
    """Tokens in the file, separators included: the unique tokens of the dataset."""
    documents: int
    """Documents packed."""
    text_bytes: int
    """UTF-8 bytes of their text."""
    vocab_size: int
    """Entries of the tokenizer."""
    dataset_fingerprint: str
    """Fingerprint of the dataset that was packed."""
    tokenizer_fingerprint: str
    """Fingerprint of the tokenizer file."""
    fingerprint: str
    """Hash of dataset, tokenizer, packing rule and seed: what a run depends on."""

    @property
    def tokenizer_path(self) -> Path:
        """The copy of the tokenizer that made the tokens."""
        return self.folder / "tokenizer.json"

    def stream(self) -> np.ndarray:
        """The tokens, memory-mapped and read-only: shape (tokens,)."""
        return np.memmap(self.folder / "tokens.bin", dtype=token_dtype(self.vocab_size), mode="r", shape=(self.tokens,))


def pack_dataset(
    parts: Sequence[Path],
    *,
    name: str,
    fingerprint: str,
    tokenizer: Path,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> TokenizedDataset:
    """Tokenise and shuffle the documents of `parts` (Parquet, string columns `id` and `text`) into the folder
    `out`.

    A folder that already holds this dataset under this tokenizer and seed is opened instead; anything else in it is
    rebuilt. Raises InputError naming file and column for input that cannot be used, and for a dataset without a
    document.
    """
    packed_fingerprint = fingerprint_of([PACKING, fingerprint, tokenizer_fingerprint(tokenizer), seed])
    if (out / "tokens.json").exists():
        try:
            packed = open_packed(out)
            if packed.fingerprint == packed_fingerprint:
                return replace(packed, name=name)
        except InputError:  # damaged: built again below
            pass
        (out / "tokens.json").unlink()
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    spool = out / "spool.bin"
    keys, lengths, text_bytes, vocab_size = _spool(
        parts, out / "tokenizer.json", spool, seed=seed, name=name, progress=progress or Progress()
    )
    digest = _shuffle(spool, out / "tokens.bin", keys, lengths, token_dtype(vocab_size))
    spool.unlink()
    facts = {
        "name": name,
        "tokens": int(lengths.sum()),
        "documents": len(lengths),
        "text_bytes": text_bytes,
        "vocab_size": vocab_size,
        "dataset_fingerprint": fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(out / "tokenizer.json"),
        "fingerprint": packed_fingerprint,
        "content": digest,
    }
    write_json(out / "tokens.json", facts)
    return open_packed(out)


def open_packed(folder: Path, *, verify: bool = False) -> TokenizedDataset:
    """Open a packed folder; with `verify` the tokens are read once and their hash compared. Raises InputError
    if damaged."""
    path = folder / "tokens.json"
    try:
        facts = json.loads(path.read_text())
        digest = facts.pop("content")
        packed = TokenizedDataset(folder=folder, **facts)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); pack the dataset first.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not the description of a packed dataset ({error}); pack it again.") from error
    binary = folder / "tokens.bin"
    expected = packed.tokens * token_dtype(packed.vocab_size).itemsize
    actual = binary.stat().st_size if binary.exists() else 0
    if actual != expected:
        raise InputError(f"{binary}: {actual} bytes, expected {expected}; pack the dataset again.")
    if verify and file_fingerprint(binary) != digest:
        raise InputError(f"{binary}: the content does not match its hash; pack the dataset again.")
    return packed


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest of uint16 and uint32 that holds the ids."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class Sequences:
    """Training sequences of a packed dataset in their seeded order; the only state is a position, the cursor.

    Window `w` is tokens [w*T, w*T + T + 1): inputs and targets overlap by T-1, every token but the first is a
    target once.
    """

    def __init__(self, packed: TokenizedDataset, *, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.windows = (packed.tokens - 1) // length
        if self.windows < 1:
            raise InputError(
                f"Dataset {packed.name!r} holds {packed.tokens} tokens, fewer than one sequence of {length + 1}."
            )
        self._stream = packed.stream()
        self._block = (0, np.empty(0, dtype=np.int64))
        """A part of the order, from the cursor that needed it first; one value, so that threads may share it."""

    def batch(self, cursor: int, count: int) -> np.ndarray:
        """Sequences cursor .. cursor+count of the order: int64, shape (count, T+1)."""
        first, order = self._block
        if cursor < first or cursor + count > first + len(order):
            places = np.arange(cursor, cursor + max(count, ORDER_BLOCK))
            first, order = self._block = (cursor, permuted_windows(places, self.windows, seed=self.seed))
        windows = order[cursor - first :][:count]
        return self._stream[windows[:, None] * self.length + np.arange(self.length + 1)].astype(np.int64)

    def epochs(self, cursor: int) -> float:
        """How often the dataset has been seen when `cursor` sequences were drawn."""
        return cursor / self.windows


def permuted_windows(positions: np.ndarray, windows: int, *, seed: int) -> np.ndarray:
    """The window at each position of an endless order: epoch e = position // windows visits each window once.

    A Feistel network over the next even number of bits, walked until it falls inside the range: a permutation
    with random access and no table, the same on every machine and in every version (Black and Rogaway 2002,
    section 4).
    """
    epochs, places = np.divmod(positions.astype(np.uint64), np.uint64(windows))
    half = np.uint64(max(1, ((windows - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    with np.errstate(over="ignore"):
        keys = _mix(_mix(np.uint64(seed & (2**64 - 1)) + np.uint64(0x9E3779B97F4A7C15)) + epochs)

    def encrypt(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        left, right = values >> half, values & mask
        for round_number in range(6):
            left, right = right, left ^ (_mix(right + keys + np.uint64(round_number << 56)) & mask)
        return (left << half) | right

    with np.errstate(over="ignore"):
        places = encrypt(places, keys)
        while (outside := places >= windows).any():
            places[outside] = encrypt(places[outside], keys[outside])
    return places.astype(np.int64)


def _mix(values: Any) -> Any:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): 64 bits in, 64 well mixed bits out."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def read_texts(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of string `columns` of a Parquet file; raises InputError naming the file, column or row that
    cannot be used."""
    try:
        file = pq.ParquetFile(path)
        for column in columns:
            if column not in file.schema_arrow.names:
                raise InputError(f"{path}: no column {column!r}; training needs {', '.join(columns)}.")
            kind = file.schema_arrow.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InputError(f"{path}: column {column!r} is {kind}, training needs strings.")
        row = 0
        for batch in file.iter_batches(batch_size=BATCH_DOCUMENTS, columns=columns):
            for column in columns:
                if batch.column(column).null_count:
                    missing = row + batch.column(column).is_null().to_pylist().index(True)
                    raise InputError(f"{path}: row {missing} has no {column!r}; drop it or fill it in.")
            row += batch.num_rows
            yield batch
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}).") from error


def _spool(
    parts: Sequence[Path], tokenizer_path: Path, spool: Path, *, seed: int, name: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Encode all documents into `spool` in dataset order; returns sort keys (n, 2), lengths (n,), text bytes,
    vocabulary."""
    tokenizer = load_tokenizer(tokenizer_path)
    vocab_size = tokenizer.get_vocab_size()
    dtype = token_dtype(vocab_size)
    end = tokenizer.token_to_id(END_OF_TEXT)
    key = seed.to_bytes(8, "little", signed=True)
    keys: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    text_bytes = 0
    total = sum(path.stat().st_size for path in parts if path.exists())
    with progress.task(f"tokenise {name}", total=total, unit="B") as task, spool.open("wb") as file:
        for path in parts:
            before = path.stat().st_size if path.exists() else 0
            for ids, texts in _document_batches(path):
                encoded = encode_documents(tokenizer, texts)
                file.write(np.concatenate([np.array([*one, end], dtype=dtype) for one in encoded]).tobytes())
                lengths.append(np.array([len(one) + 1 for one in encoded], dtype=np.int64))
                digests = b"".join(
                    hashlib.blake2b(part.encode(), digest_size=8, key=key).digest()
                    for one_id, text in zip(ids, texts, strict=True)
                    for part in (one_id, text)  # the text decides between documents of one id
                )
                keys.append(np.frombuffer(digests, dtype="<u8").reshape(-1, 2))
                text_bytes += sum(len(text.encode()) for text in texts)
            task.advance(before)
    if not lengths:
        raise InputError(
            f"Dataset {name!r} holds no documents in its {len(parts)} part(s); there is nothing to train on."
        )
    return np.concatenate(keys), np.concatenate(lengths), text_bytes, vocab_size


def _document_batches(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts of a part, cut so that no batch is large in documents or in characters."""
    for batch in read_texts(path, ["id", "text"]):
        ids: list[str] = []
        texts: list[str] = []
        characters = 0
        for one_id, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
            ids.append(one_id)
            texts.append(text)
            characters += len(text)
            if characters > BATCH_CHARACTERS:
                yield ids, texts
                ids, texts, characters = [], [], 0
        if ids:
            yield ids, texts


def _shuffle(spool: Path, target: Path, keys: np.ndarray, lengths: np.ndarray, dtype: np.dtype) -> str:
    """Copy the documents of `spool` to `target` in the order of their keys; returns the hash of the file."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    source = np.memmap(spool, dtype=dtype, mode="r")
    digest = hashlib.blake2b(digest_size=16)  # as file_fingerprint
    with target.open("wb") as file:
        for some in np.array_split(order, max(1, len(order) // BATCH_DOCUMENTS)):
            block = np.concatenate([source[starts[i] : starts[i] + lengths[i]] for i in some]).tobytes()
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def same_tokenizer(datasets: Mapping[str, TokenizedDataset]) -> str:
    """The tokenizer fingerprint that all datasets share; raises MismatchError naming two that differ."""
    first_name, first = next(iter(datasets.items()))
    for name, packed in datasets.items():
        if packed.tokenizer_fingerprint != first.tokenizer_fingerprint:
            raise MismatchError(
                f"Datasets {first_name!r} and {name!r} were packed with different tokenizers "
                f"({first.tokenizer_fingerprint} and {packed.tokenizer_fingerprint}); pack them with the same one."
            )
    return first.tokenizer_fingerprint
