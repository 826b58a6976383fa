"""The choice of a form by hold-outs: laws compared on the predictions that all of them made, cell by cell.

The one-standard-error rule (Breiman et al. 1984, sec. 3.4.3) takes the simplest of the laws that the hold-outs do not
tell from the best; `near` names them all. A form without a floor comes last among them: within a decade it looks like
one that has a floor, and beyond it is wrong. On 60 synthetic ladders of OLMo's design (Chinchilla's form, noise .2 to
1%, seed 7) the chosen law's 95% bands then held .925 of the values at 75 to 177 x the compute, and .875 by the number
of parameters alone; all near laws together .942.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from curate.comparator.backtests.backtested import Contrast
from curate.comparator.backtests.holdouts import HeldOut
from curate.comparator.laws import Law
from curate.comparator.points import Points

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWEST_CELLS = 3  # held-out cells for a choice between laws
Rule = Literal["one standard error", "smallest error"]
RULES: dict[Rule, str] = {
    "one standard error": "of the laws whose mean |log error| on hold-outs (every cut weighs alike) exceeds the "
    "smallest by no more than one standard error of the paired difference (over held-out cells), the one with "
    "the fewest parameters; one without a floor only where none has one",
    "smallest error": "the law with the smallest mean |log error| on hold-outs (every cut weighs alike)",
}


def choose(
    points: Points, tested: Sequence[HeldOut], rule: Rule
) -> tuple[tuple[Contrast, ...], tuple[str, ...], str | None, str]:
    """Contrasts, the laws within one standard error of the best, the one chosen by `rule`, and why: on the predictions
    that all compared laws made. Where those fill fewer than FEWEST_CELLS cells, the law with the fewest predictions is
    not compared.
    """
    if not tested:
        return (), (), None, "no law could be tested on a hold-out"
    compared = sorted(tested, key=len, reverse=True)
    while len(shared_cells(points, compared)) < FEWEST_CELLS and len(compared) > 1:
        compared.pop()
    left = [h.law.name for h in tested if h not in compared]
    common = set.intersection(*(predictions(h) for h in compared))
    cells = shared_cells(points, compared)
    cell_error = [cell_errors(points, h, common, cells) for h in compared]
    weight = cell_error[0][1]  # the same for all: they made the same predictions
    error = np.array([e for e, _ in cell_error])  # (laws, cells)
    mean = error @ weight
    best = int(mean.argmin())
    excess = error - error[best]
    shift = excess @ weight
    clusters = max(len(cells), 2)
    spread = np.sqrt(((weight * (excess - shift[:, None])) ** 2).sum(axis=1) * clusters / (clusters - 1))
    contrasts = tuple(
        Contrast(h.law.name, float(m), float(x), float(s), len(cells))
        for h, m, x, s in zip(compared, mean, shift, spread, strict=True)
    )
    if len(cells) < FEWEST_CELLS:
        why = f"{len(cells)} held-out cells are too few to choose by; {FEWEST_CELLS} are needed"
        return contrasts, tuple(h.law.name for h in tested), None, why
    if len(compared) == 1:
        only = (
            "the only law tested" if len(tested) == 1 else f"{', '.join(left)} predicted too few cells to be compared"
        )
        return contrasts, (compared[0].law.name,), compared[0].law.name, only
    rank = {h.law.name: (not has_floor(h.law), len(h.law.parameters)) for h in compared}
    near = sorted((c for c in contrasts if c.excess <= c.standard_error), key=lambda c: (*rank[c.law], c.mean_error))
    picked = near[0] if rule == "one standard error" else contrasts[best]
    reason = f"mean |log error| {picked.mean_error:.4f} over {len(cells)} held-out cells"
    if picked is not contrasts[best]:
        reason += (
            f", within one standard error ({picked.standard_error:.4f}) of {contrasts[best].law}'s "
            f"{contrasts[best].mean_error:.4f} and preferred"
        )
    others = [c.law for c in near if c is not picked]
    if others:
        reason += f"; the hold-outs do not tell it from {' or '.join(others)}"
    if left:
        reason += f"; {', '.join(left)} predicted too few cells to be compared"
    return contrasts, tuple(c.law for c in near), picked.law, reason


def has_floor(law: Law) -> bool:
    """Whether the law keeps a loss above zero however much is computed."""
    return any(p.kind == "offset" for p in law.parameters)


def predictions(held: HeldOut) -> set[tuple[int, float]]:
    """What was predicted: (point, cut)."""
    return set(zip(held.row.tolist(), held.cut.tolist(), strict=True))


def shared_cells(points: Points, compared: Sequence[HeldOut]) -> Ints:
    """Cells with a prediction that all of the laws made."""
    common = set.intersection(*(predictions(h) for h in compared))
    return np.unique(points.cell[np.array([row for row, _ in common], dtype=np.int64)])


def cell_errors(points: Points, held: HeldOut, common: set[tuple[int, float]], cells: Ints) -> tuple[Array, Array]:
    """Mean |log error| of each cell and the cell's weight, (cells,) both. Every cut weighs alike: late cuts predict
    little, but from nearly what the final fit sees.
    """
    part = held.take(np.array([key in common for key in zip(held.row.tolist(), held.cut.tolist(), strict=True)]))
    _, cut, size = np.unique(part.cut, return_inverse=True, return_counts=True)
    each = 1.0 / size[cut.reshape(-1)] / len(size)
    place = np.searchsorted(cells, points.cell[part.row])
    weight = np.bincount(place, weights=each, minlength=len(cells))
    total = np.bincount(place, weights=each * np.abs(part.log_error), minlength=len(cells))
    return np.asarray(total / weight), np.asarray(weight, dtype=float)
