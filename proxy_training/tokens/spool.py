"""Documents as tokens on their way into a packed file: a spool of pieces, put into the order of their keys at the end.

A piece is `<name>.bin` (tokens, every document with its end of text) and `<name>.npz` (keys, lengths, bytes of text),
written last: a piece that has it is not done again. Within a piece documents stand in runs that are sorted by key, so
that the last pass reads every piece front to back. Pieces are written by several processes where there is much to do;
the bytes are the same. Costs: the tokens are written twice; memory is a run (64 MB) a process and 50 bytes a document.
"""

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from curate.errors import TrainingError
from curate.fingerprints import fingerprint
from curate.progress import Task
from curate.proxy_training.tokens.texts import Piece, read_texts
from curate.proxy_training.tokens.tokenizer import encode_documents, end_of_text, load_tokenizer, vocabulary_size

BATCH_CHARACTERS = 4_000_000
RUN_TOKENS = 1 << 24
"""Tokens that are sorted, or put in order, at once."""
PARALLEL_BYTES = 1 << 26
"""Bytes of text from which on processes are started: a start costs a second, and one process uses all cores too, only
not as well."""


@dataclass(frozen=True)
class Spooled:
    """A finished piece."""

    tokens: Path
    """Its .bin file."""
    keys: np.ndarray
    """(documents, 2), uint64: what the order is by."""
    lengths: np.ndarray
    """Tokens of each document, end of text included."""
    text_bytes: int
    """UTF-8 bytes of the documents' text, 0 where it is not known."""


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest of uint16 and uint32 that holds the ids."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class SpoolWriter:
    """Writes one piece: `add` documents with their keys, then `close`."""

    def __init__(self, target: Path, dtype: np.dtype) -> None:
        self.target = target
        self.text_bytes = 0
        self._dtype = dtype
        self._file = target.with_suffix(".bin").open("wb")
        self._documents: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._waiting = 0
        self._sorted: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: np.ndarray, documents: Sequence[np.ndarray], *, text_bytes: int = 0) -> None:
        """Take documents, each with its end of text, and their keys (n, 2)."""
        self._keys.append(keys)
        self._documents += documents
        self._waiting += sum(map(len, documents))
        self.text_bytes += text_bytes
        if self._waiting >= RUN_TOKENS:
            self._write_run()

    def _write_run(self) -> None:
        if not self._documents:
            return
        keys = np.concatenate(self._keys)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        some = [self._documents[i] for i in order]
        self._file.write(np.concatenate(some, dtype=self._dtype, casting="unsafe").tobytes())
        self._sorted.append((keys[order], np.array([len(one) for one in some], dtype=np.int64)))
        self._documents, self._keys, self._waiting = [], [], 0

    def close(self) -> None:
        """The piece is whole."""
        self._write_run()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        keys, lengths = zip(*self._sorted, strict=True) if self._sorted else ((), ())
        fresh = self.target.with_suffix(".partial.npz")
        np.savez(
            fresh,
            keys=np.concatenate([np.empty((0, 2), np.uint64), *keys]),
            lengths=np.concatenate([np.empty(0, np.int64), *lengths]),
            text_bytes=np.array(self.text_bytes),
        )
        fresh.replace(self.target.with_suffix(".npz"))


def open_spooled(target: Path, dtype: np.dtype) -> Spooled | None:
    """A piece that was written whole, or None."""
    tokens = target.with_suffix(".bin")
    try:
        with np.load(target.with_suffix(".npz")) as facts:
            spooled = Spooled(tokens, facts["keys"], facts["lengths"], int(facts["text_bytes"]))
        whole = tokens.stat().st_size == int(spooled.lengths.sum()) * dtype.itemsize
    except (OSError, ValueError, KeyError, EOFError):  # not there, or cut short
        return None
    return spooled if whole else None


def open_written(target: Path, dtype: np.dtype) -> Spooled:
    """A piece that was written just now. Raises TrainingError if it is not whole."""
    found = open_spooled(target, dtype)
    if found is None:
        raise TrainingError(f"{target}: was just written and is not whole; look for a full or failing disk.")
    return found


def spool_texts(
    pieces: Sequence[Piece], *, tokenizer: Path, folder: Path, seed: int, workers: int, task: Task
) -> list[Spooled]:
    """Tokenise all pieces into `folder`, over `workers` processes where that pays; those that are there are kept."""
    loaded = load_tokenizer(tokenizer)
    dtype = token_dtype(vocabulary_size(loaded))
    targets = [folder / _name(number, piece) for number, piece in enumerate(pieces)]
    todo = []
    for piece, target in zip(pieces, targets, strict=True):
        if open_spooled(target, dtype) is None:
            todo.append((piece, target))
        else:
            task.advance(piece.text_bytes)
    if min(workers, len(todo)) > 1 and sum(piece.text_bytes for piece, _ in todo) >= PARALLEL_BYTES:
        _in_processes(todo, tokenizer, seed, min(workers, len(todo)), task)
    else:
        for piece, target in todo:
            _spool_piece(piece, loaded, target, seed, advance=task.advance)
    return [open_written(target, dtype) for target in targets]


