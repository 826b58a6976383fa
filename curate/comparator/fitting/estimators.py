"""Estimators by name: which deviations a fit makes small. Two papers with two estimators have two optima, so the name
goes wherever the numbers go.

The objective is sum_i w_i huber((r_i) / delta) with residuals r of log losses (relative errors) or of losses as they
are (`space`). Delta runs from 0, least absolute deviation, to infinity, least squares. Least absolute deviation is
reached through a falling series of deltas; its objective is then within n delta / 2 of the optimum.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.errors import MeasurementError


@dataclass(frozen=True)
class Estimator:
    """Huber with threshold `delta` on log losses (about a relative error) or on losses (`space="linear"`); infinite =
    least squares, 0 = least absolute deviation.
    """

    delta: float = 1e-3
    space: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        if not self.delta >= 0:
            raise MeasurementError(f"An estimator's delta must be at least 0, not {self.delta}.")
        if self.space not in ("log", "linear"):
            raise MeasurementError(f"An estimator works in 'log' or 'linear' space, not {self.space!r}.")

    @property
    def name(self) -> str:
        where = " on log loss" if self.space == "log" else ""
        if self.delta == 0:
            return f"least absolute deviation{where}"
        return f"Huber({self.delta:.3g}){where}" if np.isfinite(self.delta) else f"least squares{where}"

    @property
    def logarithmic(self) -> bool:
        return self.space == "log"


def huber(delta: float = 1e-3, *, space: Literal["log", "linear"] = "log") -> Estimator:
    """Huber 1964; delta 1e-3 on log loss is that of Hoffmann et al. 2022 and of Besiroglu et al. 2024."""
    return Estimator(delta, space)


def log_least_squares() -> Estimator:
    """Squares of log residuals: the maximum likelihood under relative normal noise."""
    return Estimator(float("inf"), "log")


def least_squares() -> Estimator:
    """Squares of residuals in the losses' own units, as `curve_fit` has them and Gadre et al. 2024 use them."""
    return Estimator(float("inf"), "linear")


def least_absolute(*, space: Literal["log", "linear"] = "log") -> Estimator:
    """Absolute values of residuals: half the points may be wrong."""
    return Estimator(0.0, space)
