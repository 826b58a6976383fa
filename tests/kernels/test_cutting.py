"""Texts without some of their spans, against plain slices of bytes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.cutting import without_spans

TEXTS = st.lists(
    st.one_of(st.binary(max_size=60), st.text(max_size=20).map(str.encode), st.text("ab", max_size=60).map(str.encode)),
    max_size=6,
)


@given(TEXTS, st.data())
@settings(max_examples=150, deadline=None)
def test_texts_without_spans_are_what_is_around_them(texts: list[bytes], data: st.DataObject) -> None:
    expected, first, spans = [], [0], []
    for text in texts:
        edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
        cuts = list(zip(edges[::2], edges[1::2], strict=False))
        spans += cuts
        first.append(len(spans))
        around = [0, *(edge for cut in cuts for edge in cut), len(text)]
        expected.append(b"".join(text[a:b] for a, b in zip(around[::2], around[1::2], strict=True)))
    starts, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    found = without_spans(pa.array(texts, pa.large_binary()), np.array(first), starts, ends)
    assert found.to_pylist() == expected


def test_spans_that_do_not_fit_are_refused() -> None:
    texts = pa.array(["abc", "de"], pa.string())
    for first, starts, ends in [([0, 1, 1], [2], [4]), ([0, 2, 2], [1, 0], [2, 1]), ([0, 0, 1], [-1], [1])]:
        with pytest.raises(ValueError, match="Spans"):
            without_spans(texts, np.array(first), np.array(starts), np.array(ends))
    assert without_spans(texts, np.array([0, 1, 2]), np.array([0, 1]), np.array([2, 2])).to_pylist() == ["c", "d"]
