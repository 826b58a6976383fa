"""Bits per byte of a proxy on held-out text.

Each held-out set is read up to a number of bytes: documents in the order of a hash of their text, the start of
each. A document is scored alone: end-of-text, then its tokens in windows of T; every token of text is a target
once, end-of-text never. The value is the sum of nats in float64 over the bytes of the text over ln 2, so it
compares across tokenizers. Models run in float32 without compilation whatever the training used, so the batch
does not matter. Cost: one forward pass over about bytes / 2.5 tokens; memory: `POSITIONS` and 128 MB of logits.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from curate.errors import InputError, RecipeError
from curate.fingerprints import fingerprint
from curate.proxy_training.evaluation.evaluators import Evaluator, MetricRow, as_evaluated, ratio_with_error
from curate.proxy_training.procedure import METRIC
from curate.proxy_training.tokens.texts import read_texts
from curate.proxy_training.tokens.tokenizer import encode_documents, end_of_text

if TYPE_CHECKING:
    import torch

    from curate.proxy_training.model import Proxy


WINDOWS_AT_ONCE = 16
POSITIONS = {"cpu": 1 << 12}
"""Positions of windows at once, by kind of device, but one window at least."""
POSITIONS_ELSEWHERE = 1 << 14


@dataclass(frozen=True)
class HeldOutSet:
    """A held-out set as windows, an Evaluator; row w holds end-of-text or the last token of the window before, then up
    to T targets."""

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

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: what is not held is not measured."""
        return ()

    def measure(self, model: "Proxy") -> list[MetricRow]:
        """`bits_per_byte/<name>`; the items are documents, their values bits, their weights bytes."""
        device = next(model.parameters()).device
        with as_evaluated(model):
            count = windows_at_once(self.windows.shape[1] - 1, device=device.type)
            one = score(lambda windows: model.token_nats(windows.to(device)).cpu(), self, batch_windows=count)
        return [
            MetricRow(
                f"bits_per_byte/{self.name}",
                one.bits_per_byte,
                None if math.isnan(one.error) else one.error,
                chance=None,
                lower_is_better=True,
                items=len(self.document_bytes),
                item_values=one.document_nats / math.log(2),
                item_weights=self.document_bytes.astype(np.float64),
            )
        ]


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
    """The held-out set of `heldout_excerpts` as windows. Raises what it raises."""
    excerpts = heldout_excerpts(name, files, bytes_per_set=bytes_per_set, bytes_per_document=bytes_per_document)
    end = end_of_text(tokenizer)
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


def heldout_excerpts(name: str, files: Sequence[Path], *, bytes_per_set: int, bytes_per_document: int) -> list[str]:
    """What is measured of a held-out set: Parquet files with a `text` column; repeated texts count once, empty ones
    not at all.

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
    return list(chosen.values())


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


def task_texts(asked: Iterable[str | Mapping[str, Any]]) -> dict[str, list[str]]:
    """Question and right answer of every item of the tasks that have items, by task; what `aiw` asks is made up."""
    from curate.proxy_training.evaluation.alice import alice_spec
    from curate.proxy_training.evaluation.task_items import load_items, task_spec

    specs = [task_spec(one) for one in asked if alice_spec(one) is None]
    return {spec.task: [f"{item.query} {item.choices[item.gold]}" for item in load_items(spec)] for spec in specs}


def load_tasks(
    asked: Iterable[str | Mapping[str, Any]], *, tokenizer: Tokenizer, sequence_length: int
) -> dict[str, Evaluator]:
    """Evaluators by name of a study's `tasks`, for models of `sequence_length`: a name of tasks/tasks.yaml, `aiw`, or a
    mapping of TaskSpec or AliceSpec (`{task: mine, file: mine.jsonl}`, `{task: aiw, method: sampling}`).

    Raises RecipeError for a task that is not known or stands twice, InputError for items that cannot be used.
    """
    from curate.proxy_training.evaluation.alice import alice_spec, load_alice
    from curate.proxy_training.evaluation.multiple_choice import load_task
    from curate.proxy_training.evaluation.task_items import task_spec

    found: dict[str, Evaluator] = {}
    for one in asked:
        if alice := alice_spec(one):
            some: Evaluator = load_alice(alice, tokenizer=tokenizer, sequence_length=sequence_length)
        else:
            some = load_task(task_spec(one), tokenizer=tokenizer, sequence_length=sequence_length)
        if some.name in found:
            raise RecipeError(f"The task {some.name!r} stands twice; give one of them another name, with its file.")
        found[some.name] = some
    return found


def evaluation_fingerprint(evaluators: Mapping[str, Evaluator]) -> str:
    """Hash of all evaluators of a study and of the metric's version: what makes two values comparable."""
    return fingerprint([METRIC, {name: some.fingerprint() for name, some in evaluators.items()}])


def windows_at_once(sequence_length: int, *, device: str) -> int:
    """Windows of so many positions that a model reads together on a kind of device."""
    return max(1, min(WINDOWS_AT_ONCE, POSITIONS.get(device, POSITIONS_ELSEWHERE) // sequence_length))


def score(
    token_nats: Callable[["torch.Tensor"], "torch.Tensor"],
    heldout: HeldOutSet,
    *,
    batch_windows: int = WINDOWS_AT_ONCE,
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
    ratio, error = ratio_with_error(nats, heldout.document_bytes)
    return Score(ratio / math.log(2), error / math.log(2), nats)
