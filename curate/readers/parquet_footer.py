"""What a Parquet file says of its row groups and pages, read by ourselves before pyarrow is let at it.

Two reasons. pyarrow's accessors of a damaged footer's column chunks end the process (a C++ exception that nobody
catches, pyarrow 26). And a page is decompressed in one go to whatever its header says, up to 2 GiB, which neither the
footer nor pyarrow holds to less: a file of 20 KB can be a bomb. So the headers of pages are walked, a small read each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from curate.readers.thrift import BINARY, I32, I64, Compact, Spec

MAX_FOOTER_BYTES = 256 << 20
HEADER_BYTES = 64 << 10
"""A page's header with its statistics is smaller; one that is not is refused."""

_CHUNK: Spec = {3: {3: [BINARY], 6: I64, 7: I64, 9: I64, 11: I64}}
_FOOTER: Spec = {4: [{1: [_CHUNK], 3: I64}]}
_PAGE: Spec = {2: I32, 3: I32}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group."""

    path: str
    """Names of the column and the levels in it, joined by dots."""
    first_page: int
    """Where its pages start."""
    stored: int
    """Bytes in the file."""
    decoded: int
    """Bytes decompressed, by the footer's account."""
    has_dictionary: bool

    @property
    def column(self) -> str:
        """The column's name."""
        return self.path.split(".")[0]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(stream: BinaryIO, size: int) -> list[RowGroup]:
    """The row groups of a file of `size` bytes. Raises ValueError if the footer cannot be read."""
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    length = int.from_bytes(end[:4], "little")
    if len(end) < 8 or end[4:] != b"PAR1" or not 0 < length <= min(MAX_FOOTER_BYTES, size - 8):
        raise ValueError(f"the last bytes are {end!r}, not a footer's length and PAR1")
    stream.seek(size - 8 - length)
    footer = Compact(stream.read(length)).struct(_FOOTER)
    groups = []
    for group in footer.get(4, []):
        chunks = tuple(_chunk(chunk.get(3, {}), size) for chunk in group.get(1, []))
        if (rows := group.get(3, -1)) < 0:
            raise ValueError(f"a row group has {rows} rows")
        groups.append(RowGroup(rows, chunks))
    return groups


def _chunk(told: dict[int, object], size: int) -> Chunk:
    path, numbers = told.get(3), [told.get(field) for field in (6, 7, 9)]
    if not isinstance(path, list) or not all(isinstance(number, int) for number in numbers):
        raise ValueError("a column chunk does not say where it is (perhaps it is encrypted)")
    decoded, stored, first = (int(str(number)) for number in numbers)
    dictionary = told.get(11)
    has_dictionary = isinstance(dictionary, int) and dictionary > 0
    if isinstance(dictionary, int) and has_dictionary:
        first = min(first, dictionary)
    if not 0 <= first <= first + stored <= size:
        raise ValueError(f"a column chunk lies between bytes {first:,} and {first + stored:,} of {size:,}")
    return Chunk(b".".join(path).decode(), first, stored, max(0, decoded), has_dictionary)


def largest_page(stream: BinaryIO, chunks: Sequence[Chunk]) -> tuple[int, str]:
    """Decompressed bytes of the largest page, and its column. Raises ValueError if a header is damaged."""
    largest = (0, "")
    for chunk in chunks:
        place, end = chunk.first_page, chunk.first_page + chunk.stored
        while place < end:
            stream.seek(place)
            reader = Compact(stream.read(min(HEADER_BYTES, end - place)))
            header = reader.struct(_PAGE)
            size, stored = header.get(2, -1), header.get(3, -1)
            if size < 0 or stored < 0:
                raise ValueError(f"a page of column {chunk.path!r} does not say how large it is")
            largest = max(largest, (size, chunk.path))
            place += reader.place + stored
    return largest
