"""The table of characters: word-break class, flags and lower case of each code point (Unicode, all planes).

`word_break.npz` is made by `make_word_break.py`. It has two stages: a page number for each 256 code points, and pages.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curate.kernels.compile import inlined
from curate.kernels.memory import load_int32, load_uint16, load_uint32

# Word_Break property values of UAX #29; every other one is 0.
CLASSES = {
    "ALetter": 1,
    "Hebrew_Letter": 2,
    "Numeric": 3,
    "ExtendNumLet": 4,
    "Katakana": 5,
    "MidLetter": 6,
    "MidNum": 7,
    "MidNumLet": 8,
    "Single_Quote": 9,
    "Double_Quote": 10,
    "Extend": 11,
    "Format": 12,
    "ZWJ": 13,
    "WSegSpace": 14,
    "CR": 15,
    "LF": 16,
    "Newline": 17,
    "Regional_Indicator": 18,
}
CLASS = 0x1F
LETTER = 0x20
NOT_PUNCTUATION = 0x40
LETTER_OR_NUMBER = 0x80
NOT_ASCII = 0x100
FLAG_SHIFT = 5
"""LETTER, NOT_PUNCTUATION, LETTER_OR_NUMBER and NOT_ASCII, shifted down by this, are flags of a word"""
WORD_ENDS_SENTENCE = 0x10
WORD_ONLY_PUNCTUATION = 0x20
UNDECIDED = 0x80
"""In the place of a word's flags: look at all of it"""
NOT_SPACE = 0x4000
TERMINAL = 0x200
PICTOGRAPH = 0x400
UPPER_CASE = 0x1000
DIGIT = 0x2000
# The next ones decide where words are cut (word_rules.py) and where sentences end.
OUTER = 0x10000
"""A mark that is a word of its own at either end of a chunk: commas, quotation marks, brackets"""
QUOTE = 0x20000
"""Those of them that quote"""
CURRENCY = 0x40000
ICON = 0x80000
"""Unicode category So: a word of its own wherever it stands"""
SENTENCE_END = 0x100000
"""One of the marks that end a sentence for spaCy's sentencizer"""
ONLY_PUNCTUATION = 0x200000
"""Unicode category P"""


class CharacterTable(NamedTuple):
    """Addresses of the table's arrays, which live as long as the process; what kernels take as `characters`."""

    property_page: int
    """uint16[4352]: page of a code point's properties"""
    properties: int
    """uint32[256 * pages]: class and flags"""
    lower_page: int
    """uint16[4352]: page of a code point's lower case"""
    lower: int
    """int32[256 * pages]: what to add to a code point for its simple lower case"""
    first_flags: int
    """uint8[512]: flags of a word of one byte by that byte; of a longer ASCII word, or UNDECIDED, from 256 on"""


@cache
def _arrays() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("word_break.npz")) as stored:
        arrays = {name: stored[name] for name in CharacterTable._fields if name in stored}
    first_page = arrays["properties"][256 * int(arrays["property_page"][0]) :][:256]
    flags = (first_page.astype(np.int64) >> FLAG_SHIFT) & 0xF
    flags |= np.where(first_page & SENTENCE_END, WORD_ENDS_SENTENCE, 0) | np.where(
        first_page & ONLY_PUNCTUATION, WORD_ONLY_PUNCTUATION, 0
    )
    longer = np.where(first_page & LETTER, flags, UNDECIDED)
    arrays["first_flags"] = np.concatenate([flags, longer]).astype(np.uint8)
    return arrays


def character_table() -> CharacterTable:
    """The table, read once."""
    return CharacterTable(*(_arrays()[name].ctypes.data for name in CharacterTable._fields))


@inlined
def properties_of(characters, point):  # type: ignore[no-untyped-def]
    """The class and flags of a code point."""
    page = load_uint16(characters.property_page + 2 * (point >> 8))
    return load_uint32(characters.properties + 4 * ((page << 8) | (point & 255)))


@inlined
def lower_case_of(characters, point):  # type: ignore[no-untyped-def]
    """The code point's simple lower case."""
    page = load_uint16(characters.lower_page + 2 * (point >> 8))
    return point + load_int32(characters.lower + 4 * ((page << 8) | (point & 255)))
