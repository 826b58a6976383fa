"""Spans of text that occur elsewhere in the corpus, found exactly and cut out (Lee et al. 2021).

No suffix array: equal windows of `length` bytes have equal anchors (curate.dedup.substring_windows has the proof), so
that only rows of windows with the same anchor meet, in rounds over key ranges. Every claim is then compared with its
copy byte by byte (curate.dedup.substring_cuts): nothing is cut that does not stand elsewhere.
Costs on disk, of a text of n bytes: n for the text in the partial; 48 bytes a row, of which text has about
4 n / length: 1.9 n at 100 bytes, .96 n at 200; of what shares half a window, some 4 bytes a byte; of what is found, 40
bytes a row or window. A task holds a range of these, and all rows of one anchor at once.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.corpus import SETTINGS, check_settings
from curate.dedup.substring_cuts import CUTS_SCHEMA, cuts_of
from curate.dedup.substring_windows import CLAIMS_SCHEMA, MET_SCHEMA, WANTED_SCHEMA, Meeting, Unit, Windows
from curate.documents import Batch
from curate.kernels.cutting import without_spans
from curate.kernels.hashing import hash_strings
from curate.rounds import Out, Round, Tables, View, mixed, places, row_of
from curate.steps import STEP_CONFIG, Exchange, Outcome, Rule, departures

LENGTHS: dict[Unit, int] = {"bytes": 100, "words": 50}
"""Nemotron-CC's 100 bytes; Lee et al. and RefinedWeb have 50 tokens."""

LEAST: dict[Unit, int] = {"bytes": 20, "words": 5}
"""Fewest that are taken, a tenth to a fifth of those: shorter spans repeat in any two texts of a language."""

TEXT_BYTES = 4096
"""About what a task reads of a document's text."""

SHOWN = 20
"""Longest cuts that the summary shows."""
EXCERPT = 200
"""Characters shown of each."""
SIZES = (0.0, 20_000.0)
"""Bytes of text that the histogram of what is left spans."""

_ROW_COLUMNS = {"key": pa.uint64(), "other": pa.uint64(), "start": pa.int64(), "stop": pa.int64()}
"""Columns of a partial with a list a document, of its rows of windows."""

_CLAIMS = ("coarse_claims", "fine_claims", "window_claims")
_COPY = ("survivor", "survivor_start")

STATE_SCHEMA = pa.schema(
    [
        pa.field("starts", pa.large_list(pa.int64()), nullable=False),
        pa.field("stops", pa.large_list(pa.int64()), nullable=False),
        pa.field("survivor", pa.string()),  # id of the document that has the copy of the longest span
        pa.field("survivor_part", pa.int64()),
    ]
)
"""What `apply` needs of a part: the cuts of each document, in order."""


