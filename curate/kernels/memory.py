"""Loads from byte buffers: 64 bytes classified at once, 8 bytes as a word, UTF-8 code points.

Kernels hand addresses to their helpers, not arrays: Numba counts references of an array at each call, which costs
more than the helper. Vectors (vectors.py) are LLVM's own, which it lowers to AVX-512, AVX2, SSE2 or NEON as the
machine has them. Nothing is read past the end of a buffer: near it, bytes go through a scratch block of 64 bytes.
Words are little-endian. Invalid UTF-8 never fails: a byte that does not begin a whole sequence counts as one U+FFFD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from curate.kernels.compile import inlined
from curate.kernels.vectors import BLOCK as BLOCK
from curate.kernels.vectors import BYTES, WORD, any_within, below, block_masks, equal, load, splat, within

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
ZERO = np.uint64(0)
ONE = np.uint64(1)
TOP = np.uint64(63)

_ODD = ((0, 8), (14, 27), (36, 37), (43, 43), (47, 47), (61, 61), (64, 64), (92, 92), (94, 95), (124, 124), (126, 127))
_TWO_BYTE_LETTERS = ((0xC3, 0xC9), (0xD0, 0xD1))


@block_masks(12)
def word_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: lower case, upper case, digits, space, not ASCII, full stop, comma, `:` or
    `;`, apostrophe, hyphen, percent, odd: marks that seldom stand at the end of a word, the percent sign and control
    characters among them.
    """
    return [
        within(builder, block, ord("a"), ord("z")),
        within(builder, block, ord("A"), ord("Z")),
        within(builder, block, ord("0"), ord("9")),
        any_within(builder, block, ((9, 13), (28, 32))),
        below(builder, block, 0),
        *(equal(builder, block, marks) for marks in (".", ",", ":;", "'", "-", "%")),
        any_within(builder, block, _ODD),
    ]


@block_masks(11)
def wide_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks of parts of code points beyond ASCII.

    Continuation bytes; lead bytes of two-byte letters (after C3, two second bytes are none: the third mask); E2, 80 and
    the last bytes of dashes, of the apostrophe, of it and other quotation marks or the ellipsis; C2 and the last bytes
    of the space that does not break and of guillemets.
    """
    return [
        within(builder, block, 0x80, 0xBF),
        any_within(builder, block, _TWO_BYTE_LETTERS),
        any_within(builder, block, ((0x97, 0x97), (0xB7, 0xB7))),
        equal(builder, block, "\xe2"),
        equal(builder, block, "\x80"),
        within(builder, block, 0x93, 0x94),
        equal(builder, block, "\x99"),
        any_within(builder, block, ((0x98, 0x9A), (0x9C, 0x9E), (0xA6, 0xA6))),
        equal(builder, block, "\xc2"),
        equal(builder, block, "\xa0"),
        equal(builder, block, "\xab\xbb"),
    ]


@block_masks(5)
def break_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: newline; another one-byte line break; what may be the last byte of a longer
    one, and what stands before it then; bytes that continue a code point.
    """
    return [
        equal(builder, block, "\n"),
        builder.or_(within(builder, block, 11, 13), within(builder, block, 28, 30)),
        equal(builder, block, "\x85\xa8\xa9"),
        equal(builder, block, "\xc2\x80"),
        below(builder, block, -64),
    ]


@block_masks(3)
def symbol_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: `#`, full stop, the lead byte of an ellipsis character."""
    return [equal(builder, block, character) for character in ("#", ".", "\xe2")]


@block_masks(4)
def ellipsis_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: `#`, full stop, the last byte of an ellipsis and the one before it."""
    return [equal(builder, block, character) for character in ("#", ".", "\xa6", "\x80")]


