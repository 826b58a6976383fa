"""FineWeb's own four rules (Penedo et al. 2024, arXiv:2406.17557, section 3.6; values from datatrove's code).

They find lists, menus and pages made of snippets. Lines are those with something on them; a repeated line counts by its
characters, of the text without its newlines. A threshold of null switches its rule off. Other languages:
language_profiles.py.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.filters.judging import where_defined
from curate.filters.language_profiles import ProfiledFilter
from curate.kernels.quality import fineweb_quality
from curate.kernels.ratio import ratio
from curate.kernels.spaceless import mark_cuts, spaceless
from curate.kernels.text_index import TextIndex
from curate.steps import STEP_CONFIG, Rule

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class FineWeb(ProfiledFilter):
    """Drops pages that are lists rather than text. Step 6 of the FineWeb pipeline, after C4's rules."""

    name: ClassVar[str] = "fineweb"
    version: ClassVar[int] = 4
    measured_by: ClassVar[tuple[str, ...]] = ("short_line_chars", "segments_per_word", "profile")

    min_terminal_punctuation_lines: Share | None = 0.12
    """Smallest share of lines that end in terminal punctuation of any script."""
    short_lines: Share | None = 0.67
    """Largest share of lines of at most `short_line_chars` characters."""
    short_line_chars: Annotated[int, Field(ge=0)] = 30
    """A line of so many characters is still short."""
    # The code, and so the published data, has .01; the paper's section 3.6 prints .1.
    duplicate_line_chars: Share | None = 0.01
    """Largest share of characters in lines that stood before."""
    newlines_to_words: float | None = 0.3
    """Most newlines for each word, punctuation marks included; called list_ratio in the code, absent from the paper."""

    def measure_texts(self, index: TextIndex) -> dict[str, np.ndarray]:
        """`fineweb.lines`, `fineweb.short_lines`, ...; float64, one a text."""
        found = fineweb_quality(index, short_line_chars=self.short_line_chars)
        if self.segments_per_word is not None:
            words = index.n_words + mark_cuts(index)[0] - spaceless(index)[0] * (1 - 1 / self.segments_per_word)
            found["newlines_to_words"] = ratio(found["newlines_to_words"] * index.n_words, words)
        lines = found.pop("lines")
        signals = {f"fineweb.{name}": where_defined(values, lines) for name, values in found.items()}
        return signals | {"fineweb.lines": lines.astype(np.float64)}

    def every_rule(self) -> tuple[Rule, ...]:
        """In datatrove's order; a text without lines is dropped first, as there."""
        return (
            Rule("fineweb.empty", "fineweb.lines", at_least=1, span=(0, 500)),
            Rule(
                "fineweb.min_terminal_punctuation_lines",
                "fineweb.terminal_punctuation_lines",
                at_least=self.min_terminal_punctuation_lines,
            ),
            Rule("fineweb.short_lines", "fineweb.short_lines", at_most=self.short_lines),
            Rule("fineweb.duplicate_line_chars", "fineweb.duplicate_line_chars", at_most=self.duplicate_line_chars),
            Rule("fineweb.newlines_to_words", "fineweb.newlines_to_words", at_most=self.newlines_to_words),
        )
