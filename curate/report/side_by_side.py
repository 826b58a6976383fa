"""Two texts beside each other on the terminal, with what differs marked; long stretches that are alike are folded.

Compared word by word (difflib) between the texts' common beginning and end; of very long differences only the first
WORDS_COMPARED words are, and that is said. Words that are very frequent never start a match (difflib's `autojunk`):
without this, one word repeated takes minutes.
"""

import re
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

_WORD = re.compile(r"\S+\s*")
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
    one, other = _words(left), _words(right)
    start = _alike(one, other)
    end = _alike(one[start:][::-1], other[start:][::-1])
    inner, inner_other = one[start : len(one) - end], other[start : len(other) - end]
    matcher = SequenceMatcher(None, inner[:WORDS_COMPARED], inner_other[:WORDS_COMPARED])
    codes = [code[1:] for code in matcher.get_opcodes() if code[0] != "equal"]
    found: list[Difference] = []
    last = 0
    for place, (low, high, low_other, high_other) in enumerate(codes):
        low, high, low_other, high_other = low + start, high + start, low_other + start, high_other + start
        following = codes[place + 1][0] + start if place + 1 < len(codes) else len(one)
        shown = max(last, low - CONTEXT)
        after = min(following, high + CONTEXT)
        words = (one[shown:low], one[low:high], other[low_other:high_other], one[high:after])
        found.append(Difference(shown - last, *(tuple(each) for each in words)))
        last = after
    whole = max(len(inner), len(inner_other)) <= WORDS_COMPARED
    return Comparison(tuple(found), len(one), len(other), whole)


def side_by_side(left: str, right: str, *, heads: tuple[str, str]) -> RenderableType:
    """A table of two columns under two heads; `[-words-]` are only on the left, `{+words+}` only on the right."""
    comparison = compared(left, right)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for head, words in zip(heads, (comparison.left_words, comparison.right_words), strict=True):
        table.add_column(Text.assemble(plain(head, 120, "bold"), f"\n{count(words)} words"), overflow="fold", ratio=1)
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
    return [found.group().rstrip() for found in _WORD.finditer(text)]


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
            side.append(marks.format(_line(words).strip()) + " ", style)
        side.append(_line(difference.after), "default")
        sides.append(side)
    return sides[0], sides[1]


def _line(words: tuple[str, ...]) -> str:
    return "".join(visible(word if len(word) <= _WIDEST else word[:_WIDEST] + "…") + " " for word in words)