@dataclass(kw_only=True, config=STEP_CONFIG)
class DuplicateSubstrings(Exchange):
    """Cuts every span of at least `length` bytes (or words) that occurs elsewhere; documents may leave as a whole.

    Adds the column `duplicate_substrings.bytes` (int64, of the text as it came) to the documents that stay.
    """

    name: ClassVar[str] = "duplicate_substrings"
    version: ClassVar[int] = 2
    state_tables: ClassVar[tuple[str, ...]] = ("cuts",)

    unit: Unit = "bytes"
    """What `length` counts: bytes of UTF-8, or words (those of Unicode's rules, punctuation included; between them the
    bytes must be equal, too)."""
    length: int | None = Field(default=None, ge=2, le=65536)
    """Least length of a span, 20 bytes or 5 words at least; by default 100 bytes or 50 words."""
    keep: Literal["first", "one", "none"] = "first"
    """Which copy stays. `first`: the first of the corpus, in the order of its files; `one`: that of the document whose
    id has the least hash, whatever the order of the inputs; `none`: no copy stays. Within a document, the first."""
    remove: Literal["span", "nothing"] = "span"
    """`span`: cut the spans out of documents that stay; `nothing`: only count them."""
    drop: float | None = Field(default=None, ge=0, lt=1)
    """A document leaves if more than this share of its bytes is in such spans; null: none does."""
    min_bytes_left: int = Field(default=1, ge=0)
    """A document leaves if spans are cut from it and fewer bytes than these remain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows.length < LEAST[self.unit]:
            raise ValueError(
                f"`length: {self.length}` would cut texts to shreds, as spans of {self.length} {self.unit} repeat in "
                f"any language: take {LEAST[self.unit]} {self.unit} at least (Lee et al. 2021 have 50 tokens, "
                "Nemotron-CC 100 bytes)"
            )

    @property
    def windows(self) -> Windows:
        """What is compared."""
        return Windows(self.unit, LENGTHS[self.unit] if self.length is None else self.length)

    @property
    def keep_one(self) -> bool:
        """Whether one copy stays."""
        return self.keep != "none"

    def parameters(self) -> dict[str, Any]:
        """The parameters with the default length written out."""
        return super().parameters() | {"length": self.windows.length}

    def rules(self) -> tuple[Rule, ...]:
        """By which documents leave."""
        return (
            Rule(f"{self.name}.share", f"{self.name}.share", at_most=self.drop),
            Rule(f"{self.name}.min_bytes_left", f"{self.name}.bytes_left", at_least=self.min_bytes_left, span=SIZES),
        )

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, text, its place in the order of all, and its rows of windows."""
        schema = self._schema()
        return pa.Table.from_batches([self._described(batch, schema) for batch in batches], schema)

    def tables(self) -> Tables:
        """What goes from round to round: rows, coarse to fine; what is claimed and what is cut finer; cuts."""
        return {
            "coarse": MET_SCHEMA,
            "fine": MET_SCHEMA,
            "windows": MET_SCHEMA,
            "coarse_claims": CLAIMS_SCHEMA,
            "fine_claims": CLAIMS_SCHEMA,
            "window_claims": CLAIMS_SCHEMA,
            "coarse_wanted": WANTED_SCHEMA,
            "fine_wanted": WANTED_SCHEMA,
            "cuts": CUTS_SCHEMA,
        }

    def rounds(self) -> Sequence[Round]:
        """Rows meet, and some of them are cut finer, until they are windows; what was claimed is proven on the text."""
        return (
            Round("meet_coarse", reads=("coarse",), gives=("coarse_claims", "coarse_wanted"), by="hash"),
            Round("cut_fine", reads=("coarse_wanted",), gives=("fine",), by="part", row_bytes=TEXT_BYTES),
            Round("meet_fine", reads=("fine",), gives=("fine_claims", "fine_wanted"), by="hash"),
            Round("cut_windows", reads=("fine_wanted",), gives=("windows",), by="part", row_bytes=TEXT_BYTES),
            Round("meet_windows", reads=("windows",), gives=("window_claims",), by="hash"),
            Round("prove", reads=_CLAIMS, gives=("cuts",), by="part", row_bytes=TEXT_BYTES),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The rows of windows of the part."""
        check_settings(partial, part, self.settings())
        row = 0
        for batch in partial.to_batches():
            lists = {name: batch.column(name) for name in _ROW_COLUMNS}
            counts = np.diff(lists["key"].offsets.to_numpy())
            rows = np.repeat(np.arange(row, row + len(batch)), counts)
            columns = {name: values.flatten() for name, values in lists.items()}
            columns["place"] = pa.array(places(part, rows))
            columns["order"] = pa.array(self._order(batch.column("order").to_numpy()[rows - row], part, rows))
            out.write("coarse", pa.table(columns).select(MET_SCHEMA.names).cast(MET_SCHEMA))
            row += len(batch)
            out.tell(rows_cut={"coarse": len(rows)})
        out.tell(documents=partial.num_rows)

    def kept(self, partial: pa.Table) -> pa.Table:
        """All but the rows of windows, which are on their way."""
        return partial.drop_columns(list(_ROW_COLUMNS))

    def meet_coarse(self, view: View, out: Out) -> None:
        """Coarse rows of equal text, and those that are cut finer."""
        self._meet(view, out, "coarse", wanted=True)

    def cut_fine(self, view: View, out: Out) -> None:
        """Finer rows."""
        self._cut(view, out, "coarse_wanted", "fine", core=self.windows.cores[1])

    def meet_fine(self, view: View, out: Out) -> None:
        """Fine rows of equal text, and those that are cut into windows."""
        self._meet(view, out, "fine", wanted=True)

    def cut_windows(self, view: View, out: Out) -> None:
        """Single windows."""
        self._cut(view, out, "fine_wanted", "windows", core=self.windows.cores[2])

    def meet_windows(self, view: View, out: Out) -> None:
        """Windows of equal content."""
        self._meet(view, out, "windows", wanted=False)

    def _meet(self, view: View, out: Out, rows: str, *, wanted: bool) -> None:
        met = Meeting.of(view.rows(rows), keep_one=self.keep_one)
        name = rows.removesuffix("s")
        out.write(f"{name}_claims", met.claimed)
        if wanted:
            out.write(f"{name}_wanted", met.wanted(keep_one=self.keep_one))

    def _cut(self, view: View, out: Out, rows: str, finer: str, *, core: int) -> None:
        for part in view.span.parts:
            wanted = view.of_part(part).rows(rows).sort_by([("key", "ascending"), ("start", "ascending")])
            number = row_of(wanted.column("key").to_numpy())
            start, stop = (wanted.column(name).to_numpy() for name in ("start", "stop"))
            before = 0
            for batch in view.partial(part).to_batches():
                low, high = np.searchsorted(number, (before, before + len(batch)))
                named, text = np.unique(number[low:high] - before, return_inverse=True)
                texts = batch.column("text").take(pa.array(named))
                order = batch.column("order").to_numpy()
                for cut in self.windows.cut(texts, text, start[low:high], stop[low:high], core=core):
                    here = named[cut.text]
                    place = places(part, before + here)
                    orders = self._order(order[here], part, before + here)
                    columns = [cut.key, cut.other, orders, place, cut.start, cut.stop]
                    out.write(finer, pa.table(columns, schema=MET_SCHEMA))
                    out.tell(rows_cut={finer: len(place)})
                before += len(batch)
            view.release()

    def prove(self, view: View, out: Out) -> None:
        """Claims held against the text of their copies, and joined."""
        for part in view.span.parts:
            for cuts, held, refused in cuts_of(view, part, _CLAIMS):
                out.write("cuts", cuts)
                size = pc.subtract(cuts.column("stop"), cuts.column("start"))
                out.tell(
                    claims=held,
                    refused_claims=refused,
                    spans=cuts.num_rows,
                    duplicate_bytes=pc.sum(size).as_py() or 0,
                    documents_with_spans=pc.count_distinct(cuts.column("key")).as_py(),
                    span_bytes=_lengths(size.to_numpy()),
                    longest=_longest(view, cuts, size),
                )

    def state(self, view: View, part: int) -> pa.Table:
        """The cuts of each document of a part."""
        cuts = view.rows("cuts").sort_by([("key", "ascending"), ("start", "ascending")])
        rows = row_of(cuts.column("key").to_numpy())
        documents = np.arange(view.partial(part).num_rows)
        offsets = pa.array(np.searchsorted(rows, np.append(documents, len(documents))))
        start, stop = (cuts.column(name).combine_chunks() for name in ("start", "stop"))
        longest = np.lexsort((-start.to_numpy(), pc.subtract(stop, start).to_numpy(), rows))
        last = np.searchsorted(rows, documents, side="right")
        none = last == np.searchsorted(rows, documents)
        some = pa.array(np.append(longest, 0)[last - 1], mask=none)
        columns = [pa.LargeListArray.from_arrays(offsets, edges) for edges in (start, stop)]
        survivors = [cuts.column(name).take(some) for name in ("survivor", "survivor_part")]
        return pa.table([*columns, *survivors], schema=STATE_SCHEMA)

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, lengths of spans by powers of two, and the longest with the place of the copy that claims them."""
        names = ("documents", "documents_with_spans", "spans", "duplicate_bytes", "claims", "refused_claims")
        lengths = told.get("span_bytes", {})
        return {name: told.get(name, 0) for name in names} | {
            "rows": {name: told.get("rows_cut", {}).get(name, 0) for name in ("coarse", "fine", "windows")},
            "span_bytes": {size: lengths[size] for size in sorted(lengths, key=int)},
            "longest": _first_shown(told.get("longest", [])),
        }

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Documents that are mostly copies leave; from the others the spans are cut."""
        row = 0
        for batch in batches:
            yield self._applied(batch, state.slice(row, len(batch)))
            row += len(batch)

    def _applied(self, batch: Batch, state: pa.Table) -> Outcome:
        starts, stops = (state.column(name).combine_chunks() for name in ("starts", "stops"))
        spans = np.concatenate(([0], np.cumsum(pc.list_value_length(starts).to_numpy())))
        texts = np.repeat(np.arange(len(batch)), np.diff(spans))
        start, stop = (edges.flatten().to_numpy() for edges in (starts, stops))
        size = pc.fill_null(pc.binary_length(batch.texts), 0).to_numpy().astype(np.int64)
        found = np.bincount(texts, weights=stop - start, minlength=len(batch)).astype(np.int64)
        share, rest = found / np.maximum(size, 1), size - found
        most = np.inf if self.drop is None else self.drop
        too_much = share > most
        too_little = (found > 0) & (rest < self.min_bytes_left) & (self.remove == "span")
        leaves = too_much | too_little
        rows = np.flatnonzero(leaves)
        left = departures(
            rows,
            "dropped",
            rule=[f"{self.name}.{'share' if much else 'min_bytes_left'}" for much in too_much[rows]],
            value=np.where(too_much, share, rest)[rows],
            threshold=np.where(too_much, most, self.min_bytes_left)[rows],
            survivor=state.column("survivor").combine_chunks().take(pa.array(rows)),
            survivor_part=state.column("survivor_part").combine_chunks().take(pa.array(rows)),
        )
        signals = {f"{self.name}.share": share, f"{self.name}.bytes_left": rest.astype(np.float64)}
        edited = np.zeros(len(batch), dtype=np.int64)
        after = batch.with_column(f"{self.name}.bytes", pa.array(found))
        if self.remove == "span" and len(texts):
            texts_left = without_spans(batch.texts, spans, start, stop)
            after = after.with_text(pc.if_else(pc.is_valid(batch.texts), texts_left, None))
            edited = found
        return Outcome(after.filter(~leaves), left, edited=edited[~leaves], signals=signals)

    def _order(self, order: np.ndarray, part: int, rows: np.ndarray) -> np.ndarray:
        return places(part, rows) if self.keep == "first" else order

    def _described(self, batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
        first, rows = self.windows.rows(batch)
        texts = pc.fill_null(batch.texts, "").cast(pa.string())
        # Two documents of one id count as two, unless their texts are equal: then either may keep its copy.
        order = mixed(mixed(hash_strings(batch.ids)) ^ hash_strings(texts))
        offsets = pa.array(first)
        lists = [pa.LargeListArray.from_arrays(offsets, pa.array(getattr(rows, name))) for name in _ROW_COLUMNS]
        return pa.RecordBatch.from_arrays([batch.ids, texts, pa.array(order), *lists], schema=schema)

    def _schema(self) -> pa.Schema:
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("order", pa.uint64(), nullable=False),
            *(pa.field(name, pa.large_list(kind), nullable=False) for name, kind in _ROW_COLUMNS.items()),
        ]
        return pa.schema(fields, {SETTINGS: self.settings()})

    def settings(self) -> bytes:
        """By which parameters a partial is made."""
        made_by = {"method": self.name, "version": self.version, "unit": self.unit, "length": self.windows.length}
        return json.dumps(made_by, sort_keys=True).encode()


def _lengths(size: np.ndarray) -> dict[str, int]:
    """Spans by length: of a power of two bytes or more, but less than the next."""
    power = np.floor(np.log2(np.maximum(size, 1))).astype(np.int64)
    return {str(1 << bits): int(count) for bits, count in enumerate(np.bincount(power)) if count}


def _longest(view: View, cuts: pa.Table, size: pa.ChunkedArray) -> list[dict[str, Any]]:
    """The longest cuts, one of each copy: where they are, how they begin, and where their copy is."""
    place = cuts.column("key").to_numpy()
    documents, which = np.unique(place, return_inverse=True)
    ids = pa.chunked_array(view.take("id", documents), pa.string()).take(pa.array(which))
    columns = {"bytes": size, "id": ids} | {name: cuts.column(name) for name in ("start", *_COPY, "key")}
    ordered = pa.table(columns).sort_by([("bytes", "descending"), ("id", "ascending"), ("start", "ascending")])
    firsts = [(name, "first") for name in ("id", "start", "key")]
    shown = ordered.group_by([*_COPY, "bytes"], use_threads=False).aggregate(firsts).slice(0, SHOWN).to_pylist()
    for cut in shown:
        text = view.take("text", np.array([cut.pop("key_first")], dtype=np.uint64))[0][0].as_buffer()
        cut |= {"id": cut.pop("id_first"), "start": (start := cut.pop("start_first"))}
        cut["text"] = bytes(text[start : start + min(cut["bytes"], 4 * EXCERPT)]).decode("utf-8", "replace")[:EXCERPT]
    view.release()
    return shown


def _first_shown(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """SHOWN of those that all tasks found, one of each copy."""
    ordered = sorted(shown, key=lambda cut: (-cut["bytes"], cut["id"], cut["start"]))
    one_each: dict[Any, dict[str, Any]] = {}
    for cut in ordered:
        one_each.setdefault((*(cut[name] for name in _COPY), cut["bytes"]), cut)
    return list(one_each.values())[:SHOWN]