def gather(spooled: Sequence[Spooled], target: Path, dtype: np.dtype) -> str:
    """Write the documents of all pieces to `target` in the order of their keys; returns the hash of the file."""
    keys = np.concatenate([piece.keys for piece in spooled])
    lengths = np.concatenate([piece.lengths for piece in spooled])
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    del keys
    source = np.repeat(np.arange(len(spooled)), [len(piece.lengths) for piece in spooled])
    starts = np.concatenate([np.cumsum(piece.lengths) - piece.lengths for piece in spooled])
    # memory maps of pieces that hold nothing cannot be made, and are not asked for
    streams = [np.memmap(one.tokens, dtype, "r") if len(one.lengths) else np.empty(0, dtype) for one in spooled]
    borders = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // RUN_TOKENS)) + 1
    digest = hashlib.blake2b(digest_size=16)  # as file_fingerprint
    with target.open("wb") as file:
        for some in np.split(order, borders):
            block = np.empty(int(lengths[some].sum()), dtype=dtype)
            places = np.cumsum(lengths[some]) - lengths[some]
            for i in np.lexsort((starts[some], source[some])):  # front to back through every piece
                document, length = some[i], lengths[some[i]]
                block[places[i] : places[i] + length] = streams[source[document]][starts[document] :][:length]
            digest.update(block.data)
            file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def hashed(parts: Sequence[bytes], *, seed: int) -> np.ndarray:
    """A seeded 64-bit hash of each."""
    key = seed.to_bytes(8, "little", signed=True)
    digests = b"".join(hashlib.blake2b(part, digest_size=8, key=key).digest() for part in parts)
    return np.frombuffer(digests, dtype="<u8")


def _name(number: int, piece: Piece) -> str:
    """Tells a piece from that of another cut; what is in its file is told by the folder."""
    cut = [str(piece.path), list(piece.row_groups), piece.path.stat().st_size]
    return f"{number:06}-{fingerprint(cut)[:12]}"


def _spool_piece(
    piece: Piece, tokenizer: Tokenizer, target: Path, seed: int, *, advance: Callable[[float], Any] | None = None
) -> None:
    """Encode one piece."""
    end, told = end_of_text(tokenizer), 0.0
    writer = SpoolWriter(target, token_dtype(vocabulary_size(tokenizer)))
    batches = read_texts(piece.path, ["id", "text"], row_groups=piece.row_groups, first_row=piece.first_row)
    for ids, texts in _bounded(batches):
        documents = [np.array([*one, end], dtype=np.uint32) for one in encode_documents(tokenizer, texts)]
        raw = [text.encode() for text in texts]
        both = [part for one_id, text in zip(ids, raw, strict=True) for part in (one_id.encode(), text)]
        # the text decides between documents of one id
        writer.add(hashed(both, seed=seed).reshape(-1, 2), documents, text_bytes=sum(map(len, raw)))
        if advance is not None:
            step = min(float(sum(map(len, raw))), piece.text_bytes - told)
            told += step
            advance(step)
    writer.close()
    if advance is not None:
        advance(piece.text_bytes - told)


def _bounded(batches: Iterator[Any]) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts, cut so that no batch is large in documents or in characters."""
    for batch in batches:
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


def _in_processes(todo: Sequence[tuple[Piece, Path]], tokenizer: Path, seed: int, workers: int, task: Task) -> None:
    """One thread a process; the largest pieces first, so that all end together."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_as_worker, initargs=(os.getpid(),))
    try:
        largest_first = sorted(todo, key=lambda one: -one[0].text_bytes)
        working = [pool.submit(_spool_in_pool, piece, tokenizer, target, seed) for piece, target in largest_first]
        for future in as_completed(working):
            task.advance(future.result())
    except BrokenProcessPool as error:
        raise TrainingError(
            f"A process that tokenised was killed, most likely for want of memory: {workers} at once were too many "
            "for this machine. The same command with fewer --workers goes on with the pieces that are left."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _spool_in_pool(piece: Piece, tokenizer: Path, target: Path, seed: int) -> int:
    """`_spool_piece` in a process of a pool; returns the piece's bytes of text, for a progress bar."""
    _spool_piece(piece, _loaded(tokenizer), target, seed)
    return piece.text_bytes


@cache
def _loaded(tokenizer: Path) -> Tokenizer:
    """The one tokenizer of a process of a pool, for all its pieces: loading a large one takes a second."""
    return load_tokenizer(tokenizer)


def _as_worker(parent: int) -> None:
    """A process for each core needs no threads of its own, and ends when its parent is gone."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
