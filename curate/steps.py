"""Steps: one operation on documents. A pure function from batch to batch inside, a datatrove PipelineStep outside.

Four kinds: `Filter` (measure signals, then decide by rules: data), `Edit` (changes text, counts what it changed),
`Exchange` (needs all parts: map, reduce, apply) and plain `Step`. Subclasses are pydantic dataclasses whose fields are
the recipe's parameters, so that a wrong recipe is refused with the field's name. Every step has a `version`: raise it
when the same parameters would give another output; it enters the fingerprint.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from datatrove.pipeline.base import PipelineStep
from pydantic import ConfigDict

from curate.documents import Batch, BatchStream, batches_of
from curate.rounds import MemoryShelf, Out, Round, Tables, View, run_in_memory

if TYPE_CHECKING:
    from datatrove.data import Document

STEP_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
"""Use as `@pydantic.dataclasses.dataclass(kw_only=True, config=STEP_CONFIG)` on each step."""

Fate = Literal["kept", "edited", "dropped", "duplicate", "failed"]

LEFT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # row of the incoming batch
        pa.field("fate", pa.string(), nullable=False),  # dropped, duplicate or failed
        pa.field("rule", pa.string()),  # first rule that failed
        pa.field("value", pa.float64()),  # what was measured
        pa.field("threshold", pa.float64()),  # what the rule asks
        pa.field("survivor", pa.string()),  # id of the document that is kept in its place
        pa.field("error", pa.string()),
    ]
)
"""Who left at a step, and why: one row a document."""


def departures(
    rows: Sequence[int] | np.ndarray,
    fate: Fate,
    *,
    rule: str | Sequence[str | None] | None = None,
    value: Sequence[float] | np.ndarray | None = None,
    threshold: float | Sequence[float] | np.ndarray | None = None,
    survivor: Sequence[str | None] | pa.Array | None = None,
    error: str | Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """The departures of `rows` as a batch of LEFT_SCHEMA; a single rule, threshold or error holds for all rows."""
    count = len(rows)

    def column(values: Any, kind: pa.DataType) -> pa.Array:
        if values is None:
            return pa.nulls(count, kind)
        if isinstance(values, str | float | int):
            return pa.array([values] * count, kind)
        return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)

    return pa.RecordBatch.from_arrays(
        [
            pa.array(rows, pa.int64()),
            pa.array([fate] * count, pa.string()),
            column(rule, pa.string()),
            column(value, pa.float64()),
            column(threshold, pa.float64()),
            column(survivor, pa.string()),
            column(error, pa.string()),
        ],
        schema=LEFT_SCHEMA,
    )


NOBODY_LEFT = departures([], "dropped")


@dataclass(frozen=True)
class Outcome:
    """What a step did to one batch."""

    batch: Batch
    """The documents that go on, in order."""
    left: pa.RecordBatch = field(default_factory=lambda: NOBODY_LEFT)
    """The documents that do not (LEFT_SCHEMA); kept + left = the incoming batch, always."""
    edited: np.ndarray | None = None
    """int64, one a document of `batch`: bytes of text that were removed or replaced (0 = untouched)."""
    signals: dict[str, np.ndarray] = field(default_factory=dict)
    """Signals of the incoming documents, `family.signal` -> float64; for histograms and for storing."""


@dataclass(frozen=True)
class Rule:
    """One row of a filter: a document is dropped when the signal is below `at_least` or above `at_most`."""

    name: str
    signal: str
    at_least: float | None = None
    at_most: float | None = None
    span: tuple[float, float] = (0.0, 1.0)
    """Range of the histogram that reports draw."""

    def fails(self, values: np.ndarray) -> np.ndarray:
        """bool, one a document. NaN (not defined on this document) never fails."""
        failed = np.zeros(len(values), dtype=bool)
        if self.at_least is not None:
            failed |= values < self.at_least
        if self.at_most is not None:
            failed |= values > self.at_most
        return failed

    def threshold_for(self, values: np.ndarray) -> np.ndarray:
        """The bound that each value is held against (the violated one where both exist)."""
        low = np.nan if self.at_least is None else self.at_least
        high = np.nan if self.at_most is None else self.at_most
        if self.at_least is None:
            return np.full(len(values), high)
        if self.at_most is None:
            return np.full(len(values), low)
        return np.where(values < low, low, high)


class Step(PipelineStep):
    """Base of all steps: `process` is the pure heart, `run` is what datatrove calls."""

    name: ClassVar[str] = ""
    type: ClassVar[str] = "curate"
    version: ClassVar[int] = 1
    artifact_fields: ClassVar[tuple[str, ...]] = ()
    """Parameters that name an artifact of the recipe, or a file; fingerprinted by content, never by path."""
    loads_model: ClassVar[bool] = False
    """Built once a worker and kept (long-lived actors on Ray); `process` treats each document by itself, so that the
    batch may be halved when memory runs out."""

    def __post_init__(self) -> None:
        PipelineStep.__init__(self)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions whose version can change the output (an extractor, a model library); enter the fingerprint."""
        return ()

    @abstractmethod
    def process(self, batch: Batch) -> Outcome:
        """One batch in, one outcome out; no side effects."""

    def parameters(self) -> dict[str, Any]:
        """The values of the recipe's parameters, for the fingerprint and the card."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def run(self, data: "BatchStream | Iterable[Document] | None", rank: int = 0, world_size: int = 1) -> BatchStream:
        """datatrove's protocol: a stream in, a stream out; departures are counted in the step's stats."""
        return BatchStream(self._outgoing(batches_of(data)))

    def _outgoing(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            with self.track_time("batch"):
                outcome = self.process(batch)
            self.stat_update("total", value=len(batch))
            self.stat_update("forwarded", value=len(outcome.batch))
            for reason in outcome.left.column("rule").to_pylist():
                self.stat_update(f"dropped_{reason}")
            if len(outcome.batch):
                yield outcome.batch

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.parameters().items())
        return f"{self.name}({shown})"


class Filter(Step):
    """A step of two functions: measure (batch to signals) and decide (signals to keep, or the rule that failed)."""

    type: ClassVar[str] = "curate filter"

    @abstractmethod
    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """Signals of each document, `family.signal` -> float64[n]."""

    @abstractmethod
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are asked; the first that fails drops the document."""

    def process(self, batch: Batch) -> Outcome:
        """Measure, then decide."""
        signals = self.measure(batch)
        first, value, threshold = decide(self.rules(), signals, len(batch))
        rows = np.flatnonzero(first >= 0)
        names = [rule.name for rule in self.rules()]
        departed = departures(
            rows,
            "dropped",
            rule=[names[code] for code in first[rows]],
            value=value[rows],
            threshold=threshold[rows],
        )
        return Outcome(batch.filter(first < 0), departed, signals=signals)


