"""Spans of sentences that the corpus has seen before: C4's three-sentence spans (Raffel et al. 2020, section 2.2).

The paper: "we discarded all but one of any three-sentence span occurring more than once". The authors' code (TensorFlow
Datasets, c4_utils) does it by lines, not spans (`duplicate_lines: {form: lower}`). The method here is that of
datatrove's sentence_dedup: every span of three sentences is compared, and all sentences of one that came before go, so
that the first copy of one span may lose sentences to another; documents that lose some and become too short leave.
Differences: first is the lowest place (datatrove: the lowest row within a file, then the file); a number is a run of
digits (there "3.5" is one number). Costs: `map` 70 MB/s a core; the exchange as in curate.dedup.repeats.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.edits import Edited, edits
from curate.dedup.repeats import NO_KEY, Repeats
from curate.documents import Batch
from curate.kernels.cutting import without_spans
from curate.kernels.normal_forms import ACCENTS, DIGIT_RUNS, DIGITS, PUNCTUATION_AS_SPACE, normal_hashes
from curate.kernels.sentence_spans import sentence_spans
from curate.kernels.text_index import TextIndex
from curate.rounds import mixed
from curate.steps import STEP_CONFIG, Outcome, departures

FORM = ACCENTS | DIGITS | DIGIT_RUNS | PUNCTUATION_AS_SPACE


@dataclass(kw_only=True, config=STEP_CONFIG)
class DuplicateSentences(Repeats):
    """Removes the sentences of spans that occurred before, and drops documents of which too little is left.

    Documents that stay get the column `duplicate_sentences.removed` (int64): sentences that went.
    """

    name: ClassVar[str] = "duplicate_sentences"
    version: ClassVar[int] = 2

    sentences: int = Field(default=3, ge=1)
    """Sentences of a span; documents of fewer are left alone. datatrove: `n_sentences`."""
    min_words: int = Field(default=50, ge=0)
    """Drop documents that lost sentences and have fewer words left. datatrove: `min_doc_words`; none in the paper."""
    min_sentences: int = Field(default=3, ge=0)
    """The same of sentences. datatrove: `min_num_sentences`; the JMLR version and c4_utils keep pages of 3."""
    max_copies: int = Field(default=1, ge=1)
    """Spans that occur up to so many times all stay."""
    keep: Literal["first", "none"] = "first"
    """Of the others, keep the first copy, or none."""
    shards: int = Field(default=1, ge=1, le=1 << 16)
    """Parts of the corpus that know nothing of each other; documents are dealt by a hash of their id."""

    def keys(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The hash of each span of sentences in normal form; spans of marks alone have none."""
        index = batch.index
        found = sentence_spans(index)
        hashes, chars = normal_hashes(index.data, index.offsets, index.rows, found, flags=FORM)
        counts = np.maximum(np.diff(found.first) - self.sentences + 1, 0)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        start = np.repeat(found.first[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
        keys, seen = np.zeros(len(start), dtype=np.uint64), np.zeros(len(start), dtype=np.int64)
        for number in range(self.sentences):
            keys = mixed(keys + hashes[start + number])
            seen += chars[start + number]
        keys[keys == NO_KEY] = 1
        return offsets, np.where(seen == 0, NO_KEY, keys)

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Documents that have lost too much leave by `duplicate_sentences.min_words` or `.min_sentences`."""
        for edited in edits(batches, state, name=self.name, cut=self._without_spans):
            index = TextIndex.of(edited.texts)
            words, sentences = index.n_words, np.diff(sentence_spans(index).first)
            empty = index.n_bytes == 0
            few_words, few = (words < self.min_words) | empty, sentences < self.min_sentences
            gone = few_words | few
            left = departures(
                edited.rows[gone],
                "dropped",
                rule=[f"{self.name}.{'min_words' if wordless else 'min_sentences'}" for wordless in few_words[gone]],
                value=np.where(few_words, words, sentences)[gone].astype(np.float64),
                threshold=np.where(few_words, max(self.min_words, 1), self.min_sentences)[gone].astype(np.float64),
                **edited.survivors(edited.rows[gone]),
            )
            stay = np.ones(len(edited.batch), dtype=bool)
            stay[edited.rows[gone]] = False
            removed = pa.array(self._sentences_gone(edited)[stay])
            after = edited.after.filter(stay).with_column("duplicate_sentences.removed", removed)
            yield Outcome(after, left, edited=edited.removed[stay])

    def _sentences_gone(self, edited: Edited) -> np.ndarray:
        """int64, one a document: sentences in spans that went."""
        lists = edited.told.column("removed").combine_chunks()
        row = np.repeat(np.arange(len(edited.pieces)), edited.pieces)
        _, within = self._sentences_of(row, lists.flatten().to_numpy().astype(np.int64))
        return np.bincount(within, minlength=len(edited.pieces))

    def _sentences_of(self, text: np.ndarray, span: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the sentences of some spans, each once, and of which text; ascending."""
        width = np.arange(self.sentences)
        both = (text[:, None] << 32) | (span[:, None] + width)
        both = np.unique(both)
        return both & 0xFFFFFFFF, both >> 32

    def _without_spans(self, texts: pa.Array, text: np.ndarray, span: np.ndarray) -> pa.Array:
        found = sentence_spans(TextIndex.of(texts))
        sentence, of = self._sentences_of(text, span)
        at = found.first[of] + sentence
        spans = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=len(texts)))))
        left = without_spans(texts, spans, found.start[at].astype(np.int64), found.end[at])
        return pc.utf8_ltrim_whitespace(left)
