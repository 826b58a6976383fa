"""Gopher's filters: quality (Rae et al. 2021, arXiv:2112.11446, appendix A1.1) and repetition (same, table A1).

Definitions are those of datatrove 0.10, which later recipes copied: shares of words are taken of *all* words, single
punctuation marks included, while the number of words and their mean length count only words that are not pure symbols.
Our words are UAX #29's with marks as spaCy's English rules have them (kernels/words.py; the same decision as datatrove
on .9988 and .9998 of 5,170 documents, benchmarks/filters/agreement.json); both share one index of words and lines.
A threshold of null switches its rule off. Ratios with nothing to divide by are NaN and fail no rule. Other languages:
language_profiles.py; in scripts without spaces a word is so many segments, and a stop word a run of them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from curate.filters.judging import check_stop_words, where_defined
from curate.filters.language_profiles import BY_LANGUAGE, ProfiledFilter, profiles
from curate.kernels.quality import STOP_WORDS, gopher_quality, gopher_repetition
from curate.kernels.ratio import ratio
from curate.kernels.spaceless import mark_cuts, spaceless
from curate.kernels.text_index import TextIndex
from curate.steps import STEP_CONFIG, Filter, Rule

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class GopherQuality(ProfiledFilter):
    """Drops pages that do not look like prose. Each default is the paper's (A1.1) unless it says otherwise."""

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[int] = 4
    measured_by: ClassVar[tuple[str, ...]] = ("stop_words", "segments_per_word", "profile")

    min_words: Count | None = 50
    """Fewest words that are not pure symbols."""
    max_words: Count | None = 100_000
    """Most words that are not pure symbols."""
    min_mean_word_length: float | None = 3
    """Characters a word, symbols left out."""
    max_mean_word_length: float | None = 10
    """Characters a word, symbols left out."""
    hash_to_words: float | None = 0.1
    """Most `#` for each word, symbols included."""
    ellipsis_to_words: float | None = 0.1
    """Most ellipses (`...` or `…`) for each word, symbols included."""
    bullet_lines: Share | None = 0.9
    """Largest share of lines that start with a bullet (`•` or `-`, as datatrove has it)."""
    ellipsis_lines: Share | None = 0.3
    """Largest share of lines that end in an ellipsis."""
    min_alphabetic_words: Share | None = 0.8
    """Smallest share of words, symbols included, with a letter. DCLM asks the same of words between spaces."""
    min_stop_words: Count | None = 2
    """Fewest different stop words in the text (datatrove); DCLM counts repeats of one word too."""
    stop_words: list[str] = Field(default_factory=lambda: list(STOP_WORDS))
    """Compared as they are written: datatrove and the kernel do not fold case."""

    @model_validator(mode="after")
    def _has_enough_stop_words(self) -> "GopherQuality":
        of_profiles = profiles() if self.profile == BY_LANGUAGE else ()
        lists = [self.stop_words, *(profile.parameters(self.name)["stop_words"] for profile in of_profiles)]
        check_stop_words(self.min_stop_words, min(len(set(words)) for words in lists))  # repeats do not count
        return self

    def measure_texts(self, index: TextIndex) -> dict[str, np.ndarray]:
        """`gopher.words`, `gopher.mean_word_length`, ... as the rules name them; float64, one a text."""
        singles, runs = _single_and_runs(self.stop_words)
        found = gopher_quality(index, stop_words=singles)
        if runs or self.segments_per_word is not None:
            found = _as_words(found, index, runs, self.segments_per_word)
        tokens, words = found["tokens"], found["words"]
        lines = index.n_bytes  # a text without bytes is the only one without lines
        base = {
            "mean_word_length": words,
            "hash_to_words": tokens,
            "ellipsis_to_words": tokens,
            "bullet_lines": lines,
            "ellipsis_lines": lines,
            "alphabetic_words": tokens,
        }
        signals = {f"gopher.{name}": where_defined(found[name], count) for name, count in base.items()}
        counts = {f"gopher.{name}": found[name].astype(np.float64) for name in ("words", "tokens", "stop_words")}
        return counts | signals

    def every_rule(self) -> tuple[Rule, ...]:
        """In datatrove's order."""
        return (
            _rule(self, "min_words", "words", at_least=self.min_words, span=(0, 2000)),
            _rule(self, "max_words", "words", at_most=self.max_words, span=(0, 200_000)),
            _rule(self, "min_mean_word_length", "mean_word_length", at_least=self.min_mean_word_length, span=(0, 15)),
            _rule(self, "max_mean_word_length", "mean_word_length", at_most=self.max_mean_word_length, span=(0, 15)),
            _rule(self, "hash_to_words", "hash_to_words", at_most=self.hash_to_words, span=(0, 0.5)),
            _rule(self, "ellipsis_to_words", "ellipsis_to_words", at_most=self.ellipsis_to_words, span=(0, 0.5)),
            _rule(self, "bullet_lines", "bullet_lines", at_most=self.bullet_lines),
            _rule(self, "ellipsis_lines", "ellipsis_lines", at_most=self.ellipsis_lines),
            _rule(self, "min_alphabetic_words", "alphabetic_words", at_least=self.min_alphabetic_words),
            _rule(self, "min_stop_words", "stop_words", at_least=self.min_stop_words, span=(0, len(self.stop_words))),
        )


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class GopherRepetition(ProfiledFilter):
    """Drops pages that repeat themselves. All defaults are table A1's; shares of characters are of the whole text."""

    name: ClassVar[str] = "gopher_repetition"
    version: ClassVar[int] = 3
    measured_by: ClassVar[tuple[str, ...]] = ("segments_per_word", "profile")

    duplicate_lines: Share | None = 0.30
    """Share of lines that stood before on the page; empty lines are not lines."""
    duplicate_paragraphs: Share | None = 0.30
    """Share of paragraphs (blocks between blank lines) that stood before."""
    duplicate_line_chars: Share | None = 0.20
    """Share of characters in duplicate lines."""
    duplicate_paragraph_chars: Share | None = 0.20
    """Share of characters in duplicate paragraphs."""
    top_2_gram_chars: Share | None = 0.20
    """Share of characters in the most frequent run of 2 words; the runs may overlap."""
    top_3_gram_chars: Share | None = 0.18
    """The same, 3 words."""
    top_4_gram_chars: Share | None = 0.16
    """The same, 4 words."""
    duplicate_5_gram_chars: Share | None = 0.15
    """Share of characters in runs of 5 words that stood before; each character counts once."""
    duplicate_6_gram_chars: Share | None = 0.14
    """The same, 6 words."""
    duplicate_7_gram_chars: Share | None = 0.13
    """The same, 7 words."""
    duplicate_8_gram_chars: Share | None = 0.12
    """The same, 8 words."""
    duplicate_9_gram_chars: Share | None = 0.11
    """The same, 9 words."""
    duplicate_10_gram_chars: Share | None = 0.10
    """The same, 10 words."""

    def measure_texts(self, index: TextIndex) -> dict[str, np.ndarray]:
        """`gopher.duplicate_lines`, ..., `gopher.duplicate_10_gram_chars`, `gopher.characters`; float64 each."""
        characters = index.n_chars
        found = gopher_repetition(index, segments_per_word=self.segments_per_word or 1)
        signals = {f"gopher.{name}": where_defined(values, characters) for name, values in found.items()}
        return signals | {"gopher.characters": characters.astype(np.float64)}

    def every_rule(self) -> tuple[Rule, ...]:
        """In datatrove's order; an empty text is dropped first, as there."""
        empty = _rule(self, "empty", "characters", at_least=1, span=(0, 20_000))
        order = (
            ["duplicate_paragraphs", "duplicate_paragraph_chars", "duplicate_lines", "duplicate_line_chars"]
            + [f"top_{n}_gram_chars" for n in (2, 3, 4)]
            + [f"duplicate_{n}_gram_chars" for n in range(5, 11)]
        )
        return (empty, *(_rule(self, name, name, at_most=getattr(self, name)) for name in order))


