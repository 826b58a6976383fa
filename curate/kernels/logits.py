"""Logits in bfloat16 to powers in place, with the largest logit of each token and the sum of its powers.

`powers_of_logits` reads (vocabulary, tokens) twice, 32 tokens at once in LLVM's vectors: for the largest, then for
exp(logit - largest) and its sum in float32. exp is 2 to a whole power times 2 to a broken one, a polynomial of degree
5; 2^-120 stands for anything smaller. Half a nanosecond a logit on AVX-512.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from curate.kernels.compile import kernel
from curate.kernels.vectors import load

LANES = 32
"""Columns at once; a count of columns is a multiple of it."""
FLOATS, INTEGERS, HALVES = (ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32), ir.IntType(16)))
_LOG2_E = math.log2(math.e)
_ROUNDS = 1.5 * 2**23 + 127
"""Added to a float32 it rounds it to a whole number, whose exponent field then stands in the lowest bits."""
_POWER_OF_TWO = (
    1.3333558146428443e-3,
    9.618129107628477e-3,
    5.550410866482158e-2,
    0.2402265069591007,
    math.log(2),
    1.0,
)
_SMALLEST = -120.0


def _floats(value: float) -> Any:
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def _integers(value: int) -> Any:
    return ir.Constant(INTEGERS, [value] * LANES)


def _widened(builder: Any, address: Any) -> Any:
    """The bfloat16 numbers at an address, in float32."""
    bits = builder.zext(load(builder, address, HALVES), INTEGERS)
    return builder.bitcast(builder.shl(bits, _integers(16)), FLOATS)


def _narrowed(builder: Any, vector: Any) -> Any:
    """To bfloat16, to the nearest and then to even; NaN is not kept."""
    bits = builder.bitcast(vector, INTEGERS)
    odd = builder.and_(builder.lshr(bits, _integers(16)), _integers(1))
    rounded = builder.add(bits, builder.add(odd, _integers(0x7FFF)))
    return builder.trunc(builder.lshr(rounded, _integers(16)), HALVES)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _store(builder: Any, vector: Any, address: Any) -> None:
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=1)


@intrinsic
def _raise_largest(typing_context: Any, logits: Any, largest: Any) -> Any:
    """Logits at an address, and the largest until now at another."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        some, before = _widened(builder, arguments[0]), load(builder, arguments[1], FLOATS)
        _store(builder, builder.select(builder.fcmp_ordered(">", some, before), some, before), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _to_powers(typing_context: Any, logits: Any, largest: Any, total: Any) -> Any:
    """Logits at an address become exp(logit - largest), which is added to the totals; NaN and infinities make the
    total NaN."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        distance = builder.fsub(_widened(builder, arguments[0]), load(builder, arguments[1], FLOATS))
        power = builder.fmul(distance, _floats(_LOG2_E))
        power = builder.select(builder.fcmp_ordered("<", power, _floats(_SMALLEST)), _floats(_SMALLEST), power)
        rounded = builder.fadd(power, _floats(_ROUNDS))
        broken = builder.fsub(power, builder.fsub(rounded, _floats(_ROUNDS)))
        result = _floats(_POWER_OF_TWO[0])
        for coefficient in _POWER_OF_TWO[1:]:
            result = _multiply_add(builder, result, broken, _floats(coefficient))
        whole = builder.shl(builder.bitcast(rounded, INTEGERS), _integers(23))
        result = builder.fmul(result, builder.bitcast(whole, FLOATS))
        _store(builder, builder.fadd(load(builder, arguments[2], FLOATS), result), arguments[2])
        _store(builder, _narrowed(builder, result), arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@kernel
def powers_of_logits(logits, largest, total, start, stop):  # type: ignore[no-untyped-def]
    """Columns `start` to `stop` (multiples of LANES) of `logits`, bfloat16 numbers as uint16[rows, columns], become
    exp(logit - largest); the largest of a column and the sum of its powers go into float32[columns] each."""
    rows, columns = logits.shape
    first, largest_at, total_at = logits.ctypes.data, largest.ctypes.data, total.ctypes.data
    largest[start:stop] = -np.inf
    total[start:stop] = 0
    for row in range(rows):
        at = first + 2 * columns * row
        for column in range(start, stop, LANES):
            _raise_largest(at + 2 * column, largest_at + 4 * column)
    for row in range(rows):
        at = first + 2 * columns * row
        for column in range(start, stop, LANES):
            _to_powers(at + 2 * column, largest_at + 4 * column, total_at + 4 * column)
