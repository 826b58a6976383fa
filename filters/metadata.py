"""A condition on the columns of a document (language, date, score, host), compiled to a pyarrow expression.

`metadata: {keep: 'language == "en" and score >= 0.5'}`; the syntax stands in expressions.py and docs/filters.md. What
the condition says of a null is unknown: such documents are dropped, unless `keep_unknown`.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pydantic import field_validator
from pydantic.dataclasses import dataclass

from curate.documents import Batch, declaring
from curate.errors import InputError
from curate.filters.expressions import compiled
from curate.steps import STEP_CONFIG, Filter, Rule

_compiled = lru_cache(maxsize=64)(compiled)
_COMPARED = re.compile(
    r"Function '(?:equal|not_equal|less|less_equal|greater|greater_equal)' has no kernel matching input types "
    r"\((.+), (.+)\)|type of values set: (\S+) vs (\S+)"
)


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class Metadata(Filter):
    """Keeps documents whose columns meet a condition."""

    name: ClassVar[str] = "metadata"
    version: ClassVar[int] = 1
    measured_by: ClassVar[tuple[str, ...]] = ("keep", "keep_unknown")

    keep: str
    """The condition, such as `year >= 2015 and source in ["wiki", "books"]`."""
    keep_unknown: bool = False
    """Keep documents of which the condition says nothing, because a column is null."""

    @field_validator("keep")
    @classmethod
    def _is_understood(cls, keep: str) -> str:
        compiled(keep)
        return keep

    def missing_column(self, there: Collection[str]) -> tuple[str, str] | None:
        """Of those that the condition names."""
        missing = sorted(_compiled(self.keep)[1].difference(there))
        if not missing:
            return None
        return "keep", (
            f"the documents have no column {', '.join(map(repr, missing))}, which {self.keep!r} asks for; they have "
            f"{', '.join(there)}. {declaring(missing[0], 'TYPE')}"
        )

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`metadata.kept`: 1 where the condition holds, else 0; float64, one a document."""
        expression, columns = _compiled(self.keep)
        schema = batch.data.schema
        if problem := self.missing_column(schema.names):
            raise InputError(f"metadata: {problem[1]}")
        data = batch.data.select([name for name in schema.names if name in columns])
        try:
            table = ds.dataset(pa.Table.from_batches([data])).to_table(columns={"kept": expression}, use_threads=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowKeyError) as error:
            types = ", ".join(f"{field.name}: {field.type}" for field in data.schema)
            raise InputError(f"metadata: {self.keep!r} does not fit the columns ({types}): {_said(error)}.") from error
        kept = table.column("kept").combine_chunks()
        if not pa.types.is_boolean(kept.type):
            raise InputError(f"metadata: {self.keep!r} is no condition but a value ({kept.type}); compare it.")
        return {
            "metadata.kept": pc.fill_null(kept, self.keep_unknown).to_numpy(zero_copy_only=False).astype(np.float64)
        }

    def rules(self) -> tuple[Rule, ...]:
        """The condition holds."""
        return (Rule("metadata.keep", "metadata.kept", at_least=1),)


def _said(error: pa.ArrowException) -> str:
    """What Arrow says of types that do not go together, in words for who writes a condition."""
    found = _COMPARED.search(str(error))
    types = [name for name in found.groups() if name] if found else []
    if "string" not in types:
        return str(error)
    other = next(name for name in types if name != "string")
    kind = "a number" if re.match("u?int|float|double|decimal", other) else f"what is none ({other})"
    return f"text is compared with {kind}; write text in quotes, numbers and True or False without"
