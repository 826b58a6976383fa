"""Our filters against datatrove 0.10's, on the web pages and documents beside the project and on built-in ones.

Given the same words (ours to datatrove's filters, or its words to ours), the decision and the rule are the same for
every document. With each side's own words the shares of AGREEMENT hold, and what differs is only what words can change:
spaCy also cuts "cannot" and "dont", and the share of words with a letter often lies close to its threshold. All of the
corpus, not a sample: benchmarks/filters/agreement.py.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from curate.documents import Batch
from curate.filters.c4 import C4
from curate.filters.fineweb import FineWeb
from curate.filters.gopher import GopherQuality, GopherRepetition
from curate.kernels.text_index import TextIndex
from curate.steps import Edit, Filter

pytest.importorskip("spacy")

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
LONGEST_CHARS = 8_000
"""datatrove's filters take a second for .1 to 1 MB: texts are cut there, the same ones on both sides."""

BUILT_IN = [
    "",
    " ",
    "\n\n\n",
    "word",
    "#",
    "...",
    "The cat and the dog have to be with that of the house. " * 12,
    "\n".join(f"- item {number} of the list and more" for number in range(40)),
    "\n".join(f"This line number {number} goes on and on..." for number in range(30)),
    "Some paragraph that is here twice.\n\nSome paragraph that is here twice.\n\nAnd another one, with the rest.",
    "An {open} bracket in the text. One. Two. Three. Four. Five. Six.",
    "Lorem ipsum dolor sit amet.\nOne line of text here.\nTwo lines of text here.\nThree of them, I said.",
    "Please enable JavaScript to go on.\nOur cookie policy is new.\n" + "This is a line that stays here. " * 8,
    "It is said [1] that birds [citation needed] fly [edit] south.\n" * 3 + "Nobody [23] knows why that is so. " * 6,
    "x" * 1200 + " is a word of one thousand and two hundred letters.\n" + "This is a line that stays here. " * 8,
    "A line\rAnother line\r\nA third one\x0bA fourth\x0cA fifth\x85A sixth\u2028A seventh one, with words.",
    "Zürich, naïve café, “quotes” and — dashes… " * 20,
    "日本語の文章です。これは二番目の文です。" * 20,
    "Привет, мир! Это просто проверка текста на русском языке. " * 10,
    "🎉 🎊 👩‍👩‍👧 emoji and the text, with that of words. " * 10,
    "don't can't won't it's the company's o'clock rock'n'roll, they've said to be with that. " * 8,
    "1,000.50 2024-01-01 10:30 a.m. e.g. U.S.A. http://example.org/a?b=c user@example.org the of and " * 6,
]