def decide(
    rules: Sequence[Rule], signals: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number of the first rule that each document fails (-1 = none), with the value and the threshold."""
    first = np.full(count, -1, dtype=np.int64)
    value = np.full(count, np.nan)
    threshold = np.full(count, np.nan)
    for number, rule in enumerate(rules):
        values = signals[rule.signal]
        new = rule.fails(values) & (first < 0)
        first[new] = number
        value[new] = values[new]
        threshold[new] = rule.threshold_for(values)[new]
    return first, value, threshold


class Edit(Step):
    """A step that changes text; it may also drop documents. `Outcome.edited` counts the bytes."""

    type: ClassVar[str] = "curate edit"


@dataclass(frozen=True)
class State:
    """What an exchange decided: one table a part (what that part needs to apply it), and a summary."""

    parts: list[pa.Table]
    summary: dict[str, Any] = field(default_factory=dict)


class Exchange(Step):
    """A step that needs all parts: map and scatter on each part, rounds over key ranges, state and apply on each part.

    The decision is in the rounds alone (curate.rounds): the engine runs them as jobs on files, `reduce` in memory.
    Partials and runs may arrive memory-mapped.
    """

    type: ClassVar[str] = "curate exchange"
    state_tables: ClassVar[tuple[str, ...]] = ()
    """Tables that `state` reads."""

    @abstractmethod
    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """What the others must know of one part (signatures, scores): one row a document, in order."""

    def tables(self) -> Tables:
        """Schemas of the tables that go from round to round; `key` (uint64) comes first."""
        return {}

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """What one part sends into the first round, and tells for the summary."""

    def kept(self, partial: pa.Table) -> pa.Table:
        """What of a partial the rounds and `state` look at again, once it is scattered; the rest is not stored."""
        return partial

    def rounds(self) -> Sequence[Round]:
        """The rounds, in order; each names a method `(view, out)` of this class that does one task."""
        return ()

    @abstractmethod
    def state(self, view: View, part: int) -> pa.Table:
        """What one part needs to apply the decision, one row a document in the order of `map`."""

    @abstractmethod
    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """The summary, from what all tasks told (`Out.tell`: lists are in no order)."""

    @abstractmethod
    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """The decision carried out on one part; one outcome a batch, batches in the order of `map`."""

    def reduce(self, partials: Sequence[pa.Table], *, ranges: int = 1) -> State:
        """The decision over all parts, in memory; `State.parts` has one table for each partial."""
        shelf = MemoryShelf(partials, self.tables())
        view = run_in_memory(self, shelf, ranges=ranges)
        states = [self.state(view.of_part(part), part) for part in range(len(partials))]
        return State(states, self.summary(shelf.told))

    def process(self, batch: Batch) -> Outcome:
        """A single batch as the whole corpus; for tests and small pipelines."""
        state = self.reduce([self.map(iter([batch]))])
        return next(self.apply(iter([batch]), state.parts[0]))

    def _outgoing(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        # In a datatrove executor a rank is the whole world of the step: exact within it, and said so in the docs.
        held = list(batches)
        state = self.reduce([self.map(iter(held))])
        for outcome in self.apply(iter(held), state.parts[0]):
            self.stat_update("forwarded", value=len(outcome.batch))
            for reason in outcome.left.column("rule").to_pylist():
                self.stat_update(f"dropped_{reason}")
            if len(outcome.batch):
                yield outcome.batch
