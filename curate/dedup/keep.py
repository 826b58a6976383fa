"""Which document of a cluster survives: the policies, what each must know of a document, and the order that follows.

Ties go to the smallest id, then to the smallest hash of the text, then to the place: no policy depends on how the
corpus was cut. What a policy must know is a column of the partials and of the members of clusters: `merit`, or `date`.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.documents import Batch, declaring
from curate.errors import InputError
from curate.steps import STEP_CONFIG

Plain = Literal["first", "longest", "newest"]
"""`first`: the smallest id; `longest`: most bytes of text; `newest`: the greatest `date` (ISO 8601, so that text order
is time order; a document without a date is the oldest)."""


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Highest:
    """Keep the document with the greatest value of a column of numbers; one without a value (null, NaN) comes last."""

    highest: str
    """The column; a signal that its step adds to the documents may be named as a signal: `quality.score`."""


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Preferred:
    """Keep a document of the source that is named first; sources that are not named come last."""

    prefer: Annotated[tuple[str, ...], Field(min_length=1)]
    """Values of the column, the best first."""
    column: str
    """The column that names the source."""
    then: Plain = "first"
    """Among documents of one source, and of those that are not named."""


Keep = Plain | Highest | Preferred


def as_written(keep: Keep) -> Any:
    """The policy as the recipe writes it, defaults included."""
    if isinstance(keep, str):
        return keep
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(keep).items()}


def merit_fields(keep: Keep) -> list[pa.Field]:
    """Fields of what the policy must know of a document beside its id and length."""
    fields = [pa.field("date", pa.string())] if _plain(keep) == "newest" else []
    if isinstance(keep, Highest):
        fields = [pa.field("merit", pa.float64())]
    if isinstance(keep, Preferred):
        fields = [pa.field("merit", pa.int64()), *fields]
    return fields


def lacking(keep: Keep, there: Collection[str]) -> str | None:
    """What to say of a policy that asks for a column which documents with these columns lack; None if all is there."""
    policy, name, kind = "", "", ""
    if isinstance(keep, Highest):
        policy, name, kind = f"{{highest: {keep.highest}}}", keep.highest, "float64"
    if isinstance(keep, Preferred):
        policy, name, kind = f"{{prefer: [...], column: {keep.column}}}", keep.column, "string"
    if name and _named(name, there) is None:
        return (
            f"`keep: {policy}` needs a column `{name}`, and these documents have {', '.join(there)}. "
            f"{declaring(name, kind)}"
        )
    if _plain(keep) == "newest" and "date" not in there:
        return (
            "`keep: newest` needs a `date` column, and these documents have none: "
            "add it at the source, or use `keep: longest` or `keep: first`."
        )
    return None


def merits(batch: Batch, keep: Keep) -> dict[str, pa.Array]:
    """The columns of `merit_fields`. Raises InputError if the documents do not have what the policy asks for."""
    if said := lacking(keep, batch.data.schema.names):
        raise InputError(said)
    found: dict[str, pa.Array] = {}
    if isinstance(keep, Highest):
        found["merit"] = _numbers(batch, keep.highest)
    if isinstance(keep, Preferred):
        rank = pc.index_in(_column(batch, keep.column).cast(pa.string()), value_set=pa.array(keep.prefer))
        found["merit"] = pc.negate(pc.fill_null(rank, len(keep.prefer)).cast(pa.int64()))
    if _plain(keep) == "newest":
        found["date"] = batch.data.column("date").cast(pa.string())
    return found


def preference(documents: pa.Table, place: np.ndarray, keep: Keep) -> np.ndarray:
    """Positions of the documents from the most to the least preferred; `place` settles what nothing else does."""
    columns = {"id": documents.column("id"), "text_hash": documents.column("text_hash"), "place": pa.array(place)}
    best = [field.name for field in merit_fields(keep)]
    if _plain(keep) == "longest":
        best.append("bytes")
    columns |= {name: documents.column(name) for name in best}
    keys = [(name, "descending" if name in best else "ascending") for name in [*best, "id", "text_hash", "place"]]
    return pc.sort_indices(pa.table(columns), sort_keys=keys).to_numpy().astype(np.int64)


def _plain(keep: Keep) -> Plain | None:
    """The policy of one word, alone or after `prefer`; None for `highest`."""
    if isinstance(keep, Preferred):
        return keep.then
    return None if isinstance(keep, Highest) else keep


def _numbers(batch: Batch, name: str) -> pa.Array:
    values = _column(batch, name)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"`keep: {{highest: {name}}}` needs a column of numbers, and `{name}` holds {kind}.")
    numbers = pc.cast(values, pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(numbers), None, numbers)


def _column(batch: Batch, name: str) -> pa.Array:
    return batch.data.column(_named(name, batch.data.schema.names))


def _named(name: str, there: Collection[str]) -> str | None:
    """The column of that name, or of the signal of that name."""
    return next((each for each in (name, name.replace(".", "_")) if each in there), None)
