"""Make `word_break.npz`, the table of characters: run `python -m curate.kernels.make_word_break` (needs `regex`).

Properties come from the Unicode version that the `regex` module holds, and from the two character sets of datatrove
0.10 (`utils/text.py`) that its filters are defined by. A table has two stages: 4,352 page numbers, and pages of 256
entries.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import regex

from curate.kernels import characters as table

# What datatrove takes for punctuation: ASCII punctuation, control characters except tab and newline, these and
# TERMINAL.
PUNCTUATION_BEYOND_ASCII = "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
CONTROLS = [*range(9), 11, 12, *range(13, 32), *range(127, 160)]
# Its terminal punctuation is Unicode's Sentence_Terminal but for a few characters.
TERMINAL_BESIDES = "\u17d6\u17d9\u17da"
NOT_TERMINAL = (
    "\u1b4e\u1b4f\u1b7f\u2024\u2cf9\u2cfa\u2cfb\u2e60\u2e61\ufe12\ufe15\ufe16\U000113d4\U000113d5\U00016d6e\U00016d6f"
)

# What spaCy 3.8's rules for prefixes and suffixes take off a word at both ends, beside icons (lang/char_classes.py).
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
OUTER = QUOTES + "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
CURRENCY = "$£€¥฿₽﷼" + "".join(map(chr, range(0x20A0, 0x20C0)))
# Its sentencizer ends sentences at the marks of Unicode 10 of the same kind.
NOT_SENTENCE_END = (
    "\u061d\u061e\u0837\u0839\u083d\u083e\u17d4\u17d5\u17d6\u17d9\u17da\u1b7d\u1b7e\u2e53\u2e54"
    "\U00010f55\U00010f56\U00010f57\U00010f58\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89"
    "\U00011944\U00011946\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016e98"
)

EVERYTHING = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)


def _where(pattern: str) -> np.ndarray:
    """Code points that match a one-character pattern, as a mask over all of them."""
    return _mask("".join(regex.findall(pattern, EVERYTHING)))


def _mask(characters: str) -> np.ndarray:
    mask = np.zeros(0x110000, dtype=bool)
    mask[[ord(character) for character in characters]] = True
    return mask


def _two_stages(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pages, page = np.unique(values.reshape(-1, 256), axis=0, return_inverse=True)
    return page.reshape(-1).astype(np.uint16), pages.reshape(-1)


def properties() -> np.ndarray:
    """uint32[0x110000]: the word-break class in the low bits, a flag in each of the others."""
    found = np.zeros(0x110000, dtype=np.uint32)
    for name, number in table.CLASSES.items():
        found[_where(rf"\p{{Word_Break={name}}}")] = number
    ascii_punctuation = "".join(chr(p) for p in range(33, 127) if not chr(p).isalnum())
    terminal = (_where(r"\p{Sentence_Terminal}") | _mask(TERMINAL_BESIDES)) & ~_mask(NOT_TERMINAL)
    punctuation = _mask(ascii_punctuation + PUNCTUATION_BEYOND_ASCII + "".join(map(chr, CONTROLS))) | terminal
    spaces = _mask("".join(character for character in EVERYTHING if character.isspace()))
    letters = _where(r"\p{L}")
    found[letters] |= table.LETTER
    found[~punctuation] |= table.NOT_PUNCTUATION
    found[letters | _where(r"\p{N}")] |= table.LETTER_OR_NUMBER
    found[~spaces] |= table.NOT_SPACE
    found[terminal] |= table.TERMINAL
    found[_where(r"\p{Extended_Pictographic}")] |= table.PICTOGRAPH
    found[_where(r"\p{Lu}")] |= table.UPPER_CASE
    found[_where(r"\p{Nd}")] |= table.DIGIT
    found[128:] |= table.NOT_ASCII
    found[_mask(OUTER)] |= table.OUTER
    found[_mask(QUOTES)] |= table.QUOTE
    found[_mask(CURRENCY)] |= table.CURRENCY
    found[_where(r"\p{So}")] |= table.ICON
    found[terminal & ~_mask(NOT_SENTENCE_END)] |= table.SENTENCE_END
    found[_where(r"\p{P}")] |= table.ONLY_PUNCTUATION
    return found


def lower_case() -> np.ndarray:
    """int32[0x110000]: what to add to a code point for its lower case, where that is one code point."""
    shift = np.zeros(0x110000, dtype=np.int32)
    for character in EVERYTHING:
        lower = character.lower()
        if len(lower) == 1:
            shift[ord(character)] = ord(lower) - ord(character)
    return shift


def main() -> None:
    """Write the table beside this file."""
    property_page, property_values = _two_stages(properties())
    lower_page, lower_values = _two_stages(lower_case())
    np.savez_compressed(
        Path(__file__).with_name("word_break.npz"),
        property_page=property_page,
        properties=property_values,
        lower_page=lower_page,
        lower=lower_values,
    )


if __name__ == "__main__":
    main()
