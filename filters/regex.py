"""A regular expression on the text or another column: RE2 through Arrow, in linear time on any text.

RE2's syntax is Perl's without look-around and references to groups (https://github.com/google/re2/wiki/Syntax); `\\w`,
`\\d`, `\\s` and `\\b` are ASCII's there, `\\pL` is any letter. About 1 GB/s a core for a plain pattern, 100 to 300 MB/s
with alternatives; for long lists of words take `bad_words`.
"""

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from curate.documents import Batch, declaring
from curate.errors import InputError
from curate.filters.judging import check_bounds, switched_on
from curate.steps import STEP_CONFIG, Filter, Rule

Count = Annotated[int, Field(ge=0)]


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class Regex(Filter):
    """Drops documents by how often a pattern matches."""

    name: ClassVar[str] = "regex"
    version: ClassVar[int] = 1
    measured_by: ClassVar[tuple[str, ...]] = ("pattern", "column", "ignore_case")

    pattern: Annotated[str, Field(min_length=1, max_length=10_000)]
    """In RE2's syntax; matches anywhere, so anchor it with `^` and `$` if it must not. `(?s)`: `.` is a newline too."""
    column: str = "text"
    """The column of strings that is looked at; where it is null nothing matches."""
    ignore_case: bool = False
    """Letters match whatever their case."""
    min_matches: Count | None = None
    """Drop documents with fewer matches: `min_matches: 1, max_matches: null` keeps only those that match."""
    max_matches: Count | None = 0
    """Drop documents with more matches, counted without overlap."""

    @field_validator("pattern")
    @classmethod
    def _is_understood(cls, pattern: str) -> str:
        try:
            pc.count_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            raise ValueError(f"RE2 does not understand the pattern: {str(error).partition(': ')[2]}") from None
        return pattern

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Regex":
        if not self.rules():
            raise ValueError("both min_matches and max_matches are null, so the pattern decides nothing")
        check_bounds(self)
        return self

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`regex.matches`: how often the pattern matches; float64, one a document."""
        names = batch.data.schema.names
        if self.column not in names:
            raise InputError(
                f"regex: the documents have no column {self.column!r}; they have {', '.join(names)}. "
                f"{declaring(self.column)}"
            )
        values = batch.data.column(self.column)
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise InputError(f"regex: the column {self.column!r} holds {values.type}, and a pattern needs strings.")
        found = pc.count_substring_regex(values, self.pattern, ignore_case=self.ignore_case)
        return {"regex.matches": pc.fill_null(found, 0).to_numpy(zero_copy_only=False).astype(np.float64)}

    def rules(self) -> tuple[Rule, ...]:
        """Too few, then too many."""
        return switched_on(
            Rule("regex.min_matches", "regex.matches", at_least=self.min_matches, span=(0, 20)),
            Rule("regex.max_matches", "regex.matches", at_most=self.max_matches, span=(0, 20)),
        )
