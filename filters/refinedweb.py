"""RefinedWeb's line edits with the 5% rule, and DCLM's page rules (Penedo et al. 2023, arXiv:2306.01116, appendix G.2).

Numbers, phrases and order are those of DCLM's code (Li et al. 2024, arXiv:2406.11794; `baselines/mappers/modifiers.py`,
`content_filters.py`, `dclm_baseline_refinedweb.yaml`), as RefinedWeb's own was not published. Where they differ: the
paper counts all words of the lines that a rule touched, the code those that went; the paper gives one example of a
counter and of each phrase. Words of the 5% rule are fastText's tokens that start with a letter or a number.
"""

from typing import Annotated, ClassVar

import numpy as np
import pyarrow.compute as pc
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.filters.judging import check_bounds, check_stop_words, switched_on, where_defined
from curate.kernels.line_edits import COUNTERS, EditedLines, edit_lines
from curate.kernels.ratio import ratio
from curate.kernels.split_words import split_words
from curate.steps import STEP_CONFIG, Edit, Filter, Outcome, Rule, judge

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Phrase = Annotated[str, Field(pattern=r"^[^\s.]", max_length=100)]
Word = Annotated[str, Field(pattern=r"^\S+$", max_length=100)]


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class RefinedWeb(Edit):
    """Removes lines that are no prose, cuts phrases of menus, and drops pages that lose too many words."""

    name: ClassVar[str] = "refinedweb"
    version: ClassVar[int] = 1
    measured_by: ClassVar[tuple[str, ...]] = (
        "max_uppercase",
        "max_numeric",
        "counters",
        "min_words",
        "max_phrase_words",
        "phrases_anywhere",
        "phrases_at_end",
        "phrases_at_start",
    )

    max_uppercase: Share | None = 0.5
    """Remove lines with a larger share of upper-case characters. The paper: "mainly composed of"."""
    max_numeric: Share | None = 0.999999
    """Remove lines with a larger share of digits: all of them (the paper), written as DCLM's code has it."""
    counters: list[Word] = Field(default_factory=lambda: list(COUNTERS))
    """Remove lines that are a number and one of these words (`3 likes`, `1.2K views`); [] switches it off."""
    min_words: Count | None = 2
    """Remove lines with fewer words between spaces. Empty lines stay."""
    max_phrase_words: Count = 10
    """Phrases are cut from lines of at most so many words; a line of which nothing is left is removed."""
    phrases_anywhere: list[Phrase] = Field(default_factory=lambda: ["items in cart"])
    """Cut wherever they stand, with a space before; whatever their case. A full stop stands for any character."""
    phrases_at_end: list[Phrase] = Field(default_factory=lambda: ["Read more..."])
    """Cut at the end of a line, with a space before. As the full stop is any character, `Read more >>` goes, too."""
    phrases_at_start: list[Phrase] = Field(default_factory=lambda: ["Sign-in"])
    """Cut at the start of a line, with a space after."""
    max_removed_words: Share | None = 0.05
    """Drop the page if a larger share of its words was removed (DCLM's reading of the rule)."""
    max_flagged_words: Share | None = None
    """Drop the page if a larger share of its words stood in lines that were removed or shortened. The paper: .05."""
    min_words_left: Count | None = 1
    """Drop the page if fewer words are left; the code drops pages without any."""

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`refinedweb.words`, `refinedweb.removed_words`, ...; float64, one a document."""
        return _signals(self._edit(batch))

    def rules(self) -> tuple[Rule, ...]:
        """What drops a page."""
        return switched_on(
            Rule("refinedweb.kept_words", "refinedweb.kept_words", at_least=self.min_words_left, span=(0, 2000)),
            Rule("refinedweb.removed_words", "refinedweb.removed_words", at_most=self.max_removed_words),
            Rule("refinedweb.flagged_words", "refinedweb.flagged_words", at_most=self.max_flagged_words),
        )

    def process(self, batch: Batch) -> Outcome:
        """Edit, then decide on what was removed."""
        edited = self._edit(batch)
        signals = _signals(edited)
        keep, left = judge(self.rules(), signals, len(batch))
        before, after = (pc.fill_null(pc.binary_length(texts), 0) for texts in (batch.texts, edited.text))
        removed = pc.subtract(before, after).to_numpy(zero_copy_only=False).astype(np.int64)
        return Outcome(batch.with_text(edited.text).filter(keep), left, edited=removed[keep], signals=signals)

    def _edit(self, batch: Batch) -> EditedLines:
        return edit_lines(
            batch.index,
            max_uppercase=-1 if self.max_uppercase is None else self.max_uppercase,
            max_numeric=-1 if self.max_numeric is None else self.max_numeric,
            counters=self.counters,
            min_words=-1 if self.min_words is None else self.min_words,
            max_phrase_words=self.max_phrase_words,
            anywhere=self.phrases_anywhere,
            at_end=self.phrases_at_end,
            at_start=self.phrases_at_start,
        )


def _signals(edited: EditedLines) -> dict[str, np.ndarray]:
    """Counts of lines and words, and the shares of words that were removed or stood in lines that were touched."""
    columns = dict(edited.columns)
    words, flagged = columns["words"], columns.pop("flagged_words")
    signals = {f"refinedweb.{name}": values.astype(np.float64) for name, values in columns.items()}
    signals["refinedweb.removed_words"] = where_defined(ratio(words - columns["kept_words"], words), words)
    signals["refinedweb.flagged_words"] = where_defined(ratio(flagged, words), words)
    return signals


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class DclmQuality(Filter):
    """Gopher's quality rules as DCLM's code reads them: words between spaces, stop words counted with their repeats."""

    name: ClassVar[str] = "dclm_quality"
    version: ClassVar[int] = 1
    measured_by: ClassVar[tuple[str, ...]] = ("stop_words",)

    min_words: Count | None = 50
    """Fewest words: fastText's tokens that start with a letter or a number."""
    max_words: Count | None = 100_000
    """Most of the same."""
    min_mean_word_length: float | None = 3
    """Characters a word, of the words between spaces, punctuation included."""
    max_mean_word_length: float | None = 10
    """Characters a word, of the same."""
    symbols_to_words: float | None = 0.1
    """Most `#`, `...`, `. . .` and `…`, all together, for each word between spaces; Gopher has a rule for each kind."""
    bullet_lines: Share | None = 0.9
    """Largest share of lines that start with `●`, `•`, `*` or `-`; blank lines are no lines."""
    ellipsis_lines: Share | None = 0.3
    """Largest share of lines that end in `...`, `. . .` or `…`."""
    non_alphabetic_words: Share | None = 0.2
    """Largest share of words between spaces without a letter."""
    min_stop_words: Count | None = 2
    """Fewest stop words; each time counts, whatever its case, and punctuation next to one hides it."""
    stop_words: list[Word] = Field(default_factory=lambda: ["the", "be", "to", "of", "and", "that", "have", "with"])
    """In lower case; Gopher's."""

    @model_validator(mode="after")
    def _something_can_stay(self) -> "DclmQuality":
        check_bounds(self)
        if not self.stop_words:  # repeats count: one word can be enough
            check_stop_words(self.min_stop_words, 0)
        return self

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`dclm.words`, `dclm.mean_word_length`, ... as the rules name them; float64, one a document."""
        found = split_words(batch.index, stop_words=self.stop_words)
        words, lines = found["words"], found["lines"]
        shares = {
            "mean_word_length": (found["characters"], words),
            "symbols_to_words": (found["symbols"], words),
            "bullet_lines": (found["bullet_lines"], lines),
            "ellipsis_lines": (found["ellipsis_lines"], lines),
            "non_alphabetic_words": (found["non_alphabetic_words"], words),
        }
        counts = {"words": found["tokens"], "split_words": words, "lines": lines, "stop_words": found["stop_words"]}
        signals = {f"dclm.{name}": values.astype(np.float64) for name, values in counts.items()}
        return signals | {f"dclm.{name}": where_defined(ratio(*pair), pair[1]) for name, pair in shares.items()}

    def rules(self) -> tuple[Rule, ...]:
        """In DCLM's order; a page without words is dropped in any case, as there."""
        lengths = (self.min_mean_word_length, self.max_mean_word_length)
        return switched_on(
            _rule("min_words", "words", at_least=self.min_words, span=(0, 2000)),
            _rule("max_words", "words", at_most=self.max_words, span=(0, 200_000)),
            _rule("empty", "split_words", at_least=1, span=(0, 2000)),
            _rule("min_mean_word_length", "mean_word_length", at_least=lengths[0], span=(0, 15)),
            _rule("max_mean_word_length", "mean_word_length", at_most=lengths[1], span=(0, 15)),
            _rule("symbols_to_words", "symbols_to_words", at_most=self.symbols_to_words, span=(0, 0.5)),
            _rule("bullet_lines", "bullet_lines", at_most=self.bullet_lines),
            _rule("ellipsis_lines", "ellipsis_lines", at_most=self.ellipsis_lines),
            _rule("non_alphabetic_words", "non_alphabetic_words", at_most=self.non_alphabetic_words),
            _rule("min_stop_words", "stop_words", at_least=self.min_stop_words, span=(0, 100)),
        )


def _rule(
    rule: str,
    signal: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> Rule:
    return Rule(f"dclm_quality.{rule}", f"dclm.{signal}", at_least=at_least, at_most=at_most, span=span)
