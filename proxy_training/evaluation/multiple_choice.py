"""Multiple choice by continuous scores: how probable the right answer is, long before accuracy leaves chance.

For each item the log-likelihood of every choice, raw and divided by its characters, bytes or tokens; from each of the
four the share of the right choice (a softmax over the choices: `correct_prob`) and the accuracy, with a standard error
over items, and bits per byte of the right answer: what OLMES (Gu et al. 2024) and DataDecide (Magnusson et al. 2025)
found most predictive at small scale. Choices that tie share the point, so a model that cannot tell scores chance
wherever the right answer stands. Cost: one forward pass over every distinct context with its answer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.fingerprints import fingerprint
from curate.proxy_training.evaluation.evaluators import MetricRow, row_of_items
from curate.proxy_training.evaluation.likelihood import (
    Continuations,
    at_border,
    continuations,
    encode_pairs,
    likelihoods,
)
from curate.proxy_training.evaluation.task_items import Item, TaskSpec, lettered, load_items
from curate.proxy_training.tokens.tokenizer import end_of_text

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy

MULTIPLE_CHOICE = "end-of-text, context, choice; float64 sums of nats; lengths with the delimiter; ties shared; v1"
TIE = 1e-5
"""Scores closer than this, relative to the best, are equal: float32 tells no more."""
NORMS = ("raw", "per_char", "per_byte", "per_token")


@dataclass(frozen=True)
class MultipleChoice:
    """Items of one task as tokens, an Evaluator."""

    name: str
    """What the metrics call it."""
    scored: Continuations
    """Every choice of every item."""
    item: np.ndarray
    """Item of each choice, int64, rising."""
    gold: np.ndarray
    """The right choice of each item, int64, as its place among all choices."""
    characters: np.ndarray
    """Of each choice as scored, delimiter included, int64."""
    sizes: np.ndarray
    """UTF-8 bytes of each choice as scored, int64."""
    ids: tuple[str, ...]
    """Of the items."""
    notes: tuple[str, ...] = ()
    """What was cut."""

    def fingerprint(self) -> str:
        """Hash of the tokens, the right answers and the metric's version."""
        arrays = (self.item, self.gold, self.characters, self.sizes)
        return fingerprint([MULTIPLE_CHOICE, self.scored.digest(), [array.tolist() for array in arrays]])

    def measure(self, model: "Proxy") -> list[MetricRow]:
        """Rows named `<metric>/<name>`; one answer an item gives `answer_bits_per_byte` and `exact_greedy`, several
        give `answer_bits_per_byte` and, for each norm, `correct_prob_*`, `acc_*` and `acc_centred_*`."""
        found = likelihoods(model, self.scored)
        answer = row_of_items(
            f"answer_bits_per_byte/{self.name}",
            found.nats[self.gold] / np.log(2),
            self.sizes[self.gold].astype(np.float64),
            lower_is_better=True,
        )
        if len(self.item) == len(self.gold):
            exact = found.greedy[self.gold].astype(np.float64)
            return [answer, row_of_items(f"exact_greedy/{self.name}", exact, chance=0.0)]
        rows = [answer]
        chance = float(np.mean(1 / np.bincount(self.item)))
        lengths = (np.ones(len(self.item)), self.characters, self.sizes, self.scored.tokens)
        for norm, length in zip(NORMS, lengths, strict=True):
            scores = -found.nats / length
            share, right = shares(scores, self.item)[self.gold], points_for_best(scores, self.item)[self.gold]
            rows.append(row_of_items(f"correct_prob_{norm}/{self.name}", share, chance=chance))
            rows.append(row_of_items(f"acc_{norm}/{self.name}", right, chance=chance))
            centred = (right - chance) / (1 - chance)
            rows.append(row_of_items(f"acc_centred_{norm}/{self.name}", centred, chance=0.0))
        return rows


def shares(scores: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Softmax of `scores` over the choices of each item; `item` rises."""
    starts = np.searchsorted(item, np.arange(item[-1] + 1))
    weights = np.exp(scores - np.maximum.reduceat(scores, starts)[item])
    return weights / np.add.reduceat(weights, starts)[item]


def points_for_best(scores: np.ndarray, item: np.ndarray) -> np.ndarray:
    """1 for the best choice of each item, shared equally among those that tie."""
    starts = np.searchsorted(item, np.arange(item[-1] + 1))
    best = np.maximum.reduceat(scores, starts)[item]
    ties = (scores >= best - TIE * np.maximum(1.0, np.abs(best))).astype(np.float64)
    return ties / np.add.reduceat(ties, starts)[item]


def load_task(spec: TaskSpec, *, tokenizer: Tokenizer, sequence_length: int) -> MultipleChoice:
    """The evaluator of one task. Its first `shots` items, in seeded order, are the examples of all others."""
    items = load_items(spec)
    if len(items) <= spec.shots:
        raise InputError(f"Task {spec.task!r} has {len(items)} items, too few for {spec.shots} examples.")
    if spec.format == "letters":
        items = [lettered(item, seed=spec.seed) for item in items]
    examples, rest = items[: spec.shots], items[spec.shots :][: spec.items]
    before = "".join("".join(_texts(item, spec)[item.gold]) + "\n\n" for item in examples)
    texts = [at_border(before + context, answer) for item in rest for context, answer in _texts(item, spec)]
    pairs = encode_pairs(tokenizer, texts, first=end_of_text(tokenizer))
    scored = continuations(pairs, sequence_length=sequence_length)

    counts = np.array([len(item.choices) for item in rest], dtype=np.int64)
    item = np.repeat(np.arange(len(rest)), counts)
    cut = len(np.unique(item[scored.cut > 0]))
    notes = (
        f"{spec.task}: {cut} of {len(rest)} items are longer than the window of {sequence_length} tokens; their "
        "contexts were cut from the left.",
    )
    return MultipleChoice(
        spec.task,
        scored,
        item,
        np.cumsum(counts) - counts + np.array([one.gold for one in rest]),
        np.array([len(answer) for _, answer in texts], dtype=np.int64),
        np.array([len(answer.encode("utf-8", "replace")) for _, answer in texts], dtype=np.int64),
        tuple(one.id for one in rest),
        notes if cut else (),
    )


def _texts(item: Item, spec: TaskSpec) -> list[tuple[str, str]]:
    """(context, continuation) of each choice."""
    if spec.kind == "contexts":
        return [(choice, spec.delimiter + item.query) for choice in item.choices]
    return [(item.query, spec.delimiter + choice) for choice in item.choices]