@intrinsic
def phrase_masks(typing_context: Any, address: Any) -> Any:
    """64 bytes (67 are read) -> bit masks: `[`, `{`, where a phrase that C4 looks for may begin, whatever its case."""
    signature = types.UniTuple(types.uint64, 3)(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        block = load(builder, arguments[0], BYTES)
        lower = []
        for i in range(4):
            shifted = load(builder, builder.add(arguments[0], ir.Constant(WORD, i)), BYTES)
            lower.append(builder.or_(shifted, splat(32)))
        found = None
        for beginning in ("java", "lore", "cook", "term", "priv"):
            here = None
            for vector, character in zip(lower, beginning, strict=True):
                same = equal(builder, vector, character)
                here = same if here is None else builder.and_(here, same)
            found = here if found is None else builder.or_(found, here)
        masks = [equal(builder, block, "["), equal(builder, block, "{"), found]
        return context.make_tuple(builder, sig.return_type, [builder.bitcast(mask, WORD) for mask in masks])

    return signature, generate


@block_masks(1)
def continuation_mask(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit mask of those that continue a code point."""
    return [below(builder, block, -64)]


@intrinsic
def copy_bytes(typing_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between addresses that do not overlap."""
    signature = types.void(types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(argument, pointer) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def address_of(typing_context: Any, array: Any, index: Any) -> Any:
    """Address of an element of a contiguous byte array (the array must outlive its use)."""
    signature = types.intp(array, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        start = context.make_array(sig.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(builder.gep(start, [arguments[1]]), WORD)

    return signature, generate


@intrinsic
def load_byte(typing_context: Any, address: Any) -> Any:
    """The byte at an address."""
    signature = types.uint8(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return load(builder, arguments[0], ir.IntType(8))

    return signature, generate


@intrinsic
def clear_bytes(typing_context: Any, address: Any, size: Any) -> Any:
    """Fill bytes with zeros."""
    signature = types.void(types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        cgutils.memset(builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), arguments[1], 0)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def load_uint16(typing_context: Any, address: Any) -> Any:
    """The uint16 at an address, as int64."""
    signature = types.int64(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.zext(load(builder, arguments[0], ir.IntType(16)), WORD)

    return signature, generate


@intrinsic
def load_uint32(typing_context: Any, address: Any) -> Any:
    """The uint32 at an address, as int64."""
    signature = types.int64(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.zext(load(builder, arguments[0], ir.IntType(32)), WORD)

    return signature, generate


@intrinsic
def load_int32(typing_context: Any, address: Any) -> Any:
    """The int32 at an address, as int64."""
    signature = types.int64(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.sext(load(builder, arguments[0], ir.IntType(32)), WORD)

    return signature, generate


@intrinsic
def store_byte(typing_context: Any, address: Any, byte: Any) -> Any:
    """Write a byte to an address."""
    signature = types.void(types.intp, types.uint8)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def store_uint32(typing_context: Any, address: Any, value: Any) -> Any:
    """Write the low half of an int64 to an aligned address."""
    signature = types.void(types.intp, types.int64)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        builder.store(builder.trunc(arguments[1], ir.IntType(32)), pointer)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def store_word(typing_context: Any, address: Any, word: Any) -> Any:
    """Write a word to an aligned address."""
    signature = types.void(types.intp, types.uint64)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], WORD.as_pointer()))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def load_word(typing_context: Any, address: Any) -> Any:
    """8 bytes at an address as a little-endian word."""
    signature = types.uint64(types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return load(builder, arguments[0], WORD)

    return signature, generate


@intrinsic
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Index of the lowest bit that is set; 64 if none is."""
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return signature, generate


@intrinsic
def leading_zeros(typing_context: Any, word: Any) -> Any:
    """How many bits above the highest one that is set are not; 64 if none is."""
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return signature, generate


@intrinsic
def ones(typing_context: Any, word: Any) -> Any:
    """How many bits are set."""
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return signature, generate


@inlined
def first_bits(count):  # type: ignore[no-untyped-def]
    """A mask of the lowest `count` bits, 0 <= count; all bits from 64 on."""
    if count >= 64:
        return ALL
    return (ONE << np.uint64(count)) - ONE


@inlined
def block_address(address, limit, scratch):  # type: ignore[no-untyped-def]
    """Where the 64 bytes from `address` can be read: there or, if they would cross the `limit`, in `scratch`."""
    if address + BLOCK <= limit:
        return address
    for i in range(BLOCK):
        store_byte(scratch + i, load_byte(address + i) if address + i < limit else np.uint8(0))
    return scratch


@inlined
def bytes_as_word(address, count, limit):  # type: ignore[no-untyped-def]
    """The `count` (0..8) bytes from `address` as a word, zeros above them."""
    if count <= 0:
        return ZERO
    if address + 8 <= limit:
        return load_word(address) & (ALL >> np.uint64(64 - 8 * count))
    word = ZERO
    for i in range(count):
        word |= np.uint64(load_byte(address + i)) << np.uint64(8 * i)
    return word


@intrinsic
def _first_bytes(typing_context: Any, address: Any, count: Any) -> Any:
    """The first `count` (0..16) of 16 bytes that can be read at an address, as two words, zeros above them."""
    signature = types.UniTuple(types.uint64, 2)(types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        bytes_16, byte, place = ir.VectorType(ir.IntType(8), 16), ir.IntType(8), ir.IntType(32)
        one = builder.insert_element(
            ir.Constant(bytes_16, ir.Undefined), builder.trunc(arguments[1], byte), ir.Constant(place, 0)
        )
        counts = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(place, 16), [0] * 16))
        wanted = builder.icmp_unsigned("<", ir.Constant(bytes_16, list(range(16))), counts)
        kept = builder.select(wanted, load(builder, arguments[0], bytes_16), ir.Constant(bytes_16, [0] * 16))
        words = builder.bitcast(kept, ir.VectorType(WORD, 2))
        halves = [builder.extract_element(words, ir.Constant(place, half)) for half in (0, 1)]
        return context.make_tuple(builder, sig.return_type, halves)

    return signature, generate


@inlined
def last_words(address, size, limit):  # type: ignore[no-untyped-def]
    """The `size` (0..16) bytes from `address` as two words, zeros above them."""
    if address + 16 > limit:
        return bytes_as_word(address, min(size, 8), limit), bytes_as_word(address + 8, size - 8, limit)
    return _first_bytes(address, size)


@inlined
def code_point(address, end):  # type: ignore[no-untyped-def]
    """The code point at an address and how many bytes it takes; (0xFFFD, 1) where the bytes are no whole sequence."""
    lead = np.int64(load_byte(address))
    if lead < 0x80:
        return lead, 1
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead < 0xC0 or lead > 0xF7 or address + size > end:
        return 0xFFFD, 1
    point = lead & (0x7F >> size)
    for i in range(1, size):
        byte = np.int64(load_byte(address + i))
        if byte & 0xC0 != 0x80:
            return 0xFFFD, 1
        point = (point << 6) | (byte & 0x3F)
    return (point if point < 0x110000 else 0xFFFD), size


@inlined
def utf8_of(point):  # type: ignore[no-untyped-def]
    """The bytes of a code point as a word, the first one lowest, and how many there are."""
    if point < 0x80:
        return point, 1
    if point < 0x800:
        return (0xC0 | (point >> 6)) | ((0x80 | (point & 0x3F)) << 8), 2
    last = 0x80 | (point & 0x3F)
    third = 0x80 | ((point >> 6) & 0x3F)
    if point < 0x10000:
        return (0xE0 | (point >> 12)) | (third << 8) | (last << 16), 3
    return (0xF0 | (point >> 18)) | ((0x80 | ((point >> 12) & 0x3F)) << 8) | (third << 16) | (last << 24), 4


@inlined
def count_code_points(address, size, limit):  # type: ignore[no-untyped-def]
    """Bytes that do not continue a code point: the length in code points of valid UTF-8."""
    count = size
    while size >= BLOCK and address + BLOCK <= limit:
        count -= ones(continuation_mask(address))
        address += BLOCK
        size -= BLOCK
    while size > 0:
        step = min(8, size)
        word = bytes_as_word(address, step, limit)
        count -= ones(word & ~(word << ONE) & np.uint64(0x8080808080808080))
        address += step
        size -= step
    return count
