"""Thrift's compact protocol, as much of it as Parquet's footers and page headers need; of hostile bytes, too.

What is wanted is named by a `Spec`: field number -> its kind. A field of another kind than the spec says is skipped, as
Thrift's own readers do. Everything that is wrong with the bytes is a ValueError, and nothing grows beyond them.
"""

from typing import Any

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
Spec = dict[int, Any]
"""Field number -> I32, I64 or BINARY; [kind] for a list; another Spec for a struct."""
_DEEPEST = 32


class Compact:
    """A reader of structs that moves forward over `data`."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data = data
        self.place = place
        """Of the next byte."""

    def struct(self, spec: Spec, depth: int = 0) -> dict[int, Any]:
        """The fields that `spec` names, as far as the struct has them."""
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            kind, wanted = head & 15, spec.get(field)
            if wanted is not None and kind == _kind(wanted):
                found[field] = self._value(wanted, depth)
            else:
                self._skip(kind, depth, alone=True)
        return found

    def _value(self, wanted: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if wanted in (I32, I64):
            return self._zigzag()
        if wanted == BINARY:
            return self._bytes(self._varint())
        if isinstance(wanted, dict):
            return self.struct(wanted, depth + 1)
        count, kind = self._list_head()
        if kind != _kind(wanted[0]):
            raise ValueError(f"a list holds values of type {kind}, not {_kind(wanted[0])}")
        return [self._value(wanted[0], depth + 1) for _ in range(count)]

    def _skip(self, kind: int, depth: int, *, alone: bool) -> None:
        """Pass over a value; `alone`: it is a field, where a truth value has no byte of its own."""
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if kind in (TRUE, FALSE):
            self._bytes(0 if alone else 1)
        elif kind == I8:
            self._bytes(1)
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == DOUBLE:
            self._bytes(8)
        elif kind == BINARY:
            self._bytes(self._varint())
        elif kind in (LIST, SET):
            count, inner = self._list_head()
            for _ in range(count):
                self._skip(inner, depth + 1, alone=False)
        elif kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._check_count(count)
            for _ in range(count):
                self._skip(kinds >> 4, depth + 1, alone=False)
                self._skip(kinds & 15, depth + 1, alone=False)
        elif kind == STRUCT:
            self.struct({}, depth + 1)
        else:
            raise ValueError(f"a field has the unknown type {kind}")

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        self._check_count(count)
        return count, head & 15

    def _check_count(self, count: int) -> None:
        if count > len(self._data) - self.place:  # each value has a byte at least
            raise ValueError(f"a list of {count:,} values is longer than what is left")

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self.place:
            raise ValueError("it ends too early")
        self.place += count
        return self._data[self.place - count : self.place]

    def _byte(self) -> int:
        if self.place >= len(self._data):
            raise ValueError("it ends too early")
        self.place += 1
        return self._data[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number in it does not end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _kind(wanted: Any) -> int:
    return LIST if isinstance(wanted, list) else STRUCT if isinstance(wanted, dict) else int(wanted)
