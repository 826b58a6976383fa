"""Cut passages of benchmarks out of a document, with a margin, as GPT-3's appendix C describes (Brown et al. 2020).

Only documents that hold an item come here, one at a time: no hot path.
"""

from dataclasses import dataclass

import numpy as np

JOINT = "\n\n"
"""Between the pieces that are left."""


@dataclass(frozen=True)
class Cut:
    """What is left of a document."""

    text: str
    cuts: int
    """Passages that were cut out; those that meet with their margins are one."""
    longest_piece: int
    """Characters of the longest piece between them, whether it is left or too short."""


def merged(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans that overlap or touch as one, in order."""
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.append(True, starts[1:] > reach[:-1])
    return starts[first], reach[np.append(np.flatnonzero(first)[1:] - 1, len(reach) - 1)]


def cut_out(text: str, starts: np.ndarray, ends: np.ndarray, *, margin: int, min_piece: int) -> Cut:
    """The text without the spans (bytes of its UTF-8) and `margin` characters on both sides; pieces of fewer than
    `min_piece` characters go, too."""
    data = text.encode()
    starts, ends = merged(starts.astype(np.int64), ends.astype(np.int64))
    spans = [
        (_before(data, int(low), margin), _after(data, int(high), margin))
        for low, high in zip(starts, ends, strict=True)
    ]
    starts, ends = merged(*np.array(spans, dtype=np.int64).reshape(-1, 2).T)
    edges = zip([0, *ends.tolist()], [*starts.tolist(), len(data)], strict=True)
    pieces = [data[low:high].decode().strip() for low, high in edges]
    left = JOINT.join(piece for piece in pieces if len(piece) >= max(1, min_piece))
    return Cut(left, len(starts), max(map(len, pieces)))


def _before(data: bytes, place: int, characters: int) -> int:
    """The place so many characters before a place, or the beginning."""
    near = data[max(0, place - 4 * characters) : place].decode(errors="ignore")[-characters:] if characters else ""
    return place - len(near.encode())


def _after(data: bytes, place: int, characters: int) -> int:
    near = data[place : place + 4 * characters].decode(errors="ignore")[:characters]
    return place + len(near.encode())
