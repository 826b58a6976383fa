"""Does the order of the datasets hold at another learning rate? Rows with `learning_rate_factor` other than 1, scale
by scale.

Rankings of datasets are known to flip with it: at .05M parameters two datasets change places between 1e-2 and 3e-3 on
one held-out set.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.comparator.points import headline_rows, learning_rate_factors
from curate.comparator.tables import numbers
from curate.comparator.verdict import LearningRate
from curate.errors import MeasurementError


def learning_rate_rows(main: pa.Table, other: pa.Table, metric: str, *, noise_sd: float) -> tuple[LearningRate, ...]:
    """One row a (scale, factor): the order by mean value over budgets that both learning rates have, for datasets
    measured at both.
    """
    if not other.num_rows:
        return ()
    try:
        other = headline_rows(other, metric, [])
    except MeasurementError:
        return ()  # measured on other metrics only
    factors = learning_rate_factors(other)
    sign = 1.0 if main["lower_is_better"][0].as_py() else -1.0
    rows = []
    sizes, main_sizes = scale_names(other), scale_names(main)
    for size in dict.fromkeys(sizes.tolist()):
        for factor in sorted(set(factors[sizes == size].tolist())):
            here = other.filter(pa.array((sizes == size) & (factors == factor)))
            there = main.filter(pa.array(main_sizes == size))
            tuned, changed = means(there, here), means(here, there)
            names = sorted(set(tuned) & set(changed))
            if len(names) < 2:
                continue
            reference = sorted(names, key=lambda n: sign * tuned[n])
            order = sorted(names, key=lambda n: sign * changed[n])
            flips = tuple(
                (a, b) for i, a in enumerate(reference) for b in reference[i + 1 :] if order.index(b) < order.index(a)
            )
            size_of_flips = [min(abs(tuned[a] - tuned[b]), abs(changed[a] - changed[b])) for a, b in flips]
            within = bool(flips) and max(size_of_flips) < 2.0 * noise_sd
            gains = tuple((n, sign * (tuned[n] - changed[n])) for n in names)
            rows.append(LearningRate(float(factor), size, tuple(order), tuple(reference), flips, within, gains))
    return tuple(rows)


def scale_names(table: pa.Table) -> npt.NDArray[np.str_]:
    """The scale of every row, or its parameters."""
    rows = zip(table["scale"].to_pylist(), numbers(table, "params").tolist(), strict=True)
    return np.array([s if s is not None else f"{p:.4g}" for s, p in rows])


def means(table: pa.Table, budgets_of: pa.Table) -> dict[str, float]:
    """Mean value by dataset over the token budgets that `budgets_of` has too."""
    shared = (
        table.filter(pc.is_in(table["tokens"], value_set=pc.unique(budgets_of["tokens"])))
        if budgets_of.num_rows
        else table
    )
    out: dict[str, list[float]] = {}
    for name, value in zip(shared["dataset"].to_pylist(), shared["value"].to_pylist(), strict=True):
        out.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in out.items()}
