"""The share of one count in another."""

from __future__ import annotations

import numpy as np


def ratio(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """count / total in float64, 0 where total is 0."""
    return np.divide(count, total, out=np.zeros(len(count), dtype=np.float64), where=total != 0)
