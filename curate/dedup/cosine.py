"""Cosines of vectors in float16, exact up to the last rounding: no order, block, thread or machine changes a bit.

A product of two float16 values of at most 1 is a multiple of 2^-48, and so are sums of them; those that arise between
unit vectors stay below 2, and fit into the 53 bits of float64 whatever the order of adding. Half as fast as float32.
"""

import numpy as np


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[n, m]: of each row of unit vectors float16[n, d] to each of float16[m, d]; of equal ones exactly 1."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    products = one @ other.T
    products /= np.sqrt(np.outer(_squares(one), _squares(other)))
    return np.minimum(products, 1.0, out=products)


def paired_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[n]: of each row of unit vectors float16[n, d] to the same row of the other float16[n, d]."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    products = np.einsum("nd,nd->n", one, other) / np.sqrt(_squares(one) * _squares(other))
    return np.minimum(products, 1.0, out=products)


def _squares(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", vectors, vectors)
