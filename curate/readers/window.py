"""A window that moves forward over the decompressed bytes of a file, and knows where they are stored.

gzip is read member by member, so that each byte's stored offset is known and, when a member is broken, reading can go
on at the next one (zlib-ng: half of zlib's time, the same errors at the same bytes). zstd (zstandard) and lz4 (pyarrow)
have no such way back: what follows damage is lost as one range, and their offsets count decompressed bytes. No more
than what is asked for is decompressed: a bomb costs time, not memory, and `work` bounds the time that damaged bytes can
cost by reading them again. A window may start in the middle of a plain or gzip file, where a piece of it starts.
"""

from collections import deque
from typing import BinaryIO, cast

import pyarrow as pa
import zstandard
from zlib_ng import zlib_ng

GZIP_MAGIC = b"\x1f\x8b\x08"
MAGICS = {GZIP_MAGIC: "gzip", b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}
CHUNK = 256 << 10
"""Decompressed bytes made in one go."""
STORED_CHUNK = 64 << 10
"""Compressed bytes read in one go."""
ZSTD_STEP = 1 << 10
"""Compressed bytes given to zstd in one go: they expand to 32 MB at most (a block of 128 KB needs 4 bytes)."""
ZSTD_MAX_WINDOW = 128 << 20
MAX_MEMBERS = 1 << 16
"""Most member starts remembered for the bytes in the window; beyond, an offset names an earlier member."""
_BROKEN_GZIP = cast(type[Exception], zlib_ng.error)
REREAD_FACTOR, REREAD_BYTES = 4, 256 << 20
"""How many bytes may be read again because of damage: this factor times the file, and at least this many."""


def codec_of(head: bytes, name: str, plain_start: bytes) -> str:
    """How a file is compressed, by its first bytes; by its name if those are damaged."""
    for magic, codec in MAGICS.items():
        if head.startswith(magic):
            return codec
    return "gzip" if name.endswith(".gz") and head and not head.lstrip().startswith(plain_start) else "plain"


