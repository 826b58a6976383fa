"""The error that a pair's gap will have under a design that has not been run: what planning minimises.

A design is a list of planned runs (size, budgets of its decay branches, how many of each dataset), the same for both
datasets of the pair. The model is that of gaps.py with its noise known: cell levels are free, so only differences on
equal cells count; a gap is a level plus slopes in N and D, read along the ladder's trajectory of D/N, with a prior of
tau sigma on how much it changes over `span`. Known noise leaves out the degrees of freedom that estimating it costs:
with few runs the true error is larger by Student's t. Source: best linear unbiased prediction (Robinson 1991,
Statistical Science 6:15), priors as in gaps.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.errors import MeasurementError

Array = npt.NDArray[np.float64]
Span = tuple[tuple[float, float], tuple[float, float]]

SAME_SIZE = 0.01  # relative: as the cells of points.py


@dataclass(frozen=True)
class PlannedCell:
    """`runs` trainings of each dataset at one size; `tokens` is a budget, or the budgets of one run's decay branches.

    `runs` may be a fraction: the error is smooth in it, which optimisers like.
    """

    params: float
    tokens: float | tuple[float, ...]
    runs: float = 1.0

    @property
    def budgets(self) -> tuple[float, ...]:
        return self.tokens if isinstance(self.tokens, tuple) else (self.tokens,)


def gap_error(
    design: Sequence[PlannedCell],
    *,
    sigma: float,
    rho: float,
    lam: float,
    tau: float,
    flops: float,
    trajectory: tuple[float, float],
    flops_per_nd: float = 6.0,
    span: Span | None = None,
    shape: float = 0.0,
) -> float:
    """Standard error, in the metric's unit, of the gap of two datasets at compute `flops`; infinite where the design
    cannot tell.

    `sigma`: sd of one value; `rho`: share of its variance that the branches of one run have in common; `lam`: variance
    of what the smooth gap misses at a (dataset, size), over sigma^2; `tau`: sd over sigma of how much a gap changes
    over `span` ((lowest, highest params), (lowest, highest tokens)), in N and in D each: state one span for all designs
    that are compared, by default it is that of this design and its target together. `trajectory`: log(D/N) =
    t[0] + t[1] log C. `shape`: the exponent of N and D along which gaps change (0: the logarithm; see gaps.SHAPES).
    """
    refuse_noise(sigma=sigma, rho=rho, lam=lam, tau=tau, flops=flops)
    params, tokens, number, runs = rows_of(design)
    if not len(params):
        return float("inf")
    ratio = float(np.exp(trajectory[0] + trajectory[1] * np.log(flops)))
    at_params = float(np.sqrt(flops / (flops_per_nd * ratio)))
    at_tokens = at_params * ratio
    span = span or (ends([*params, at_params]), ends([*tokens, at_tokens]))
    columns = gap_columns(params, tokens, span, shape)
    target = gap_columns(np.array([at_params]), np.array([at_tokens]), span, shape)[0]
    gram = columns.T @ np.linalg.solve(covariance(params, number, runs, rho=rho, lam=lam), columns)
    gram[[1, 2], [1, 2]] += 2.0 / tau**2  # `covariance` is of one dataset, a gap has twice as much, a slope tau^2
    values, vectors = np.linalg.eigh(gram)
    unknown = values <= 1e-12 * values.max()
    along = vectors.T @ target
    if (np.abs(along[unknown]) > 1e-9).any():
        return float("inf")
    return float(sigma * np.sqrt(2.0 * (along[~unknown] ** 2 / values[~unknown]).sum()))


def refuse_noise(*, sigma: float, rho: float, lam: float, tau: float, flops: float) -> None:
    for name, value, good in (
        ("sigma", sigma, sigma > 0 and np.isfinite(sigma)),
        ("rho", rho, 0 <= rho <= 1),
        ("lam", lam, lam >= 0 and np.isfinite(lam)),
        ("tau", tau, tau > 0),
        ("flops", flops, flops > 0 and np.isfinite(flops)),
    ):
        if not good:
            allowed = "a share from 0 to 1" if name == "rho" else "positive" if name != "lam" else "zero or more"
            raise MeasurementError(f"design: {name} is {value}; it must be {allowed}.")


def rows_of(design: Sequence[PlannedCell]) -> tuple[Array, Array, npt.NDArray[np.int64], Array]:
    """One row for every branch of every entry with runs: params, tokens, number of the entry, runs."""
    rows = []
    for number, cell in enumerate(design):
        if not (cell.params > 0 and min(cell.budgets, default=0.0) > 0 and cell.runs >= 0):
            raise MeasurementError(
                f"design, entry {number + 1}: params {cell.params}, tokens {cell.tokens}, runs {cell.runs}; "
                "params and tokens must be positive, runs zero or more."
            )
        if cell.runs > 0:
            rows += [(cell.params, budget, number, cell.runs) for budget in cell.budgets]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2].astype(np.int64), table[:, 3]


def covariance(params: Array, number: npt.NDArray[np.int64], runs: Array, *, rho: float, lam: float) -> Array:
    """Of the means over runs at sigma = 1: misfit shared by a size, seed noise by an entry's branches."""
    same_size = np.abs(np.log(params[:, None] / params[None, :])) <= SAME_SIZE
    same_runs = number[:, None] == number[None, :]
    own = (1.0 - rho) * np.eye(len(params))
    return lam * same_size + (rho * same_runs + own) / runs[:, None] + 1e-12 * np.eye(len(params))


def gap_columns(params: Array, tokens: Array, span: Span, shape: float) -> Array:
    return np.column_stack([np.ones_like(params), bend(params, *span[0], shape), bend(tokens, *span[1], shape)])


def ends(values: Sequence[float] | Array) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def bend(values: Array, low: float, high: float, shape: float) -> Array:
    """0 at `high`, -1 at `low`: log for shape 0, else x^-shape, so that its coefficient is the change of the gap over
    the span.
    """
    if high <= low:
        return np.zeros_like(values)
    if shape == 0.0:
        return np.log(values / high) / np.log(high / low)
    return ((values / high) ** -shape - 1.0) / (1.0 - (low / high) ** -shape)
