"""A short run of benchmarks/dedup/quality.py: recall, error of the estimate, and removals, beside theory and truth."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from curate.dedup.minhash import MinHash
from curate.dedup.presets import PRESETS


def _benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "dedup" / "quality.py"
    spec = importlib.util.spec_from_file_location("dedup_quality", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


quality = _benchmark()
RNG = random.Random(7)
WORDS = [f"w{int(RNG.paretovariate(0.6))}" for _ in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.2])
def test_recall_lies_within_the_binomial_band_of_theory(share: float) -> None:
    pairs = quality.planted(WORDS, share, pairs=60, seed=1)
    (found,) = quality.compared(pairs, PRESETS["fineweb"], range(20), False)
    assert found["within"], found
    assert found["rmse"] <= 1.1 * found["rmse_of_theory"]


def test_exact_verification_removes_no_document_that_is_not_similar() -> None:
    texts = [quality.planted(WORDS, share, pairs=40, seed=2).texts for share in (0.01, 0.03, 0.05)]
    step = MinHash(preset="fineweb", require_similar_to_survivor=True)
    removed, wrong = quality.false_removals(pa.concat_arrays(texts), step)
    assert (removed > 40, wrong) == (True, 0)


def test_the_judge_sees_recall_and_error_that_are_off() -> None:
    true, banding = np.full(50, 0.7), PRESETS["fineweb"]
    missed = quality.judged(true, np.zeros((20, 50), dtype=bool), np.full((20, 50), 0.7), banding)
    assert not missed["within"]
    off = quality.judged(true, np.ones((20, 50), dtype=bool), np.full((20, 50), 0.5), banding)
    assert off["rmse"] > 1.1 * off["rmse_of_theory"]
