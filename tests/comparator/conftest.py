"""A law as a user would add it, known by its name for one test."""

from collections.abc import Iterator

import pytest

from curate.comparator import register
from curate.comparator.laws import LAWS, Law, Term, power_sum
from curate.comparator.laws.law import amplitude, exponent, offset


@pytest.fixture
def tokens_only() -> Iterator[Law]:
    yield register(
        power_sum(
            name="tokens_only",
            formula="L(D) = E + B D^-beta",
            parameters=(offset("E"), amplitude("B", "tokens", "beta"), exponent("beta")),
            terms=(Term("E"), Term("B", "beta", "tokens")),
            source="a test",
        )
    )
    del LAWS["tokens_only"]
