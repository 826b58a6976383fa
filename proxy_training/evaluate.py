"""Bits per byte of a proxy on held-out text.

Each held-out set is read up to a number of bytes: documents in the order of a hash of their text, the start of
each. A document is scored alone: end-of-text, then its tokens in windows of T; every token of text is a target
once, end-of-text never. The value is the sum of nats in float64 over the bytes of the text over ln 2, so it
compares across tokenizers. Models run in float32 without compilation whatever the training used, so the batch
does not matter. Cost: one forward pass over about bytes / 2.5 tokens.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.fingerprints import fingerprint
from curate.proxy_training.packing import read_texts
from curate.proxy_training.procedure import METRIC
from curate.proxy_training.tokenizer import END_OF_TEXT, encode_documents

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeldOutSet:
    """A held-out set as windows; row w holds end-of-text or the last token of the window before, then up to T
    targets."""

    name: str
    """What the metric calls it."""
    windows: np.ndarray
    """Token ids, int64 (windows, T+1), filled up with zeros behind the last target."""
    targets: np.ndarray
    """Targets in each window, int64 (windows,)."""
    documents: np.ndarray
    """Document of each window, int64 (windows,)."""
    document_bytes: np.ndarray
    """UTF-8 bytes of each document's excerpt, int64 (documents,)."""

    def fingerprint(self) -> str:
        """Hash of all tokens and byte counts."""
        arrays = (self.windows, self.targets, self.documents, self.document_bytes)
        return fingerprint([hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays])


@dataclass(frozen=True)
class Score:
    """The result on one held-out set."""

    bits_per_byte: float
    """Sum of nats / sum of bytes / ln 2."""
    error: float
    """Its standard error over documents (ratio estimator); NaN for a single document."""
    document_nats: np.ndarray
    """Nats of each document, float64."""


def load_heldout(
    name: str,
    files: Sequence[Path],
    *,
    tokenizer: Tokenizer,
    sequence_length: int,
    bytes_per_set: int,
    bytes_per_document: int,
) -> HeldOutSet:
    """Read a held-out set from Parquet files with a `text` column; repeated texts count once, empty ones not at
    all.

    Raises InputError naming file and column, or the set that holds no text.
    """
    chosen: dict[bytes, str] = {}
    for path in files:
        for batch in read_texts(path, ["text"]):
            for text in batch.column("text").to_pylist():
                excerpt = text.encode()[:bytes_per_document].decode(errors="ignore")
                if excerpt:
                    chosen[hashlib.sha256(text.encode()).digest()] = excerpt
            chosen = _first_bytes(chosen, bytes_per_set)
    if not chosen:
        raise InputError(
            f"Held-out set {name!r} holds no text in {', '.join(map(str, files)) or 'no file'}; give it some."
        )
    excerpts = list(chosen.values())
    end = tokenizer.token_to_id(END_OF_TEXT)
    windows, targets, documents = [], [], []
    for document, tokens in enumerate(encode_documents(tokenizer, excerpts)):
        stream = np.array([end, *tokens], dtype=np.int64)
        for start in range(0, len(tokens), sequence_length):
            window = stream[start : start + sequence_length + 1]
            windows.append(np.pad(window, (0, sequence_length + 1 - len(window))))
            targets.append(len(window) - 1)
            documents.append(document)
    sizes = np.array([len(excerpt.encode()) for excerpt in excerpts], dtype=np.int64)
    return HeldOutSet(name, np.stack(windows), np.array(targets), np.array(documents), sizes)


def _first_bytes(chosen: dict[bytes, str], limit: int) -> dict[bytes, str]:
    """The texts of the smallest hashes that fit into `limit` bytes; at least one."""
    kept: dict[bytes, str] = {}
    size = 0
    for key in sorted(chosen):
        size += len(chosen[key].encode())
        if kept and size > limit:
            break
        kept[key] = chosen[key]
    return kept


def evaluation_fingerprint(heldout: Mapping[str, HeldOutSet]) -> str:
    """Hash of the held-out tokens and the metric's version: what makes two values comparable."""
    return fingerprint([METRIC, {name: some.fingerprint() for name, some in heldout.items()}])


def score(
    token_nats: Callable[["torch.Tensor"], "torch.Tensor"], heldout: HeldOutSet, *, batch_windows: int = 16
) -> Score:
    """Bits per byte under `token_nats`: windows (B, T+1) as a torch tensor to nats of each target (B, T)."""
    import torch

    length = heldout.windows.shape[1] - 1
    nats = np.zeros(len(heldout.document_bytes))
    for start in range(0, len(heldout.windows), batch_windows):
        part = slice(start, start + batch_windows)
        some = token_nats(torch.from_numpy(heldout.windows[part])).double().numpy()
        is_text = np.arange(length) < heldout.targets[part, None]
        np.add.at(nats, heldout.documents[part], np.where(is_text, some, 0.0).sum(1))
    return _ratio(nats, heldout.document_bytes)


def _ratio(nats: np.ndarray, sizes: np.ndarray) -> Score:
    """Ratio of sums with its standard error over documents (Cochran 1977, 2.11)."""
    count, total = len(nats), float(sizes.sum())
    ratio = float(nats.sum()) / total
    residuals = nats - ratio * sizes
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / total if count > 1 else math.nan
    return Score(ratio / math.log(2), error / math.log(2), nats)
