"""Quality by a two-class fastText model: keep the best share of the corpus, or all above a score (DCLM, section 4.4).

The share is exact and global, so this is an exchange: each part maps to ids, scores and bytes; reduce finds the
threshold by counting scores (they have 6 decimals: a million counters, however many documents) and settles ties by a
hash of the id, then by the id, so that the choice does not depend on how the corpus was cut; apply drops.
Adds the column `quality_score`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.errors import MismatchError
from curate.kernels.hashing import hash_strings
from curate.models.fasttext import SCORE_DECIMALS, load_classifier
from curate.steps import STEP_CONFIG, Exchange, Outcome, Rule, State, departures

PARTIAL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)
"""What `map` says of a part: one row a document, in order."""

STATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
    ]
)
"""What `apply` needs of a part: one row a document, in order."""

_SCALE = 10**SCORE_DECIMALS


def _share(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*%\s*", value):
        return float(Decimal(value.strip().rstrip("% \t")) / 100)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
        raise ValueError(f"write {value}% for a percentage, or a share between 0 and 1")
    return value


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Top:
    """Keep the best-scored share of the corpus, rounded up to a whole document."""

    top: Annotated[float, BeforeValidator(_share), Field(gt=0, le=1)]
    """`10%` or `0.1`."""
    of: Literal["documents", "bytes"] = "documents"
    """What the share is a share of: documents (DCLM), or bytes of text."""


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Above:
    """Keep what reaches a fixed score. DCLM published .018112, the top 10% of its own corpus."""

    above: Annotated[float, Field(ge=0, le=1)]
    """Smallest score kept; DCLM's comparison is strict, which rounding to 6 decimals makes immaterial."""


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class Quality(Exchange):
    """Keeps documents by the score of one label of a fastText model."""

    name: ClassVar[str] = "quality"
    version: ClassVar[int] = 1
    artifact_fields: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """An artifact of the recipe, or the path of a fastText model."""
    keep: Top | Above
    """`{top: 10%}`, `{top: 10%, of: bytes}` or `{above: 0.018112}`."""
    label: str = "positive"
    """The label whose score counts: `positive` in models trained here, `hq` in the one DCLM published."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """Score the first so many characters only; null: the whole text."""

    def parameters(self) -> dict[str, Any]:
        """The values of the recipe's parameters, `keep` as the recipe writes it."""
        return super().parameters() | {"keep": asdict(self.keep)}

    def rules(self) -> tuple[Rule, ...]:
        """One rule; the threshold of `top` is found by `reduce` and stands in its summary and in the departures."""
        bound = self.keep.above if isinstance(self.keep, Above) else None
        return (Rule(self._rule, "quality.score", at_least=bound),)

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """PARTIAL_SCHEMA of one part."""
        classifier = load_classifier(self.model)
        return pa.Table.from_batches([self._partial(batch, classifier) for batch in batches], PARTIAL_SCHEMA)

    def reduce(self, partials: Sequence[pa.Table]) -> State:
        """STATE_SCHEMA for each part; the summary has the threshold and what is kept, in documents and bytes."""
        scores = [partial["score"].to_numpy() for partial in partials]
        sizes = [partial["bytes"].to_numpy() for partial in partials]
        if isinstance(self.keep, Above):
            threshold, kept = self.keep.above, [score >= self.keep.above for score in scores]
        else:
            threshold, kept = _best(partials, scores, sizes, self.keep)
        parts = [
            pa.table([partial["id"], score, keep, np.full(len(score), threshold)], schema=STATE_SCHEMA)
            for partial, score, keep in zip(partials, scores, kept, strict=True)
        ]
        summary = {
            "threshold": threshold,
            "documents": sum(map(len, scores)),
            "kept_documents": int(sum(keep.sum() for keep in kept)),
            "bytes": int(sum(size.sum() for size in sizes)),
            "kept_bytes": int(sum(size[keep].sum() for size, keep in zip(sizes, kept, strict=True))),
        }
        return State(parts, summary)

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Drops what `reduce` did not choose; raises MismatchError if the documents are not those that were mapped."""
        start = 0
        for batch in batches:
            rows = state.slice(start, len(batch))
            start += len(batch)
            if not rows["id"].combine_chunks().equals(batch.ids):
                raise MismatchError(
                    f"quality: the documents from row {start - len(batch)} of this part are not those that were scored "
                    "(their ids differ). Remove this stage's partial results and run again."
                )
            scores, keep = rows["score"].to_numpy(), rows["keep"].to_numpy()
            gone = np.flatnonzero(~keep)
            left = departures(
                gone, "dropped", rule=self._rule, value=scores[gone], threshold=rows["threshold"].to_numpy()[gone]
            )
            scored = batch.with_column("quality_score", pa.array(scores, pa.float64()))
            yield Outcome(scored.filter(keep), left, signals={"quality.score": scores})
        if start < len(state):
            raise MismatchError(
                f"quality: {len(state)} documents of this part were scored, and only {start} document(s) came to be "
                "filtered. Remove this stage's partial results and run again."
            )

    @property
    def _rule(self) -> str:
        return "quality.top" if isinstance(self.keep, Top) else "quality.above"

    def _partial(self, batch: Batch, classifier: Any) -> pa.RecordBatch:
        scores = classifier.score(batch.texts, self.label, max_chars=self.max_chars)
        sizes = pc.fill_null(pc.binary_length(batch.texts), 0).cast(pa.int64())
        return pa.RecordBatch.from_arrays([batch.ids, pa.array(scores, pa.float64()), sizes], schema=PARTIAL_SCHEMA)


def _best(
    partials: Sequence[pa.Table], scores: list[np.ndarray], sizes: list[np.ndarray], keep: Top
) -> tuple[float, list[np.ndarray]]:
    """The lowest score that is kept, and for each part which documents are."""
    steps = [np.rint(score * _SCALE).astype(np.int64) for score in scores]
    weights = sizes if keep.of == "bytes" else [np.ones_like(size) for size in sizes]
    weight_at = np.zeros(_SCALE + 1, np.int64)
    for step, weight in zip(steps, weights, strict=True):
        np.add.at(weight_at, step, weight)
    total = int(weight_at.sum())
    if total == 0:  # no documents, or none with text
        return 0.0, [np.ones(len(step), bool) for step in steps]
    wanted = _round_up(Fraction(str(keep.top)) * total)
    from_top = np.cumsum(weight_at[::-1])
    border = _SCALE - int(np.searchsorted(from_top, wanted))
    missing = wanted - (int(from_top[_SCALE - border]) - int(weight_at[border]))
    kept = [step > border for step in steps]
    for part, row in _first_of_ties(partials, steps, weights, border, missing):
        kept[part][row] = True
    return border / _SCALE, kept


def _first_of_ties(
    partials: Sequence[pa.Table], steps: list[np.ndarray], weights: list[np.ndarray], border: int, missing: int
) -> Iterator[tuple[int, int]]:
    """Documents at the border, by hash of the id, until they weigh `missing` or more."""
    tied = [np.flatnonzero(step == border) for step in steps]
    parts = np.repeat(np.arange(len(tied)), [len(rows) for rows in tied])
    rows = np.concatenate(tied)
    ids = pa.concat_arrays(
        [partial["id"].take(pa.array(row)).combine_chunks() for partial, row in zip(partials, tied, strict=True)]
    )
    weight = np.concatenate([weight[row] for weight, row in zip(weights, tied, strict=True)])
    order = pc.sort_indices(
        pa.table({"hash": hash_strings(ids), "id": ids}), sort_keys=[("hash", "ascending"), ("id", "ascending")]
    ).to_numpy()
    before = np.cumsum(weight[order]) - weight[order]
    for place in order[before < missing]:
        yield int(parts[place]), int(rows[place])


def _round_up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
