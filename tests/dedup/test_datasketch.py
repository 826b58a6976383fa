"""datasketch's index holds and answers by the signatures that `minhash` stored."""

import random

import pyarrow as pa
import pytest
from datasketch import MinHash as TheirMinHash
from datasketch import MinHashLSH

from curate.dedup.datasketch import signatures_of, stored
from curate.dedup.minhash import MinHash
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.errors import MismatchError
from curate.kernels.minhash import Scheme
from curate.kernels.shingles import shingles

WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("l", "m", "n", "r", "st")]
RNG = random.Random(4)
TEXTS = [" ".join(RNG.choices(WORDS, k=120)) for _ in range(30)]
TEXTS += [text + " bal" for text in TEXTS[:10]]


def partial_of(step: MinHash) -> pa.Table:
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    partial = step.map(iter([Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA))]))
    return step.kept(partial)


@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
def test_its_index_finds_by_stored_signatures_what_the_step_finds(scheme: Scheme) -> None:
    step = MinHash(preset="fineweb", verify="estimated", scheme=scheme)
    index = MinHashLSH(num_perm=112, params=(14, 8))
    for name, signature in stored(partial_of(step)):
        index.insert(name, signature)
    asked = pa.array([TEXTS[3].upper() + "!", "quite another text of some words and some more words"])
    found = [sorted(index.query(signature)) for signature in signatures_of(asked, step)]
    assert found == [["d3", "d33"], []]


@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
def test_a_signature_of_its_own_from_the_same_tokens_is_the_stored_one(scheme: Scheme) -> None:
    step = MinHash(preset="fineweb", verify="none", scheme=scheme, seed=9)
    offsets, hashes = shingles(pa.array(TEXTS), 5)
    for i, (_, signature) in enumerate(stored(partial_of(step))):
        own = TheirMinHash(112, seed=9, hashfunc=lambda token: token & 0xFFFFFFFF, scheme=scheme)
        own.update_batch(hashes[offsets[i] : offsets[i + 1]].tolist())
        assert own.jaccard(signature) == 1.0


def test_partials_without_signatures_are_refused() -> None:
    for partial in (partial_of(MinHash(preset="fineweb")), pa.table({"id": ["a"]})):
        with pytest.raises(MismatchError, match="verify: estimated"):
            next(stored(partial))
