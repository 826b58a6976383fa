"""What every evaluation of a proxy is: a name, a fingerprint, and rows of metrics measured on a model in memory.

A held-out set (evaluate.py), multiple-choice items (multiple_choice.py) and problems in varied numbers (alice.py) are
evaluators. Tokens are made when an evaluator is loaded, so that it can be sent to another process and its fingerprint
covers them. Models run in float32, without dropout and without gradients; the batch changes no value by more than
rounding (1e-6). A metric is named `<kind>/<evaluator>`, and `compare: {metric: correct_prob_per_char}` is a mean over
tasks (metric_names.py knows them all).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy

LOGITS_AT_ONCE = 1 << 24
"""Scores of tokens that lie in memory together, 64 MB: positions are cut, whatever the vocabulary."""


@dataclass(frozen=True)
class MetricRow:
    """One metric of one evaluator on one model."""

    metric: str
    """As in the measurements, `bits_per_byte/wiki`."""
    value: float
    """The sum of `item_values` over the sum of `item_weights`, where there are such."""
    error: float | None
    """Standard error over items; None when it is unknown (a single item)."""
    chance: float | None
    """Value of a model that guesses; None when there is none."""
    lower_is_better: bool
    """Direction."""
    items: int
    """Documents, items or trials behind the value."""
    interval: tuple[float, float] | None = None
    """Of 95%, where it is not symmetric (a rate's)."""
    item_values: np.ndarray | None = field(default=None, compare=False, repr=False)
    """Of each item, float64, always in the same order: for paired comparisons."""
    item_weights: np.ndarray | None = field(default=None, compare=False, repr=False)
    """Of each item, float64; None where each counts one."""

    def facts(self) -> dict[str, Any]:
        """All but the items, for JSON."""
        return {
            "metric": self.metric,
            "value": self.value,
            "error": self.error,
            "chance": self.chance,
            "lower_is_better": self.lower_is_better,
            "items": self.items,
            "interval": self.interval,
        }


class Evaluator(Protocol):
    """Something that measures a model; can be pickled, needs torch only in `measure`."""

    @property
    def name(self) -> str:
        """What its metrics call it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before reading its values, as sentences."""

    def fingerprint(self) -> str:
        """Hash of all tokens and of the metric's version."""

    def measure(self, model: "Proxy") -> list[MetricRow]:
        """The rows, always the same metrics in the same order. `model` is one proxy (no members); on return it is as it
        was."""


@contextmanager
def as_evaluated(model: "Proxy") -> Iterator["Proxy"]:
    """The model in float32 and without dropout, as long as the block lasts; compiled blocks stay compiled."""
    training, bf16 = model.training, model.bf16
    model.eval()
    model.bf16 = False
    try:
        yield model
    finally:
        model.bf16 = bf16
        model.train(training)


def ratio_with_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Sum of values over sum of weights with its standard error over items (Cochran 1977, 2.11); NaN for one item.

    With weights of one it is the mean with its usual error.
    """
    count, total = len(values), float(weights.sum())
    ratio = float(values.sum()) / total
    residuals = values - ratio * weights
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / total if count > 1 else math.nan
    return ratio, error


def row_of_items(
    metric: str,
    values: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    chance: float | None = None,
    lower_is_better: bool = False,
) -> MetricRow:
    """The mean of `values`, or the ratio to `weights`, as a row."""
    value, error = ratio_with_error(values, np.ones(len(values)) if weights is None else weights)
    return MetricRow(
        metric,
        value,
        None if math.isnan(error) else error,
        chance,
        lower_is_better,
        len(values),
        item_values=values,
        item_weights=weights,
    )
