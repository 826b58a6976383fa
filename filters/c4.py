"""C4's heuristics: lines are removed, then pages are dropped (Raffel et al. 2020, JMLR 21/140, section 2.2).

The rules and their order are datatrove's, with its numbers: 3 words a line and 5 sentences a page, as the paper's first
arXiv version printed. The JMLR version and the authors' code (TensorFlow Datasets, c4_utils) have 5 words and 3
sentences; the code also keeps only one copy of each line of the corpus, drops pages with bad words, and does not take
`'` for an end mark: these are no part of this step. A sentence ends, as for datatrove, at a `.`, `?` or `!` that is a
word of its own, so not in `Mr.` or `e.g.`, with the marks that follow it; the marks of other scripts count too.
A line is stripped of spaces at both ends and kept lines are joined by one newline, so that even a page of good lines
may lose some bytes: `Outcome.edited` counts all that went.
"""

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.filters.judging import switched_on
from curate.kernels.quality import C4Lines, c4_lines
from curate.steps import STEP_CONFIG, Edit, Outcome, Rule, judge


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class C4(Edit):
    """Removes lines that are no sentences, and drops pages of which too little is left."""

    name: ClassVar[str] = "c4"
    version: ClassVar[int] = 4
    measured_by: ClassVar[tuple[str, ...]] = (
        "terminal_punctuation",
        "min_words_per_line",
        "max_word_length",
        "javascript",
        "policy",
        "citations",
    )

    terminal_punctuation: bool = True
    """Remove lines that do not end in `.`, `?`, `!`, `"` or `'`, or that end in `...`. FineWeb switches it off."""
    min_words_per_line: Annotated[int, Field(ge=0)] | None = 3
    """Remove lines with fewer words between spaces. JMLR version and c4_utils: 5."""
    max_word_length: Annotated[int, Field(ge=1)] | None = 1000
    """Remove lines with a longer word, in characters; from the code, the paper has no such rule."""
    min_sentences: Annotated[int, Field(ge=0)] | None = 5
    """Drop pages with fewer sentences left (see above what one is). JMLR version and c4_utils: 3."""
    lorem_ipsum: bool = True
    """Drop pages with `lorem ipsum` in a line that stays."""
    curly_bracket: bool = True
    """Drop pages with `{` in a line that stays."""
    javascript: bool = True
    """Remove lines that mention JavaScript."""
    policy: bool = True
    """Remove lines with one of six phrases on cookies, privacy and terms of use (JMLR version)."""
    citations: bool = True
    """Remove `[1]`, `[]`, `[edit]` and `[citation needed]` from lines."""

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`c4.sentences`, `c4.lines`, `c4.kept_lines`, ... of the incoming texts; float64, one a document."""
        return _signals(self._edit(batch))

    def rules(self) -> tuple[Rule, ...]:
        """What drops a page. A page with both is named after lorem ipsum; datatrove names the one that comes first."""
        return switched_on(
            Rule("c4.lorem_ipsum", "c4.lorem_ipsum", at_most=0 if self.lorem_ipsum else None),
            Rule("c4.curly_bracket", "c4.curly_bracket", at_most=0 if self.curly_bracket else None),
            Rule("c4.sentences", "c4.sentences", at_least=self.min_sentences, span=(0, 200)),
        )

    def process(self, batch: Batch) -> Outcome:
        """Edit, then decide on what is left."""
        edited = self._edit(batch)
        signals = _signals(edited)
        keep, left = judge(self.rules(), signals, len(batch))
        removed = _bytes_of(batch.texts) - _bytes_of(edited.text)
        return Outcome(batch.with_text(edited.text).filter(keep), left, edited=removed[keep], signals=signals)

    def _edit(self, batch: Batch) -> C4Lines:
        return c4_lines(
            batch.index,
            terminal_punctuation=self.terminal_punctuation,
            min_words=-1 if self.min_words_per_line is None else self.min_words_per_line,
            max_word_length=-1 if self.max_word_length is None else self.max_word_length,
            citations=self.citations,
            javascript=self.javascript,
            policy=self.policy,
        )


def _signals(edited: C4Lines) -> dict[str, np.ndarray]:
    return {f"c4.{name}": values.astype(np.float64) for name, values in edited.columns.items()}


def _bytes_of(texts: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)
