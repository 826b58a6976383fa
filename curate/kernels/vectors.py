"""64 bytes of text at once, as LLVM's own vector (`<64 x i8>`): how kernels get bit masks of bytes that they look for.

`block_masks` makes of a function that compares a vector one that kernels call with an address; which bytes it looks for
stands beside the kernel that wants them, or in memory.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 64
BYTES = ir.VectorType(ir.IntType(8), BLOCK)
WORD = ir.IntType(64)

Classify = Callable[[Any, Any], Sequence[Any]]
"""(LLVM's builder, vector of 64 bytes) -> vectors of 64 truth values."""


def block_masks(count: int) -> Callable[[Classify], Any]:
    """What kernels call: 64 bytes at an address -> `count` bit masks (uint64; one mask comes alone), by `classify`."""
    given = types.UniTuple(types.uint64, count) if count > 1 else types.uint64

    def made(classify: Classify) -> Any:
        def masks_of(typing_context: Any, address: Any) -> Any:
            def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
                found = classify(builder, load(builder, arguments[0], BYTES))
                masks = [builder.bitcast(one, WORD) for one in found]
                return context.make_tuple(builder, sig.return_type, masks) if count > 1 else masks[0]

            return given(types.intp), generate

        masks_of.__name__, masks_of.__doc__ = classify.__name__, classify.__doc__
        return intrinsic(masks_of)

    return made


def load(builder: Any, address: Any, kind: Any) -> Any:
    """A value at an address that need not be aligned."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def splat(byte: int) -> Any:
    """The byte, 64 times."""
    return ir.Constant(BYTES, [byte] * BLOCK)


def equal(builder: Any, vector: Any, characters: str) -> Any:
    """Which bytes are one of these (each a code point below 256)."""
    found = None
    for character in characters:
        one = builder.icmp_unsigned("==", vector, splat(ord(character)))
        found = one if found is None else builder.or_(found, one)
    return found


def within(builder: Any, vector: Any, low: int, high: int) -> Any:
    """Which bytes lie from `low` to `high`."""
    return builder.icmp_unsigned("<=", builder.sub(vector, splat(low)), splat(high - low))


def any_within(builder: Any, vector: Any, ranges: Iterable[tuple[int, int]]) -> Any:
    """Which bytes lie within one of the ranges."""
    found = None
    for low, high in ranges:
        one = within(builder, vector, low, high) if high > low else equal(builder, vector, chr(low))
        found = one if found is None else builder.or_(found, one)
    return found


def below(builder: Any, vector: Any, number: int) -> Any:
    """Which bytes are below a number if they are signed: 0, those that are not ASCII; -64, those that continue a code
    point."""
    return builder.icmp_signed("<", vector, splat(number))
