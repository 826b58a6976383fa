"""Two texts beside each other on the terminal, with what differs marked; long stretches that are alike are folded.

Compared word by word (difflib) between the texts' common beginning and end; of very long differences only the first
WORDS_COMPARED words are, and that is said. In scripts without spaces (Chinese, Japanese, Thai, ...) each letter with
its marks and each sign of punctuation is a word. Words that are very frequent never start a match (difflib's
`autojunk`): without this, one word repeated takes minutes. Single letters all are, so they are matched by three.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curate.report.markup import visible
from curate.report.numbers import count
from curate.report.terminal import plain

WORDS_COMPARED = 2_000
"""Words of each text, beyond what their beginnings and ends share, that are compared."""
CONTEXT = 8
"""Words that are alike shown before and after a difference."""
ROWS_SHOWN = 12
"""Differences shown."""

_LETTERS = (
    "\u0e01-\u0ec6\u0edc-\u0edf"  # Thai, Lao
    "\u0f40-\u0fbc\u1000-\u109f\u1780-\u17df"  # Tibetan, Myanmar, Khmer
    "\u2e80-\u2fff\u3001-\u312f\u31a0-\u4dbf\u4e00-\ua4cf"  # marks, kana, Bopomofo, Han, Yi
    "\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # the same, and full width
)
"""Of scripts that are written without spaces, and their punctuation."""
_MARKS = "".join(chr(point) for point in range(0x0E00, 0x1800) if unicodedata.category(chr(point))[0] == "M") + (
    "\u3099\u309a\ufe00-\ufe0f\uff9e\uff9f\U000e0100-\U000e01ef"
)
"""Of these scripts: what belongs to the letter before it."""
_LETTER = re.compile(f"[{_LETTERS}]")
_WORD = re.compile(f"(?:[{_LETTERS}][{_MARKS}]*|[^\\s{_LETTERS}]+)\\s?")
_WIDEST = 80
"""Characters of a word that are shown."""


@dataclass(frozen=True)
class Difference:
    """One place where two texts differ, in words, with some words around it."""

    alike_before: int
    """Words alike since the difference before it (or the beginning) that are not shown."""
    before: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Where two texts differ."""

    differences: tuple[Difference, ...]
    left_words: int
    right_words: int
    compared: bool
    """False: the texts differ over so many words that only the first were compared."""


def compared(left: str, right: str) -> Comparison:
    """Compare two texts word by word; white space does not count."""
    words, words_other = _words(left), _words(right)  # as they are shown
    one, other = [word.rstrip() for word in words], [word.rstrip() for word in words_other]
    start = _alike(one, other)
    end = _alike(one[start:][::-1], other[start:][::-1])
    stop, stop_other = len(one) - end, len(other) - end
    spans = _different(one[start:stop][:WORDS_COMPARED], other[start:stop_other][:WORDS_COMPARED])
    found: list[Difference] = []
    last = 0
    for place, (low, high, low_other, high_other) in enumerate(spans):
        low, high, low_other, high_other = low + start, high + start, low_other + start, high_other + start
        following = spans[place + 1][0] + start if place + 1 < len(spans) else len(one)
        shown = max(last, low - CONTEXT)
        after = min(following, high + CONTEXT)
        parts = (words[shown:low], words[low:high], words_other[low_other:high_other], words[high:after])
        found.append(Difference(shown - last, *(tuple(each) for each in parts)))
        last = after
    whole = max(stop, stop_other) - start <= WORDS_COMPARED
    return Comparison(tuple(found), len(one), len(other), whole)


def side_by_side(left: str, right: str, *, heads: tuple[str, str]) -> RenderableType:
    """A table of two columns under two heads; `[-words-]` are only on the left, `{+words+}` only on the right."""
    comparison = compared(left, right)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for head, words in zip(heads, (comparison.left_words, comparison.right_words), strict=True):
        table.add_column(
            Text.assemble(plain(head, 120, "bold"), f"\n{count(words)} word{'s' * (words != 1)}"),
            overflow="fold",
            ratio=1,
        )
    for difference in comparison.differences[:ROWS_SHOWN]:
        table.add_row(*_sides(difference))
    return Group(table, *_remarks(comparison))


def _remarks(comparison: Comparison) -> Iterator[Text]:
    if not comparison.differences:
        yield Text("The two texts have the same words.", "dim")
    if len(comparison.differences) > ROWS_SHOWN:
        yield Text(f"and {count(len(comparison.differences) - ROWS_SHOWN)} more differences", "dim")
    if not comparison.compared:
        yield Text(f"Only the first {count(WORDS_COMPARED)} words after the common beginning were compared.", "dim")


def _words(text: str) -> list[str]:
    """The words, with the white space after them if there is any."""
    return _WORD.findall(text)


def _different(one: list[str], other: list[str]) -> list[tuple[int, int, int, int]]:
    """Where two lists of words differ: from and to in each."""
    found = []
    for kind, low, high, low_other, high_other in SequenceMatcher(None, _keys(one), _keys(other)).get_opcodes():
        if kind == "equal":
            continue
        # a letter's key has what follows it: letters before the difference are alike, though their keys are not
        alike = _alike(one[low:high], other[low_other:high_other])
        low, low_other = low + alike, low_other + alike
        alike = _alike(one[low:high][::-1], other[low_other:high_other][::-1])
        span = (low, high - alike, low_other, high_other - alike)
        if span[0] < span[1] or span[2] < span[3]:
            found.append(span)
    return found


def _keys(words: list[str]) -> list[str]:
    """By what words are matched."""
    return ["".join(words[at : at + 3]) if _LETTER.match(word) else word for at, word in enumerate(words)]


def _alike(one: list[str], other: list[str]) -> int:
    """How many words two lists begin with alike."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _sides(difference: Difference) -> tuple[Text, Text]:
    skipped = f"… {count(difference.alike_before)} words alike …\n" if difference.alike_before else ""
    sides = []
    for words, marks, style in ((difference.left, "[-{}-]", "bold red"), (difference.right, "{{+{}+}}", "bold green")):
        side = Text(skipped, "dim")
        side.append(_line(difference.before), "default")
        if words:
            line = _line(words)
            side.append(marks.format(line.rstrip()) + " " * line.endswith(" "), style)
        side.append(_line(difference.after), "default")
        sides.append(side)
    return sides[0], sides[1]


def _line(words: tuple[str, ...]) -> str:
    shown = (word if len(word) <= _WIDEST else word[:_WIDEST] + "… " for word in words)
    return "".join(visible(word.rstrip()) + " " * word[-1].isspace() for word in shown)
