"""Held-out text against the datasets that will be measured on it: which share of it do they hold already?

Shared word 13-grams (the length used for GPT-3, Brown et al. 2020, appendix C), found with the kernels' shingle hashes.
The held-out sets' hashes stay in memory (8 bytes a word), the datasets stream by; a share above a few percent means
that a dataset is measured on what it was trained on, and the study says so.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError

NGRAM = 13


def contamination(datasets: Mapping[str, Iterable[Path]], heldout: Mapping[str, Path]) -> dict[tuple[str, str], float]:
    """(dataset, held-out set) -> share of the held-out set's distinct 13-grams that the dataset holds, 0 to 1."""
    none = np.zeros(0, dtype=np.uint64)
    wanted = {name: np.unique(np.concatenate([none, *map(_ngrams, _texts(path))])) for name, path in heldout.items()}
    shares: dict[tuple[str, str], float] = {}
    for dataset, parts in datasets.items():
        found = {name: np.zeros(len(grams), dtype=bool) for name, grams in wanted.items()}
        for part in parts:
            for grams in map(_ngrams, _texts(part)):
                for name, target in wanted.items():
                    # The held-out set is small and sorted: look each gram of the dataset up in it.
                    if len(target):
                        place = np.minimum(np.searchsorted(target, grams), len(target) - 1)
                        found[name][place[target[place] == grams]] = True
        for name, hits in found.items():
            shares[dataset, name] = float(hits.mean()) if len(hits) else 0.0
    return shares


def _texts(path: Path) -> Iterable[pa.Array]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                for batch in file.read_row_group(group, columns=["text"]).combine_chunks().to_batches():
                    yield batch.column("text").cast(pa.string())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet with a `text` column ({error}).") from None


def _ngrams(texts: pa.Array) -> np.ndarray:
    """Hashes of the word 13-grams of a batch, repeated as they stand; documents of fewer words have none."""
    from curate.kernels.shingles import shingles

    return shingles(texts, NGRAM, short=False)[1]
