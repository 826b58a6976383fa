"""FineWeb's own four rules (Penedo et al. 2024, arXiv:2406.17557, section 3.6; values from datatrove's code).

They find lists, menus and pages made of snippets. Lines are those with something on them; a repeated line counts by its
characters, of the text without its newlines. A threshold of null switches its rule off.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.filters.judging import switched_on, where_defined
from curate.kernels.quality import fineweb_quality
from curate.steps import STEP_CONFIG, Filter, Rule

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class FineWeb(Filter):
    """Drops pages that are lists rather than text. Step 6 of the FineWeb pipeline, after C4's rules."""

    name: ClassVar[str] = "fineweb"
    version: ClassVar[int] = 1

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

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`fineweb.lines`, `fineweb.short_lines`, ...; float64, one a document."""
        found = fineweb_quality(batch.index, short_line_chars=self.short_line_chars)
        lines = found.pop("lines")
        signals = {f"fineweb.{name}": where_defined(values, lines) for name, values in found.items()}
        return signals | {"fineweb.lines": lines.astype(np.float64)}

    def rules(self) -> tuple[Rule, ...]:
        """In datatrove's order; a text without lines is dropped first, as there."""
        return (
            Rule("fineweb.empty", "fineweb.lines", at_least=1, span=(0, 500)),
            *switched_on(
                Rule(
                    "fineweb.min_terminal_punctuation_lines",
                    "fineweb.terminal_punctuation_lines",
                    at_least=self.min_terminal_punctuation_lines,
                ),
                Rule("fineweb.short_lines", "fineweb.short_lines", at_most=self.short_lines),
                Rule("fineweb.duplicate_line_chars", "fineweb.duplicate_line_chars", at_most=self.duplicate_line_chars),
                Rule("fineweb.newlines_to_words", "fineweb.newlines_to_words", at_most=self.newlines_to_words),
            ),
        )
