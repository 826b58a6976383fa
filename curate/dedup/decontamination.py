"""Documents that hold items of benchmarks: found by their n-grams, weighed by how common these are, dropped or cut.

Map looks each text up in the index (curate.dedup.decontamination_index); a round counts in how many documents of the
whole corpus each n-gram stands, the next decides (curate.dedup.decontamination_scores). So neither the order of parts
nor their number changes anything. A partial holds 12 bytes a place of an n-gram of the index, which are rare; 12 bytes
an n-gram that a part holds are shuffled. A task holds the index (about 60 bytes an n-gram) and one part's places.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.decontamination_cuts import Cut, cut_out, merged
from curate.dedup.decontamination_index import TOO_COMMON, TOO_SHORT, BenchmarkIndex, load_index, stamps_of
from curate.dedup.decontamination_items import BenchmarkError, Role, problem_of_file
from curate.dedup.decontamination_scores import (
    FREQUENCIES_SCHEMA,
    MATCHES_SCHEMA,
    Places,
    found_items,
    frequencies,
    held_places,
)
from curate.dedup.told import rows_told, with_what_is_told
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.ngram_index import find_ngrams
from curate.rounds import Out, Round, Tables, View, first_of_equals, places, row_of
from curate.steps import STEP_CONFIG, Exchange, Outcome, Rule, departures
from curate.units import OneOrSeveral

_NUMBERS = pa.large_list(pa.uint32())
PARTIAL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("grams", _NUMBERS, nullable=False),  # n-grams of the index, where they stand
        pa.field("starts", _NUMBERS, nullable=False),  # bytes from the text's start
        pa.field("ends", _NUMBERS, nullable=False),
    ]
)
STATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("benchmark", pa.string()),  # of the item of which it holds the largest share; null: of none
        pa.field("item", pa.string()),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("covered", pa.float64(), nullable=False),  # share of its bytes in n-grams of the items it holds
        pa.field("items", pa.int64(), nullable=False),  # how many it holds
        pa.field("note", pa.string()),
        pa.field("starts", _NUMBERS),  # passages, in bytes
        pa.field("ends", _NUMBERS),
    ]
)
SIGNALS = ("share", "covered", "items")
_LONG_ENOUGH = 13
"""Words in a row that chance and phrases do not make (GPT-3's longest n-gram)."""


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class Decontaminate(Exchange):
    """Drops documents that hold items of benchmarks, or cuts the passages out."""

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 2
    artifact_fields: ClassVar[tuple[str, ...]] = ("benchmarks",)
    state_tables: ClassVar[tuple[str, ...]] = ("matches",)

    benchmarks: OneOrSeveral
    """Files with items: JSON lines or Parquet."""
    fields: dict[Role, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Which field of the files is `id`, `benchmark`, `text`, `prompt`, `answer`, `choices`; common names are known."""
    ngram: Annotated[int, Field(ge=5, le=50)] = 13
    """Words of an n-gram. GPT-3: 8 to 13."""
    min_words: Annotated[int, Field(ge=3)] = 8
    """A prompt shorter than an n-gram is matched as a whole if it has so many words."""
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A document may hold this share of an item's n-grams, by weight."""
    min_ngrams: Annotated[float, Field(gt=0)] | None = None
    """Weight of the n-grams that a document has to hold for an item to be found: 1 is one that no other item has and
    few documents; of items that weigh less, all. Null: as many as 13 words in a row have (6 of 8 words, 1 of 13)."""
    common_items: Annotated[int, Field(ge=1)] = 50
    """N-grams that more items share say nothing."""
    common_documents: Annotated[int, Field(ge=1)] = 10
    """N-grams of more documents of the corpus weigh less: this number over theirs. GPT-3 left them out."""
    action: Literal["drop", "cut", "keep"] = "drop"
    """`drop` the document, `cut` the passages out, or `keep` it and add what was found as columns."""
    margin: Annotated[int, Field(ge=0)] = 200
    """Characters cut on both sides of a passage (GPT-3)."""
    min_piece: Annotated[int, Field(ge=0)] = 200
    """Pieces with fewer characters are cut, too (GPT-3)."""
    max_cuts: Annotated[int, Field(ge=0)] = 10
    """A document with more passages to cut is dropped (GPT-3: one that falls into more than 10 pieces)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_words > self.ngram:
            raise ValueError(
                f"min_words ({self.min_words}) is larger than ngram ({self.ngram}); it is at most as large"
            )

    @classmethod
    def problem_of(cls, field: str, path: Path) -> str | None:
        """Why a path cannot be a benchmark's file; None if it may be."""
        return problem_of_file(path)

    def problem_within(self) -> tuple[tuple[str | int, ...], str] | None:
        """Why what the benchmarks' files hold is of no use, and the parameter that says so."""
        try:
            self.index()
        except InputError as error:
            return (error.at if isinstance(error, BenchmarkError) else ("benchmarks",)), str(error)
        return None

    @property
    def least_ngrams(self) -> float:
        """`min_ngrams`, or what stands for it."""
        return float(max(1, _LONG_ENOUGH - self.ngram + 1)) if self.min_ngrams is None else self.min_ngrams

    def parameters(self) -> dict[str, Any]:
        """The parameters with the default written out."""
        return super().parameters() | {"min_ngrams": self.least_ngrams}

    def rules(self) -> tuple[Rule, ...]:
        """For the histogram; the ledger's rules name the benchmark."""
        return (Rule(self.name, f"{self.name}.share", at_most=self.max_share),)

    def index(self) -> BenchmarkIndex:
        """The n-grams of the benchmarks."""
        paths = [self.benchmarks] if isinstance(self.benchmarks, str) else list(self.benchmarks)
        fields = tuple(sorted(self.fields.items()))
        return load_index(stamps_of(paths), fields, self.ngram, self.min_words, self.common_items)

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """PARTIAL_SCHEMA of one part."""
        index = self.index()
        return pa.Table.from_batches([_places(batch, index) for batch in batches], PARTIAL_SCHEMA)

    def tables(self) -> Tables:
        """N-grams with the documents of a part that hold them, and of the corpus; items found in documents."""
        return {"grams": FREQUENCIES_SCHEMA, "frequencies": FREQUENCIES_SCHEMA, "matches": MATCHES_SCHEMA}

    def rounds(self) -> Sequence[Round]:
        """Count, then decide."""
        return (
            Round("frequencies", reads=("grams",), gives=("frequencies",), by="hash"),
            Round("decision", reads=(), gives=("matches",), by="part", row_bytes=64),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The n-grams of one part."""
        out.tell(documents=partial.num_rows)
        out.write("grams", frequencies(Places.of(partial), self.index()))

    def frequencies(self, view: View, out: Out) -> None:
        """Documents of the corpus that hold each n-gram of a range; of those in no more than are common, nothing."""
        rows = view.rows("grams")
        keys = rows.column("key").to_numpy()
        order = np.argsort(keys, kind="stable")
        first = np.flatnonzero(first_of_equals(keys[order]))
        count = rows.column("documents").to_numpy()[order].astype(np.int64)
        total = np.add.reduceat(count, first) if len(first) else count
        common = total > self.common_documents
        capped = np.minimum(total[common], np.iinfo(np.uint32).max).astype(np.uint32)
        out.write("frequencies", pa.table([keys[order][first][common], capped], schema=FREQUENCIES_SCHEMA))
        out.tell(ngrams=len(first), common_ngrams=int(common.sum()))

    def decision(self, view: View, out: Out) -> None:
        """The items found in the documents of some parts."""
        index = self.index()
        for part in view.span.parts:
            found = found_items(
                Places.of(view.partial(part)),
                index,
                view,
                common_documents=self.common_documents,
                max_share=self.max_share,
                min_ngrams=self.least_ngrams,
            )
            columns = [
                places(part, found.document),
                found.item.astype(np.uint32),
                found.share.astype(np.float64),
                found.held.astype(np.uint32),
                found.of.astype(np.uint32),
            ]
            out.write("matches", pa.table(columns, schema=MATCHES_SCHEMA))
            items, count = np.unique(found.item, return_counts=True)
            pairs = {
                (row, index.items[item].benchmark)
                for row, item in zip(found.document.tolist(), found.item.tolist(), strict=True)
            }
            out.tell(
                found=dict(zip(map(str, items.tolist()), count.tolist(), strict=True)),
                flagged=dict(Counter(benchmark for _, benchmark in pairs)),
                flagged_documents=len({row for row, _ in pairs}),
            )
            view.release()

    def state(self, view: View, part: int) -> pa.Table:
        """STATE_SCHEMA of one part."""
        partial, matches = view.partial(part), view.rows("matches")
        row, item = row_of(matches.column("key").to_numpy()), matches.column("item").to_numpy()
        share, held, of = (matches.column(name).to_numpy() for name in ("share", "held", "of"))
        order = np.lexsort((item, -held.astype(np.int64), -share, row))
        best = order[first_of_equals(row[order])]
        flagged = row[best]
        index, at = self.index(), rows_told(flagged, partial.num_rows)
        named = [index.items[number] for number in item[best].tolist()]
        spans = _passages(partial, index, row, item, flagged)
        sizes = partial.column("bytes").to_numpy()[flagged]
        covered = [
            float((ends - starts).sum()) / max(1, size)
            for (starts, ends), size in zip(spans, sizes.tolist(), strict=True)
        ]
        numbers = np.bincount(row)[flagged]
        notes = [
            f"item {one.id} of {one.benchmark}, {a} of its {b} n-grams"
            for one, a, b in zip(named, held[best].tolist(), of[best].tolist(), strict=True)
        ]
        columns = [
            partial.column("id"),
            pa.array([one.benchmark for one in named], pa.string()).take(at),
            pa.array([one.id for one in named], pa.string()).take(at),
            pc.fill_null(pa.array(share[best], pa.float64()).take(at), 0.0),
            pc.fill_null(pa.array(np.round(covered, 6), pa.float64()).take(at), 0.0),
            pc.fill_null(pa.array(numbers, pa.int64()).take(at), 0),
            pa.array(notes, pa.string()).take(at),
            pa.array([starts for starts, _ in spans], _NUMBERS).take(at),
            pa.array([ends for _, ends in spans], _NUMBERS).take(at),
        ]
        return pa.table(columns, schema=STATE_SCHEMA)

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """What was found of each benchmark, and what could not be checked."""
        index = self.index()
        found = {int(number): documents for number, documents in told.get("found", {}).items()}
        facts: dict[str, Any] = {
            name: told.get(name, 0) for name in ("documents", "flagged_documents", "ngrams", "common_ngrams")
        }
        facts |= {"items": len(index.items), "not_checked": len(index.unchecked)}
        if index.unchecked:
            facts["note"] = index.not_checked_in_words
        return facts | {"benchmarks": _benchmarks(index, found, told.get("flagged", {}))}

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Carries it out; raises MismatchError if the documents are not those that were compared."""
        for batch, told in with_what_is_told(batches, state, name=self.name):
            yield self._outcome(batch, told.combine_chunks())

    def _outcome(self, batch: Batch, told: pa.Table) -> Outcome:
        signals = {f"{self.name}.{name}": told.column(name).to_numpy().astype(np.float64) for name in SIGNALS}
        flagged = np.flatnonzero(told.column("benchmark").is_valid().to_numpy())
        if self.action == "drop":
            stay = np.ones(len(batch), dtype=bool)
            stay[flagged] = False
            return Outcome(batch.filter(stay), self._left(told, flagged), signals=signals)
        for name in ("benchmark", "item", *SIGNALS):
            batch = batch.with_column(f"{self.name}.{name}", told.column(name).combine_chunks())
        if self.action == "cut":
            return self._cut(batch, told, flagged, signals)
        for name in ("starts", "ends"):
            batch = batch.with_column(f"{self.name}.{name}", told.column(name).combine_chunks())
        return Outcome(batch, signals=signals)

    def _left(self, told: pa.Table, rows: np.ndarray) -> pa.RecordBatch:
        """Documents that leave for what they hold: the benchmark is in the rule, the item in the note."""
        told = told.take(pa.array(rows))
        return departures(
            rows,
            "dropped",
            rule=[f"{self.name}.{benchmark}" for benchmark in told.column("benchmark").to_pylist()],
            value=told.column("share").to_numpy(),
            threshold=self.max_share,
            error=told.column("note").to_pylist(),
        )

    def _cut(self, batch: Batch, told: pa.Table, flagged: np.ndarray, signals: dict[str, np.ndarray]) -> Outcome:
        texts = batch.texts.take(pa.array(flagged))
        starts, ends = (told.column(name).take(pa.array(flagged)) for name in ("starts", "ends"))
        cuts = [
            cut_out(
                text.as_py(),
                low.values.to_numpy(),
                high.values.to_numpy(),
                margin=self.margin,
                min_piece=self.min_piece,
            )
            for text, low, high in zip(texts, starts, ends, strict=True)
        ]
        asked = [self._asked_of(cut) for cut in cuts]
        gone = np.array([why is not None for why in asked], dtype=bool)
        left_told = told.take(pa.array(flagged[gone]))
        reasons = [why for why in asked if why is not None]
        left = departures(
            flagged[gone],
            "dropped",
            rule=[
                f"{self.name}.{benchmark}.{why}"
                for benchmark, (why, _, _) in zip(left_told.column("benchmark").to_pylist(), reasons, strict=True)
            ],
            value=[float(value) for _, value, _ in reasons],
            threshold=[float(threshold) for _, _, threshold in reasons],
            error=left_told.column("note").to_pylist(),
        )
        after = pa.array([cut.text for cut in cuts], pa.string()).take(rows_told(flagged, len(batch)))
        before = pc.fill_null(pc.binary_length(batch.texts), 0)
        edited = batch.with_text(pc.coalesce(after, batch.texts.cast(pa.string())))
        removed = pc.subtract(before, pc.fill_null(pc.binary_length(edited.texts), 0)).to_numpy(zero_copy_only=False)
        stay = np.ones(len(batch), dtype=bool)
        stay[flagged[gone]] = False
        notes = told.column("note").combine_chunks().filter(pa.array(stay))
        return Outcome(edited.filter(stay), left, removed.astype(np.int64)[stay], signals, notes)

    def _asked_of(self, cut: Cut) -> tuple[str, int, int] | None:
        """Why a document that was cut leaves, with what was measured and what is asked; None if it stays."""
        if cut.cuts > self.max_cuts:
            return "max_cuts", cut.cuts, self.max_cuts
        return None if cut.text else ("nothing_left", cut.longest_piece, max(1, self.min_piece))


def _places(batch: Batch, index: BenchmarkIndex) -> pa.RecordBatch:
    hits = find_ngrams(batch.texts, index.table)
    first = np.searchsorted(hits.text, np.arange(len(batch) + 1, dtype=np.uint32))
    lists = [
        pa.LargeListArray.from_arrays(pa.array(first), pa.array(values)) for values in (hits.gram, hits.start, hits.end)
    ]
    sizes = pc.fill_null(pc.binary_length(batch.texts), 0).cast(pa.int64())
    return pa.RecordBatch.from_arrays([batch.ids, sizes, *lists], schema=PARTIAL_SCHEMA)


def _passages(
    partial: pa.Table, index: BenchmarkIndex, row: np.ndarray, item: np.ndarray, flagged: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Starts and ends of the passages of found items in each flagged document; where they overlap, they are one."""
    own = Places.of(partial)
    held = held_places(own, index, row, item)
    starts, ends = (pc.list_flatten(partial.column(name)).to_numpy() for name in ("starts", "ends"))
    spans = []
    for number in flagged.tolist():
        here = np.arange(own.first[number], own.first[number + 1])
        here = here[held[here]]
        spans.append(merged(starts[here], ends[here]))
    return spans


def _benchmarks(index: BenchmarkIndex, found: Mapping[int, int], flagged: Mapping[str, int]) -> dict[str, Any]:
    """Of each benchmark: counts, the items that were found with the documents that hold them, and those not checked."""
    told: dict[str, Any] = {}
    for number, item in enumerate(index.items):
        own = told.setdefault(
            item.benchmark,
            {
                "items": 0,
                "same_as_another": 0,
                "found": 0,
                "documents": flagged.get(item.benchmark, 0),
                "found_items": [],
                "not_checked": {TOO_SHORT: [], TOO_COMMON: []},
            },
        )
        first = int(index.same_as[number])
        own["items"] += 1
        own["same_as_another"] += first != number
        if number in index.unchecked:
            own["not_checked"][index.unchecked[number]].append(item.id)
        if first in found:
            own["found"] += 1
            own["found_items"].append({"item": item.id, "documents": found[first]})
    return told
