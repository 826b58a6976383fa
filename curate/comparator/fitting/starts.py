"""Where a fit begins: the grid of the searched parameters, each point with the linear ones solved for (variable
projection, Golub and Pereyra 1973), under non-negativity where their bounds say so.

The solve is in least squares on relative errors for fits of log losses, on errors otherwise: one Gram matrix a start,
then systems of at most a handful of unknowns.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from curate.comparator.laws import Array, Inputs, Law
from curate.errors import MeasurementError

INSIDE = 1e-3  # of the largest loss: what an amplitude that would be 0 starts at, so that its exponent has a gradient


def separable_starts(law: Law, inputs: Inputs, losses: Array, *, weights: Array, logarithmic: bool) -> Array:
    """Starts (s, p) for losses and weights (n,), in the coordinates of `inputs`."""
    searched = [i for i, p in enumerate(law.parameters) if p.name not in law.linear]
    solved = [i for i, p in enumerate(law.parameters) if p.name in law.linear]
    axes = [law.parameters[i].starts(inputs) for i in searched]
    for i, axis in zip(searched, axes, strict=True):
        if not axis:
            raise MeasurementError(f"Law {law.name!r}: give parameter {law.parameters[i].name!r} a grid of starts.")
    points = list(product(*axes))
    grid = np.array(points).reshape(len(points), len(searched))
    starts = np.ones((len(grid), len(law.parameters)))
    starts[:, searched] = grid
    if not solved:
        return usable(law, inputs, starts)
    row = np.sqrt(weights) / (losses if logarithmic else 1.0)
    basis = law.jacobian(starts, inputs)[:, :, solved] * row[:, None]
    lower = law.lower[solved]
    empty = starts.copy()
    empty[:, solved] = np.maximum(lower, 0.0)
    target = (losses - law.predict(empty, inputs)) * row
    solution = bounded_least_squares(basis, target, signed=np.isneginf(lower))
    least = INSIDE * np.abs(losses * row).max() / np.maximum(np.abs(basis).max(axis=1), 1e-300)
    starts[:, solved] = np.where(np.isneginf(lower), solution, np.maximum(solution, least))
    return usable(law, inputs, starts)


def usable(law: Law, inputs: Inputs, starts: Array) -> Array:
    """The starts inside the bounds whose predictions are finite; raises MeasurementError where none are."""
    inside = np.clip(starts, law.lower, law.upper)
    with np.errstate(all="ignore"):
        fine = np.isfinite(law.predict(inside, inputs)).all(axis=1)
    if not fine.any():
        raise MeasurementError(f"Law {law.name!r}: no start gives finite predictions; look at its grids and bounds.")
    return inside[fine]


def bounded_least_squares(basis: Array, target: Array, *, signed: npt.NDArray[np.bool_]) -> Array:
    """x (s, k) that makes basis (s, n, k) x near target (s, n); not negative where not `signed` (k,).

    Negative unknowns are set to 0 one at a time, that with the largest share of the prediction first: exact for most
    starts and near for the others, which is what a start needs.
    """
    count, _, k = basis.shape
    length = np.linalg.norm(basis, axis=1)
    unit = basis / np.where(length > 0, length, 1.0)[:, None, :]
    gram = np.swapaxes(unit, 1, 2) @ unit
    right = (np.swapaxes(unit, 1, 2) @ target[..., None])[..., 0]
    used = length > 0
    solution = np.zeros((count, k))
    for _ in range(k + 1):
        both = used[:, :, None] & used[:, None, :]
        system = np.where(both, gram, 0.0)
        index = np.arange(k)
        system[:, index, index] += np.where(used, 1e-10, 1.0)
        solution = np.linalg.solve(system, np.where(used, right, 0.0)[..., None])[..., 0]
        wrong = np.where(signed, 0.0, solution)
        worst = wrong.argmin(axis=1)
        negative = wrong[np.arange(count), worst] < 0
        if not negative.any():
            break
        used[np.flatnonzero(negative), worst[negative]] = False
    return np.where(signed, solution, np.maximum(solution, 0.0)) / np.where(length > 0, length, 1.0)