def _single_and_runs(stop_words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stop words that are one segment of UAX #29, and those that are several (Thai) or none."""
    segments = TextIndex.of(pa.array(stop_words, pa.string())).n_words
    singles = tuple(word for word, count in zip(stop_words, segments, strict=True) if count == 1)
    return singles, tuple(word for word, count in zip(stop_words, segments, strict=True) if count > 1)


def _as_words(
    found: dict[str, np.ndarray], index: TextIndex, runs: Sequence[str], segments_per_word: float | None
) -> dict[str, np.ndarray]:
    """Signals of segments as signals of words: each `segments_per_word` segments without spaces are one word, and so
    is each mark. With no such number only the stop words that are runs of segments are added."""
    segments, run_stops = spaceless(index, runs=runs)
    if segments_per_word is None:
        return found | {"stop_words": found["stop_words"] + run_stops}
    less = segments * (1 - 1 / segments_per_word)
    more_tokens, more_words, more_alphabetic, marks = mark_cuts(index)
    words, tokens = found["words"] - less + more_words, found["tokens"] - less + more_tokens
    # All of those segments have a letter.
    alphabetic = found["alphabetic_words"] * found["tokens"] - less + more_alphabetic
    return found | {
        "words": words,
        "tokens": tokens,
        "stop_words": found["stop_words"] + run_stops,
        "mean_word_length": ratio(found["mean_word_length"] * found["words"] - marks, words),
        "hash_to_words": ratio(found["hash_to_words"] * found["tokens"], tokens),
        "ellipsis_to_words": ratio(found["ellipsis_to_words"] * found["tokens"], tokens),
        "alphabetic_words": ratio(alphabetic, tokens),
    }


def _rule(
    step: Filter,
    rule: str,
    signal: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> Rule:
    return Rule(f"{step.name}.{rule}", f"gopher.{signal}", at_least=at_least, at_most=at_most, span=span)
