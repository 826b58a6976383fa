"""The lowest values that hash functions take on a set: 16 functions at once, their minima held in registers.

Two families of functions of 32 bits, named as datasketch's schemes: `affine32`, a * x + b mod 2^32 with odd a, and
`legacy`, ((a * x + b mod 2^64) mod 2^61 - 1) mod 2^32. LLVM lowers the vectors to AVX-512, AVX2, SSE2 or NEON as the
machine has them. Costs 5.5 ns a shingle for 112 functions with AVX-512 (`legacy` 38), 2 multiplications a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from curate.kernels.vectors import WORD, load

LANES = 16
"""Functions at once."""

_LOW = ir.IntType(32)
_MINIMA = ir.VectorType(_LOW, LANES)
_HALF = ir.VectorType(WORD, LANES // 2)
PRIME = 2**61 - 1
"""Of `legacy`"""

Values = Callable[[Any, Any, Any, Any], Any]
"""(LLVM's builder, x as int32, vector of multipliers, of addends) -> vector of the functions' values."""


def _of(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _everywhere(builder: Any, value: Any, kind: Any) -> Any:
    """A scalar in all places of a vector."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_LOW, 0))
    places = ir.Constant(ir.VectorType(_LOW, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), places)


def _lower(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.icmp_unsigned("<", one, other), one, other)


def _affine32(builder: Any, x: Any, multipliers: Any, addends: Any) -> Any:
    return builder.add(builder.mul(multipliers, _everywhere(builder, x, _MINIMA)), addends)


def _legacy(builder: Any, x: Any, multipliers: Any, addends: Any) -> Any:
    x = _everywhere(builder, builder.zext(x, WORD), _HALF)
    # Each half of the multiplier by itself: machines multiply 32 by 32 bits faster than 64 by 64.
    low = builder.mul(builder.and_(multipliers, _of(_HALF, 2**32 - 1)), x)
    high = builder.mul(builder.lshr(multipliers, _of(_HALF, 32)), x)
    value = builder.add(builder.add(low, builder.shl(high, _of(_HALF, 32))), addends)
    # 2^61 is 1 modulo the prime, so that this leaves at most 7 more than it; below it, subtracting wraps and is more.
    value = builder.add(builder.and_(value, _of(_HALF, PRIME)), builder.lshr(value, _of(_HALF, 61)))
    value = _lower(builder, value, builder.sub(value, _of(_HALF, PRIME)))
    return builder.and_(value, _of(_HALF, 2**32 - 1))


def _lowest(values: Values, kind: Any) -> Any:
    """What kernels call: (address of x's, how many, of LANES multipliers, of addends, of minima) lowers the minima to
    the functions' values at these x. x and minima are uint32, multipliers and addends as wide as `kind` has them."""
    vectors = LANES // kind.count
    narrow = ir.VectorType(_LOW, kind.count)

    def table(builder: Any, address: Any, kind: Any) -> Sequence[Any]:
        size = kind.count * kind.element.width // 8
        return [
            load(builder, builder.add(address, ir.Constant(WORD, size * vector)), kind) for vector in range(vectors)
        ]

    def lowest(typing_context: Any, xs: Any, count: Any, multipliers: Any, addends: Any, minima: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            xs, count, multipliers, addends, minima = arguments
            functions = list(zip(table(builder, multipliers, kind), table(builder, addends, kind), strict=True))
            held = [builder.zext(one, kind) if kind != narrow else one for one in table(builder, minima, narrow)]
            slots = [cgutils.alloca_once_value(builder, one) for one in held]
            with cgutils.for_range(builder, count) as loop:
                x = load(builder, builder.add(xs, builder.mul(loop.index, ir.Constant(WORD, 4))), _LOW)
                for (a, b), slot in zip(functions, slots, strict=True):
                    builder.store(_lower(builder, values(builder, x, a, b), builder.load(slot)), slot)
            for vector, slot in enumerate(slots):
                value = builder.load(slot)
                address = builder.add(minima, ir.Constant(WORD, 4 * kind.count * vector))
                pointer = builder.inttoptr(address, narrow.as_pointer())
                builder.store(builder.trunc(value, narrow) if kind != narrow else value, pointer, align=1)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return intrinsic(lowest)


lowest_affine32 = _lowest(_affine32, _MINIMA)
lowest_legacy = _lowest(_legacy, _HALF)
