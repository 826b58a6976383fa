"""The bridge to the package `datasketch` (version 2 or later): our signatures as its MinHash objects.

Our signatures are its own, bit for bit, for the same tokens: a token is a shingle (curate.kernels.shingles), of which
its hash function takes the low 32 bits. So its MinHashLSH, in memory or on Redis, can hold and query what `minhash`
stored with `verify: estimated` or `none`. Made one object at a time, some 100,000 a second.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.dedup.corpus import SETTINGS, fixed_rows
from curate.dedup.minhash import MinHash
from curate.errors import MismatchError
from curate.kernels.minhash import HashFunctions, sketches

if TYPE_CHECKING:
    from datasketch import LeanMinHash


def stored(partial: pa.Table) -> "Iterator[tuple[str, LeanMinHash]]":
    """The id and the signature of each document of a stored partial of `minhash`.

    Raises MismatchError if it holds no signatures.
    """
    made_by: dict[str, Any] = json.loads((partial.schema.metadata or {}).get(SETTINGS, b"{}"))
    if made_by.get("method") != MinHash.name or made_by.get("holds") != "signatures":
        raise MismatchError(
            "This table holds no signatures of `minhash`, or sets of shingles in their place: "
            "map with `verify: estimated` (or `none`) to have them stored."
        )
    minima = fixed_rows(partial.column("signature"), np.uint32)
    ids = partial.column("id").to_pylist()
    yield from zip(ids, _lean(minima, made_by["seed"], made_by["scheme"]), strict=True)


def signatures_of(texts: pa.Array, step: MinHash) -> "Iterator[LeanMinHash]":
    """Signatures of other texts by the parameters of a step: what to query with."""
    shape = step.banding
    functions = HashFunctions.of(shape.minima, seed=step.seed, scheme=step.scheme)
    minima = sketches(texts, shape.ngram, unit=shape.unit, functions=functions).minima
    yield from _lean(minima, step.seed, step.scheme)


def _lean(minima: np.ndarray, seed: int, scheme: str) -> "Iterator[LeanMinHash]":
    from datasketch import LeanMinHash

    for row in minima:
        yield LeanMinHash(seed=seed, hashvalues=row, scheme=scheme)
