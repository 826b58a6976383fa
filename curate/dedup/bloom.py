"""Paragraphs and documents whose n-grams a Bloom filter has seen: DCLM's BFF, in an order that never changes.

The rule is BFF's (mlfoundations/dclm, `dedup/bff/src/main.rs`): in order, a paragraph or document goes if more than
`threshold` of its n-grams are in the filter, else they enter it. BFF shuffles files and shares one filter between
threads; here a shard (documents by a hash of their id) goes through the filter in order of place, in one task, and
shards run beside each other. `map` hashes the n-grams, 8 bytes each (about 1.1 x the text), which are written once
and read once by that task; it holds the filter's bits (9.9 an n-gram at 1%) and one batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.edits import are_blank, edits, lines_of, numbered
from curate.dedup.told import rows_told
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.bloom import BLOCK_BYTES, BloomFilter, blocks_for, paragraph_ngrams
from curate.kernels.cutting import without_spans
from curate.kernels.hashing import hash_strings
from curate.rounds import KEY, KEYS, Out, Round, Tables, View, mixed, places, row_of
from curate.steps import STEP_CONFIG, Exchange, Outcome, departures
from curate.units import Size, shown_bytes

_NGRAMS = [
    pa.field("words", pa.large_list(pa.uint32()), nullable=False),  # of each paragraph
    pa.field("ngrams", pa.large_list(pa.uint64()), nullable=False),  # within paragraphs, or of the whole text
]
PARTIAL_SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), *_NGRAMS])
"""What `map` says of a document."""
NGRAMS_SCHEMA = pa.schema(
    [
        KEY,  # the lowest key of the document's shard
        pa.field("place", pa.uint64(), nullable=False),
        *_NGRAMS,
    ]
)
COUNTS_SCHEMA = pa.schema([KEY, pa.field("ngrams", pa.int64(), nullable=False)])
"""N-grams of a part in a shard; key as above."""
VERDICTS_SCHEMA = pa.schema(
    [
        KEY,  # place of a document of which something goes
        pa.field("gone", pa.bool_(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),  # of its n-grams that the filter knew
        pa.field("removed", pa.large_list(pa.uint32()), nullable=False),  # paragraphs
    ]
)
WORST = 2.0
"""Times `false_positive_rate` that a filter made for too few `expected_ngrams` may be wrong before it is refused."""
_RUN_NGRAMS = 1 << 22
"""N-grams that `scatter` writes at once."""


@dataclass(kw_only=True, config=STEP_CONFIG)
class Bloom(Exchange):
    """Removes paragraphs, and drops documents, of n-grams that occurred before in their shard.

    Documents that stay get the column `bloom.removed` (int64): paragraphs that went.
    """

    name: ClassVar[str] = "bloom"
    version: ClassVar[int] = 2
    state_tables: ClassVar[tuple[str, ...]] = ("verdicts",)

    mode: Literal["paragraph", "document", "old-both", "both"] = "old-both"
    """BFF's `--remove-type`; `old-both` made DCLM-Baseline (README of dedup/bff)."""
    min_ngram: int = Field(default=13, ge=1)
    """Paragraphs of fewer words are always kept. README: 13; default of the code, and the data sets' names: 20."""
    max_ngram: int = Field(default=13, ge=1)
    """Words of an n-gram; a paragraph of fewer counts as one n-gram. README: 13; default of the code: 20."""
    threshold: float = Field(default=0.8, ge=0, le=1)
    """Known share of its n-grams above which a paragraph or document goes (`both`: from which on)."""
    false_positive_rate: float = Field(default=0.01, ge=1e-9, le=0.5)
    """Of one n-gram, with the filter as full as expected."""
    expected_ngrams: int | None = Field(default=None, ge=1)
    """Different n-grams of one shard; the filter is made for so many, and refused if many more fill it. None: those
    that `map` counted, repeats included."""
    shards: int = Field(default=1, ge=1, le=1 << 16)
    """Filters that know nothing of each other, as BFF's `--total-shards`; documents are dealt by a hash of their id."""
    memory: Size = 4_000_000_000
    """Most bytes of one filter; more are refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_ngram > self.max_ngram:
            raise ValueError(f"min_ngram ({self.min_ngram}) is greater than max_ngram ({self.max_ngram})")
        if self.expected_ngrams is not None and (problem := self._too_large(self.expected_ngrams)):
            raise ValueError(problem)

    @property
    def _whole(self) -> bool:
        return self.mode in ("document", "both")

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: its n-grams, and the words of its paragraphs."""
        return pa.Table.from_batches([self._described(batch) for batch in batches], PARTIAL_SCHEMA)

    def _described(self, batch: Batch) -> pa.RecordBatch:
        found = paragraph_ngrams(batch.index, least=self.min_ngram, most=self.max_ngram, whole=self._whole)
        offsets, words, gram_offsets, grams = (pa.array(array) for array in found)
        lists = [pa.LargeListArray.from_arrays(offsets, words), pa.LargeListArray.from_arrays(gram_offsets, grams)]
        return pa.RecordBatch.from_arrays([batch.ids, *lists], schema=PARTIAL_SCHEMA)

    def tables(self) -> Tables:
        """What goes from round to round."""
        return {"ngrams": NGRAMS_SCHEMA, "counts": COUNTS_SCHEMA, "verdicts": VERDICTS_SCHEMA}

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The n-grams of each document that has any, to its shard."""
        out.tell(documents=partial.num_rows)
        counts = np.zeros(self.shards, dtype=np.int64)
        row = 0
        for piece in partial.to_batches():
            sizes = pc.list_value_length(piece.column("ngrams")).to_numpy(zero_copy_only=False).astype(np.int64)
            shard = self._shard(piece.column("id"))
            np.add.at(counts, shard, sizes)
            keys, place = self._lowest_key(shard), places(part, np.arange(row, row + len(piece)))
            row += len(piece)
            for some in _runs(sizes):
                taken = piece.select(["words", "ngrams"]).take(pa.array(some))
                columns = [pa.array(keys[some]), pa.array(place[some]), *taken.columns]
                out.write("ngrams", pa.Table.from_arrays(columns, schema=NGRAMS_SCHEMA))
        shard = np.flatnonzero(counts)
        out.write("counts", pa.table([self._lowest_key(shard), counts[shard]], schema=COUNTS_SCHEMA))

    def kept(self, partial: pa.Table) -> pa.Table:
        """The ids; the n-grams are on their way."""
        return partial.select(["id"])

    def rounds(self) -> Sequence[Round]:
        """Each shard through its filter."""
        return (Round("sift", reads=("ngrams", "counts"), gives=("verdicts",), by="hash", tasks=self.shards),)

    def sift(self, view: View, out: Out) -> None:
        """One shard, document by document in order of place."""
        counted = int(pc.sum(view.rows("counts").column("ngrams")).as_py() or 0)
        if not counted:
            return
        expected = self.expected_ngrams or counted
        if problem := self._too_large(expected):
            raise InputError(f"`bloom`: {problem}.")
        seen = BloomFilter(expected, self.false_positive_rate)
        judged, looked = 0, 0
        for run in view.slices("ngrams"):
            out.write("verdicts", self._verdicts(run, seen, out))
            judged += int(pc.sum(pc.list_value_length(run.column("ngrams"))).as_py() or 0)
            # counting its bits costs a look at the whole filter: not oftener than for each quarter of its n-grams
            if judged > expected and (judged == counted or judged - looked > expected // 4):
                looked = judged
                self._refuse_overfull(seen.rate, counted)
        out.tell(ngrams=counted, filters=1, filter_bytes=seen.nbytes, false_positive_rates=[seen.rate])

    def _refuse_overfull(self, rate: float, counted: int) -> None:
        """Too few were expected if so many bits are set: what is new would go as known."""
        asked = self.false_positive_rate
        if self.expected_ngrams is not None and rate > min(WORST * asked, (1 + asked) / 2):
            raise InputError(
                f"`bloom`: a filter made for {self.expected_ngrams:,} `expected_ngrams` is wrong about {rate:.2g} of "
                f"new n-grams where `false_positive_rate` allows {asked:g}, so that new text would be removed: leave "
                f"`expected_ngrams` out, or raise it (this shard has {counted:,} n-grams, repeats included)."
            )

    def _verdicts(self, run: pa.RecordBatch, seen: BloomFilter, out: Out) -> pa.Table:
        offsets, words = _parts_of(run.column("words"))
        gram_offsets, grams = _parts_of(run.column("ngrams"))
        removed, contained, gone = seen.judge(
            offsets,
            words,
            gram_offsets,
            grams,
            least=self.min_ngram,
            most=self.max_ngram,
            mode=self.mode,
            threshold=self.threshold,
        )
        removed &= ~np.repeat(gone, np.diff(offsets))
        list_offsets, numbers = numbered(removed, offsets)
        touched = np.flatnonzero(gone | (np.diff(list_offsets) > 0))
        lists = pa.LargeListArray.from_arrays(pa.array(list_offsets), pa.array(numbers)).take(pa.array(touched))
        share = contained / np.diff(gram_offsets)
        out.tell(
            paragraphs_removed=int(removed.sum()),
            documents_removed=int(gone.sum()),
            documents_cut=int((~gone[touched]).sum()),
        )
        columns = [run.column("place").take(pa.array(touched)), pa.array(gone[touched]), share[touched], lists]
        return pa.table(columns, schema=VERDICTS_SCHEMA)

    def state(self, view: View, part: int) -> pa.Table:
        """Of each document: its id, whether it goes, the share of its n-grams that were known, paragraphs that go."""
        ids = view.partial(part).column("id")
        verdicts = view.rows("verdicts")
        told = verdicts.take(rows_told(row_of(verdicts.column("key").to_numpy()), len(ids)))
        names = ("gone", "share", "removed")
        return pa.table({"id": ids, **{name: told.column(name) for name in names}})

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the bytes of all filters, and how often the fullest was wrong in the end."""
        names = ("documents", "ngrams", "documents_removed", "documents_cut", "paragraphs_removed", "filter_bytes")
        rates = told.get("false_positive_rates", [])
        return {name: told.get(name, 0) for name in names} | {
            "filters": told.get("filters", 0),
            "false_positive_rate": round(max(rates, default=0.0), 6),
        }

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Documents leave by `bloom.document`, or by `bloom.paragraphs` where no paragraph is left."""
        for edited in edits(batches, state, name=self.name, cut=_without_paragraphs):
            gone = pc.fill_null(edited.told.column("gone"), False).to_numpy().copy()
            emptied = np.zeros(len(gone), dtype=bool)
            emptied[edited.rows] = are_blank(edited.texts)
            emptied &= ~gone
            leaves = gone | emptied
            left = departures(
                np.flatnonzero(leaves),
                "dropped",
                rule=np.where(emptied[leaves], "bloom.paragraphs", "bloom.document").tolist(),
                value=edited.told.column("share").filter(pa.array(leaves)).to_numpy(),
                threshold=self.threshold,
            )
            stay = ~leaves
            after = edited.after.filter(stay).with_column("bloom.removed", pa.array(edited.pieces[stay]))
            yield Outcome(after, left, edited=edited.removed[stay])

    def _shard(self, ids: pa.Array) -> np.ndarray:
        upper = mixed(hash_strings(ids)) >> np.uint64(32)
        return ((upper * np.uint64(self.shards)) >> np.uint64(32)).astype(np.int64)

    def _lowest_key(self, shard: np.ndarray) -> np.ndarray:
        edges = np.array([KEYS * number // self.shards for number in range(self.shards)], dtype=np.uint64)
        return edges[shard]

    def _too_large(self, ngrams: int) -> str:
        """Why no filter can be made for so many n-grams; empty if it can."""
        needed = blocks_for(ngrams, self.false_positive_rate) * BLOCK_BYTES
        if needed <= self.memory:
            return ""
        return (
            f"{ngrams:,} n-grams of a shard need a filter of {shown_bytes(needed)} to be wrong about "
            f"{self.false_positive_rate:g} of others, and `memory` allows {shown_bytes(self.memory)}: "
            "raise `memory`, or have more `shards`"
        )


def _runs(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that have n-grams, by so many n-grams at once."""
    rows = np.flatnonzero(sizes)
    run = np.cumsum(sizes[rows]) // _RUN_NGRAMS
    yield from (some for some in np.split(rows, np.flatnonzero(np.diff(run)) + 1) if len(some))


def _parts_of(lists: pa.LargeListArray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from 0 on, and values."""
    offsets = lists.offsets.to_numpy()
    return offsets - offsets[0], lists.flatten().to_numpy()


def _without_paragraphs(texts: pa.Array, text: np.ndarray, paragraph: np.ndarray) -> pa.Array:
    """As BFF: a paragraph goes with the newline before it."""
    first, starts, ends = lines_of(texts)
    at = first[text] + paragraph
    spans = np.concatenate(([0], np.cumsum(np.bincount(text, minlength=len(texts)))))
    return without_spans(texts, spans, starts[at].astype(np.int64) - (paragraph > 0), ends[at])