@cache
def corpus() -> tuple[str, ...]:
    """Built-in texts and, where the data is there, real web pages and the beginnings of real documents, all English."""
    texts = list(BUILT_IN)
    web = DATA / "web" / "web_html.parquet"
    if web.exists():
        table = pq.read_table(web, columns=["main_text", "lang"])
        pages = [
            text
            for text, lang in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
            if text and lang == "en"
        ]
        texts += sorted(set(pages))[::6]
    for path in sorted((DATA / "text").glob("*.parquet")):
        if path.stem not in ("laws_de", "wiki_fr", "wiki_es", "multi_osguide"):
            rows = pq.read_table(path, columns=["text"])["text"]
            step = max(1, len(rows) // 10)
            texts += rows.take(list(range(0, len(rows), step))).to_pylist()
    return tuple(text[:LONGEST_CHARS] for text in texts)


def batch(texts: tuple[str, ...]) -> Batch:
    """The texts as documents d0, d1, ..."""
    ids = pa.array([f"d{number}" for number in range(len(texts))])
    return Batch(pa.record_batch({"id": ids, "text": pa.array(texts, pa.string())}))


def ours(step: Filter | Edit, documents: Batch) -> tuple[list[str | None], dict[str, str], dict[str, np.ndarray]]:
    """The rule that dropped each document (None: stays), the texts that stay by id, and all signals."""
    outcome = step.process(documents)
    rules: list[str | None] = [None] * len(documents)
    for row, rule in zip(outcome.left["row"].to_pylist(), outcome.left["rule"].to_pylist(), strict=True):
        rules[row] = rule.split(".", 1)[1]
    texts = dict(zip(outcome.batch.ids.to_pylist(), outcome.batch.texts.to_pylist(), strict=True))
    return rules, texts, outcome.signals


@pytest.fixture(scope="module", autouse=True)
def spacy_cuts_each_text_once() -> Iterator[None]:
    """datatrove remembers the words of five texts; with all of them remembered these tests take a third of the time."""
    from datatrove.utils.text import split_into_sentences, split_into_words

    words = cache(split_into_words)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
            patch.setattr(f"datatrove.pipeline.filters.{module}.split_into_words", words)
        patch.setattr("datatrove.pipeline.filters.c4_filters.split_into_sentences", cache(split_into_sentences))
        yield


def theirs(block, texts: tuple[str, ...]) -> tuple[list[str | None], dict[str, str]]:  # type: ignore[no-untyped-def]
    """The reason for which datatrove's block drops each text (None: stays), and the texts that stay."""
    from datatrove.data import Document

    reasons: list[str | None] = []
    kept = {}
    for number, text in enumerate(texts):
        document = Document(text=text, id=f"d{number}")
        result = block.filter(document)
        stays, reason = result if isinstance(result, tuple) else (result, "dropped")
        reasons.append(None if stays else reason)
        if stays:
            kept[document.id] = document.text
    return reasons, kept


@contextmanager
def same_words(documents: Batch) -> Iterator[None]:
    """datatrove's filters see our words meanwhile: what then differs is the rule, not the tokenizer."""
    found = documents.index
    known = {}
    for row, text in enumerate(documents.texts.to_pylist()):
        raw = text.encode()
        span = slice(found.words.first[row], found.words.first[row + 1])
        known[text] = [
            raw[start:end].decode() for start, end in zip(found.words.start[span], found.words.end[span], strict=True)
        ]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
            patch.setattr(f"datatrove.pipeline.filters.{module}.split_into_words", lambda text, language: known[text])
        yield


@cache
def with_their_words(texts: tuple[str, ...]) -> Batch:
    """The texts as documents with datatrove's words in place of ours."""
    from datatrove.utils.text import split_into_words
    from datatrove.utils.typeshelper import Languages

    first, starts, ends = [0], [], []
    for text in texts:
        raw, at = text.encode(), 0
        for word in split_into_words(text, Languages.english):
            at = raw.index(word.encode(), at)
            starts.append(at)
            at += len(word.encode())
            ends.append(at)
        first.append(len(starts))
    documents = batch(texts)
    return Batch(documents.data, TextIndex.of(documents.texts, (np.array(first), np.array(starts), np.array(ends))))


QUALITY = {
    "gopher_short_doc": "min_words",
    "gopher_long_doc": "max_words",
    "gopher_below_avg_threshold": "min_mean_word_length",
    "gopher_above_avg_threshold": "max_mean_word_length",
    "gopher_too_many_hashes": "hash_to_words",
    "gopher_too_many_ellipsis": "ellipsis_to_words",
    "gopher_too_many_bullets": "bullet_lines",
    "gopher_too_many_end_ellipsis": "ellipsis_lines",
    "gopher_below_alpha_threshold": "min_alphabetic_words",
    "gopher_enough_stop_words": "min_stop_words",
}
REPETITION = {
    "empty": "empty",
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_chars",
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_chars",
    **{f"top_{n}_gram": f"top_{n}_gram_chars" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_gram_chars" for n in range(5, 11)},
}
FINEWEB = {
    "empty": "empty",
    "line_punct_ratio": "min_terminal_punctuation_lines",
    "short_line_ratio": "short_lines",
    "char_dup_ratio": "duplicate_line_chars",
    "list_ratio": "newlines_to_words",
}
C4_PAGES = {"too_few_sentences": "sentences", "lorem_ipsum": "lorem_ipsum", "curly_bracket": "curly_bracket"}
FAMILIES = {
    "gopher_quality": (GopherQuality, GopherQualityFilter, QUALITY),
    "gopher_repetition": (GopherRepetition, GopherRepetitionFilter, REPETITION),
    "fineweb": (FineWeb, FineWebQualityFilter, FINEWEB),
}
AGREEMENT = {"gopher_quality": 0.99, "gopher_repetition": 0.99, "fineweb": 0.99, "c4": 0.99}
"""Smallest share of equal decisions on the real documents, each side with its own words."""
WITHOUT_WORDS = {"bullet_lines", "ellipsis_lines", "empty", "duplicate_lines", "duplicate_paragraphs",
                 "duplicate_line_chars", "duplicate_paragraph_chars", "min_terminal_punctuation_lines",
                 "short_lines"}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_given_the_same_words_every_decision_and_rule_is_the_same(family: str) -> None:
    step, block, names = FAMILIES[family]
    documents = batch(corpus())
    with same_words(documents):
        reasons, _ = theirs(block(), corpus())
    mine, _, _ = ours(step(), documents)
    wanted = [reason and names[reason] for reason in reasons]
    different = [
        (row, found, asked, corpus()[row][:80])
        for row, (found, asked) in enumerate(zip(mine, wanted, strict=True))
        if found != asked
    ]
    assert not different
    assert len(set(wanted) - {None}) >= 3, "the corpus must make several rules fire"


@pytest.mark.parametrize("family", FAMILIES)
def test_given_datatroves_words_every_decision_and_rule_is_datatroves(family: str) -> None:
    step, block, names = FAMILIES[family]
    reasons, _ = theirs(block(), corpus())
    mine, _, _ = ours(step(), with_their_words(corpus()))
    assert mine == [reason and names[reason] for reason in reasons]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_its_own_words_each_side_decides_the_same(family: str) -> None:
    step, block, names = FAMILIES[family]
    reasons, _ = theirs(block(), corpus())
    mine, _, _ = ours(step(), batch(corpus()))
    wanted = [reason and names[reason] for reason in reasons]
    rows = [row for row, (found, asked) in enumerate(zip(mine, wanted, strict=True)) if found != asked]
    decisions = [row for row in rows if (mine[row] is None) != (wanted[row] is None)]
    agreement = 1 - len(decisions) / len(mine)
    print(
        f"{family}: {len(mine)} documents, decisions {agreement:.4f}, decision and rule {1 - len(rows) / len(mine):.4f}"
    )
    for row in rows:
        print(f"  d{row} ours {mine[row]} datatrove {wanted[row]}: {corpus()[row][:60]!r}")
        # Only a rule that counts words can see another tokenizer.
        assert {mine[row], wanted[row]} - WITHOUT_WORDS - {None}
    if len(mine) > len(BUILT_IN):
        assert agreement >= AGREEMENT[family]


@pytest.mark.parametrize("terminal_punctuation", [True, False])
def test_given_datatroves_words_c4_is_datatroves(terminal_punctuation: bool) -> None:
    reasons, their_texts = theirs(C4QualityFilter(filter_no_terminal_punct=terminal_punctuation), corpus())
    mine, my_texts, signals = ours(C4(terminal_punctuation=terminal_punctuation), with_their_words(corpus()))
    assert my_texts == their_texts
    both = (signals["c4.lorem_ipsum"] > 0) & (signals["c4.curly_bracket"] > 0)  # datatrove names the first
    for found, reason, either in zip(mine, reasons, both, strict=True):
        assert found == (reason and ("lorem_ipsum" if either else C4_PAGES[reason]))
    assert signals["c4.citations"].sum() > 0, "the corpus must have citations, whose lines get other words"


@pytest.mark.parametrize("terminal_punctuation", [True, False])
def test_c4_decides_and_edits_as_datatrove(terminal_punctuation: bool) -> None:
    reasons, their_texts = theirs(C4QualityFilter(filter_no_terminal_punct=terminal_punctuation), corpus())
    mine, my_texts, signals = ours(C4(terminal_punctuation=terminal_punctuation), batch(corpus()))
    wanted = [reason and C4_PAGES[reason] for reason in reasons]
    both = my_texts.keys() & their_texts.keys()
    assert [key for key in both if my_texts[key] != their_texts[key]] == []
    rows = [row for row, (found, asked) in enumerate(zip(mine, wanted, strict=True)) if found != asked]
    for row in rows:
        sentences = signals["c4.sentences"][row]
        print(f"  d{row} ours {mine[row]} ({sentences} sentences) datatrove {wanted[row]}: {corpus()[row][:60]!r}")
        if {mine[row], wanted[row]} == {"lorem_ipsum", "curly_bracket"}:
            continue  # both are there: datatrove names the first, we name lorem ipsum
        assert {mine[row], wanted[row]} == {None, "sentences"}  # other words
    decisions = [row for row in rows if (mine[row] is None) != (wanted[row] is None)]
    print(f"c4({terminal_punctuation}): decisions {1 - len(decisions) / len(mine):.4f}, {len(both)} equal texts")
    if len(mine) > len(BUILT_IN):
        assert 1 - len(decisions) / len(mine) >= AGREEMENT["c4"]


def test_switched_off_rules_are_datatroves_too() -> None:
    quality = GopherQuality(min_words=None, max_mean_word_length=None, min_stop_words=None)
    block = GopherQualityFilter(min_doc_words=None, max_avg_word_length=None, min_stop_words=None)
    texts = tuple(text for text in corpus() if re.search(r"\w", text))
    documents = batch(texts)
    with same_words(documents):
        reasons, _ = theirs(block, texts)
    mine, _, _ = ours(quality, documents)
    assert mine == [reason and QUALITY[reason] for reason in reasons]


def test_c4_without_any_rule_keeps_every_line() -> None:
    step = C4(terminal_punctuation=False, min_words_per_line=None, max_word_length=None, min_sentences=None,
              lorem_ipsum=False, curly_bracket=False, javascript=False, policy=False, citations=False)  # fmt: skip
    mine, texts, _ = ours(step, batch(corpus()))
    assert set(mine) == {None}
    wanted = ["\n".join(line.strip() for line in text.splitlines()).strip() for text in corpus()]
    assert list(texts.values()) == wanted