class Window:
    """The bytes from the reader's place onwards, as far as they were asked for.

    `damage` is None, or the sentence why nothing can be read after the bytes in the window; `damage_at` is the stored
    offset where the damaged member starts. `plain_start` is how the content starts where it is not compressed.
    A window that starts at `start` > 0 needs `codec`, plain or gzip. A plain one can end at `end`; `span` is how many
    stored bytes it is meant for, where that is fewer than are left.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        name: str = "",
        *,
        plain_start: bytes,
        codec: str | None = None,
        start: int = 0,
        end: int | None = None,
        span: int | None = None,
    ) -> None:
        self._file = file
        self.size = size
        self.codec = codec or codec_of(file.read(16), name, plain_start)
        self.damage: str | None = None
        self.damage_at = 0
        self.work = REREAD_BYTES + REREAD_FACTOR * (size if span is None else span)
        self._buffer = bytearray()
        self._place = start  # offset of the window's first byte: decompressed, counted from `start`
        self._stored = start  # stored offset after the last byte that was read from the file
        self._end = end
        # (decompressed, stored) starts of members, the current one first
        self._members: deque[tuple[int, int]] = deque([(start, start)])
        self._newest = start  # stored start of the member that is being decompressed
        self._input = b""
        self._inflater: zlib_ng._Decompress | None = None
        self._ended = False
        file.seek(start)
        self._lz4 = pa.CompressedInputStream(file, "lz4") if self.codec == "lz4" else None
        self._frame: zstandard.ZstdDecompressionObj | None = None

    # ---- what a reader asks

    def fill(self, count: int) -> int:
        """Bytes in the window after an attempt to have `count` of them."""
        while len(self._buffer) < count and not self._ended:
            self._pull(min(max(count - len(self._buffer), CHUNK), 4 << 20))
        return len(self._buffer)

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes, which stay in the window."""
        self.fill(count)
        with memoryview(self._buffer) as view:
            return bytes(view[:count])

    def take(self, count: int) -> bytes:
        """Up to `count` bytes, which leave the window."""
        data = self.peek(count)
        self._drop(len(data))
        return data

    def find(self, pattern: bytes, start: int, limit: int) -> int:
        """Where `pattern` starts in the window, looked for from `start` within the first `limit` bytes, or -1."""
        searched = start
        while True:
            place = self._buffer.find(pattern, searched, limit)
            if place >= 0 or len(self._buffer) >= limit:
                return place
            searched = max(start, len(self._buffer) - len(pattern) + 1)
            before = len(self._buffer)
            if self.fill(min(limit, before + CHUNK)) == before:
                return -1

    def find_last(self, pattern: bytes, limit: int) -> int:
        """Where `pattern` starts last within the first `limit` bytes, or -1."""
        self.fill(limit)
        return self._buffer.rfind(pattern, 0, limit)

    def skip(self, count: int) -> int:
        """Leave `count` bytes out; returns how many there were. A plain file is not read for it."""
        left = count
        if self.codec == "plain" and left > len(self._buffer):
            left -= len(self._buffer)
            self._drop(len(self._buffer))
            step = min(left, self.size - self._stored)
            self._stored += step
            self._place += step
            self._file.seek(self._stored)
            return count - (left - step)
        while left and self.fill(1):
            step = min(left, len(self._buffer))
            self._drop(step)
            left -= step
        return count - left

    def go_back(self, count: int) -> bool:
        """Return to the bytes of a plain file that were skipped last; false as in `push_back`."""
        if not self.spend(count):
            return False
        self._buffer.clear()
        self._place -= count
        self._stored = self._place
        self._file.seek(self._stored)
        self._ended = False
        return True

    def push_back(self, data: bytes) -> bool:
        """Put bytes that were taken back before the window; false when damage has cost too much work already."""
        if not self.spend(len(data)):
            return False
        self._buffer[:0] = data
        self._place -= len(data)
        return True

    def spend(self, count: int) -> bool:
        """Charge work that damage causes; false when there is none left, and reading must end."""
        self.work -= count
        return self.work >= 0

    def close(self) -> None:
        """Give up what is left of the file."""
        self._buffer.clear()
        self._ended, self.damage = True, None

    @property
    def offset(self) -> int:
        """Stored offset of the window's first byte (gzip: of the member it is in)."""
        return self._place if self.codec != "gzip" else self._member()[1]

    @property
    def place(self) -> int:
        """Offset of the window's first byte in the decompressed file (of a window that starts at 0)."""
        return self._place

    @property
    def within(self) -> int:
        """Decompressed bytes between the start of the member and the window."""
        return self._place - self._member()[0] if self.codec == "gzip" else 0

    @property
    def left_in_member(self) -> int | None:
        """Bytes up to the next gzip member if its start is in the window already, else None."""
        self._member()
        return self._members[1][0] - self._place if len(self._members) > 1 else None

    def resume(self, expected: bytes) -> bool:
        """After damage: go to the next gzip member whose content starts with `expected`; false if there is none.

        The search starts just behind the start of the damaged member, as a broken stream may swallow its neighbours.
        """
        if self.codec != "gzip" or self.damage is None:
            return False
        place = self._find_member(self.damage_at + 1, expected)
        if place is None or not self.spend(max(0, self._stored - place)):
            return False
        self._buffer.clear()
        self._file.seek(place)
        self._stored, self._input, self._inflater = place, b"", None
        self._members, self._newest = deque([(self._place, place)]), place
        self.damage, self._ended = None, False
        return True

    # ---- how it is done

    def _member(self) -> tuple[int, int]:
        while len(self._members) > 1 and self._members[1][0] <= self._place:
            self._members.popleft()
        return self._members[0]

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._place += count

    def _damaged(self, sentence: str, at: int) -> None:
        self.damage, self.damage_at, self._ended = sentence, at, True

    def _pull(self, count: int) -> None:
        """One more piece of at most about `count` bytes, or the end, or damage."""
        try:
            if self.codec == "gzip":
                self._inflate(count)
            elif self.codec == "zstd":
                self._unzstd()
            elif self._lz4 is not None:
                piece = self._lz4.read(count)
                self._append(piece)
            else:
                left = count if self._end is None else min(count, self._end - self._stored)
                piece = self._file.read(left)
                self._stored += len(piece)
                self._append(piece)
        except (OSError, EOFError, pa.ArrowException, _BROKEN_GZIP, zstandard.ZstdError) as error:
            start = self._newest if self.codec == "gzip" else self._place + len(self._buffer)
            kind = self.codec if self.codec != "plain" else "file"
            self._damaged(f"the {kind} stream is broken ({' '.join(str(error).split())[:200]})", start)

    def _append(self, piece: bytes) -> None:
        self._buffer += piece
        self._ended = not piece

    def _inflate(self, count: int) -> None:
        if not self._input:
            self._input = self._file.read(STORED_CHUNK)
            self._stored += len(self._input)
        if not self._input:
            self._ended = True
            if self._inflater is not None:
                self._damaged("the file ends in the middle of a gzip member", self._newest)
            return
        if self._inflater is None:
            start = self._stored - len(self._input)
            if not self._input.startswith(GZIP_MAGIC[: len(self._input)]):
                self._damaged("no gzip member starts here", start)
                return
            self._begin_member(start)
            self._inflater = zlib_ng.decompressobj(wbits=31)
        before = self._inflater.copy()  # type: ignore[attr-defined]  # its stubs leave it out
        try:
            piece = self._inflater.decompress(self._input, count)
        except _BROKEN_GZIP:
            self._salvage(before, count)
            raise
        self._buffer += piece
        if self._inflater.eof:
            self._input, self._inflater = self._inflater.unused_data, None
        else:
            self._input = self._inflater.unconsumed_tail

    def _salvage(self, inflater: "zlib_ng._Decompress", count: int) -> None:
        """The bytes before the damage, which it does not give when it finds damage in the same call."""
        for start in range(0, len(self._input), 256):
            try:
                self._buffer += inflater.decompress(self._input[start : start + 256], count)
            except _BROKEN_GZIP:
                return
            if inflater.eof or inflater.unconsumed_tail:
                return

    def _unzstd(self) -> None:
        if not self._input:
            self._input = self._file.read(STORED_CHUNK)
            if not self._input:
                self._ended = True
                if self._frame is not None:
                    at = self._place + len(self._buffer)
                    self._damaged("the file ends in the middle of a zstd frame", at)
                return
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW).decompressobj()
        step, self._input = self._input[:ZSTD_STEP], self._input[ZSTD_STEP:]
        self._buffer += self._frame.decompress(step)
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data + self._input, None

    def _begin_member(self, start: int) -> None:
        self._newest = start
        place = self._place + len(self._buffer)
        if self._members[-1][0] == place:  # the member before was empty
            self._members[-1] = (place, start)
        elif len(self._members) < MAX_MEMBERS:
            self._members.append((place, start))

    def _find_member(self, start: int, expected: bytes) -> int | None:
        self._file.seek(start)
        base, held = start, b""
        while piece := self._file.read(CHUNK):
            held += piece
            place = held.find(GZIP_MAGIC)
            while place >= 0:
                if not self.spend(4096):
                    return None
                if self._starts_with(held[place : place + 4096], expected):
                    return base + place
                place = held.find(GZIP_MAGIC, place + 1)
            keep = min(len(held), 4096)
            base, held = base + len(held) - keep, held[-keep:]
        return None

    @staticmethod
    def _starts_with(member: bytes, expected: bytes) -> bool:
        try:
            return zlib_ng.decompressobj(wbits=31).decompress(member, len(expected)) == expected
        except _BROKEN_GZIP:
            return False
