"""Exact deduplication by text and by address, and what counts as the same."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pytest

from curate.dedup.exact import Exact
from curate.dedup.keep import Keep
from curate.dedup.normalise import normalised_texts, normalised_urls
from curate.documents import DOCUMENT_SCHEMA, PAGE_SCHEMA, Batch
from curate.errors import InputError, MismatchError


def documents(rows: Sequence[Mapping[str, object]], schema: pa.Schema = DOCUMENT_SCHEMA) -> Batch:
    return Batch(pa.RecordBatch.from_pylist(rows, schema=schema))


SAME_TEXTS = [
    ("Hello world", "hello\u00a0 WORLD\n"),
    ("caf\u00e9", "cafe\u0301"),
    ("a\tb\r\nc", " a b c "),
    ("", " \n\t"),
]
OTHER_TEXTS = [("Hello, world", "Hello world"), ("ab", "a b"), ("1", "2"), ("?", "!"), ("x\u00b2", "x2")]


@pytest.mark.parametrize(("one", "other"), SAME_TEXTS)
def test_case_space_and_unicode_forms_do_not_count(one: str, other: str) -> None:
    a, b = normalised_texts(pa.array([one, other])).to_pylist()
    assert a == b


@pytest.mark.parametrize(("one", "other"), OTHER_TEXTS)
def test_words_and_punctuation_count(one: str, other: str) -> None:
    a, b = normalised_texts(pa.array([one, other])).to_pylist()
    assert a != b


SAME_URLS = [
    ("https://www.Example.org/a/?utm_source=x&b=1#top", "http://example.org/a?b=1"),
    ("HTTP://e.org:80/", "//e.org"),
    ("https://e.org/p?fbclid=1", "https://e.org/p"),
    ("https://e.org/p?gclid=1&q=2&utm_medium=m&msclkid=9", "https://e.org/p?q=2"),
    ("https://user:secret@e.org/p", "https://e.org/p"),
    (" https://e.org/p// ", "https://e.org/p"),
]
OTHER_URLS = [
    ("https://e.org/A", "https://e.org/a"),
    ("https://e.org/p?id=1", "https://e.org/p?id=2"),
    ("https://e.org/p?xutm_source=1", "https://e.org/p"),
    ("https://a.e.org/", "https://e.org/"),
    ("https://wwwe.org/", "https://e.org/"),
    ("https://e.org:8080/", "https://e.org/"),
    ("not an address", "another"),
]


@pytest.mark.parametrize(("one", "other"), SAME_URLS)
def test_scheme_tracking_fragment_and_trailing_slash_do_not_count(one: str, other: str) -> None:
    a, b = normalised_urls(pa.array([one, other])).to_pylist()
    assert a == b


@pytest.mark.parametrize(("one", "other"), OTHER_URLS)
def test_host_path_and_other_parameters_count(one: str, other: str) -> None:
    a, b = normalised_urls(pa.array([one, other])).to_pylist()
    assert a != b


def test_one_document_of_each_text_stays_across_parts() -> None:
    parts = [
        [documents([{"id": "c", "text": "Same  text"}, {"id": "b", "text": "other"}])],
        [],
        [documents([{"id": "a", "text": "same text"}, {"id": "d", "text": None}, {"id": "e", "text": ""}])],
    ]
    policies: list[tuple[Keep, str]] = [("first", "a"), ("longest", "c")]
    for keep, survivor in policies:
        step = Exact(keep=keep)
        state = step.reduce([step.map(iter(part)) for part in parts])
        assert state.summary["removed"] == 2
        outcomes = [next(step.apply(iter(parts[i]), state.parts[i])) for i in (0, 2)]
        kept = [row for outcome in outcomes for row in outcome.batch.data.to_pylist()]
        left = [row for outcome in outcomes for row in outcome.left.to_pylist()]
        assert sorted(row["id"] for row in kept) == sorted([survivor, "b", "d"])
        assert [row["exact.cluster_size"] for row in kept if row["id"] == survivor] == [2]
        assert sorted(row["survivor"] for row in left) == sorted([survivor, "d"])
        assert {(row["fate"], row["rule"], row["value"]) for row in left} == {("duplicate", "exact", 1.0)}


def test_pages_can_be_matched_by_address_before_they_are_extracted() -> None:
    urls = ["https://e.org/a", "http://www.e.org/a/", None, None, "", "https://e.org/b"]
    pages = [{"id": f"p{i}", "url": url, "content": b"x" * i} for i, url in enumerate(urls)]
    outcome = Exact(by="url", keep="longest").process(documents(pages, PAGE_SCHEMA))
    assert outcome.batch.ids.to_pylist() == ["p1", "p2", "p3", "p4", "p5"]
    assert outcome.left.column("survivor").to_pylist() == ["p1"]


def test_documents_without_addresses_are_refused() -> None:
    batch = Batch(documents([{"id": "a", "text": "x"}]).data.select(["id", "text"]))
    with pytest.raises(InputError, match="url"):
        Exact(by="url").process(batch)


def test_partials_by_text_and_by_address_do_not_mix() -> None:
    partial = Exact(by="url").map(iter([documents([{"id": "a", "text": "x"}])]))
    with pytest.raises(MismatchError, match="part 0"):
        Exact(by="text").reduce([partial])


COLUMNS = pa.schema(
    [
        *DOCUMENT_SCHEMA,
        pa.field("isbn", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("day", pa.date32()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)


def kept_by(columns: list[str], rows: list[dict[str, object]], schema: pa.Schema = COLUMNS) -> list[str]:
    batch = documents([{"id": f"d{i}"} | row for i, row in enumerate(rows)], schema)
    return Exact(by={"columns": columns}).process(batch).batch.ids.to_pylist()  # type: ignore[arg-type]


def test_documents_with_the_same_values_in_all_columns_are_the_same() -> None:
    rows: list[dict[str, object]] = [
        {"source": "a", "isbn": 1},
        {"source": "a", "isbn": 1},
        {"source": "a", "isbn": 2},
        {"source": "A", "isbn": 1},
        {"source": None, "isbn": 1},
        {"source": None, "isbn": 1},
        {"source": "a", "isbn": None},
        {"source": "", "isbn": 1},
        {"source": "", "isbn": 1},
    ]
    assert kept_by(["source", "isbn"], rows) == ["d0", "d2", "d3", "d4", "d5", "d6", "d7"]
    assert kept_by(["isbn", "source"], rows) == ["d0", "d2", "d3", "d4", "d5", "d6", "d7"]
    assert kept_by(["isbn"], rows) == ["d0", "d2", "d6"]
    assert kept_by(["source", "url"], [{"source": "ab", "url": "c"}, {"source": "a", "url": "bc"}]) == ["d0", "d1"]


def test_nothing_is_no_number_and_equals_nothing() -> None:
    scores = [float("nan"), float("nan"), 0.0, -0.0, 0.5]
    assert kept_by(["score"], [{"score": score} for score in scores]) == ["d0", "d1", "d2", "d4"]
    assert kept_by(["day"], [{"day": 1}, {"day": 1}, {"day": 2}]) == ["d0", "d2"]


def test_a_value_matches_its_own_type_only_over_parts_of_other_schemas() -> None:
    def part(kind: pa.DataType, value: object) -> list[Batch]:
        schema = pa.schema([pa.field("id", pa.string()), pa.field("text", pa.string()), pa.field("key", kind)])
        return [documents([{"id": str(kind), "text": "x", "key": value}], schema)]

    parts = [part(pa.int64(), 1), part(pa.int32(), 1), part(pa.string(), "1"), part(pa.float64(), 1.0)]
    step = Exact(by={"columns": ["key"]})  # type: ignore[arg-type]
    state = step.reduce([step.map(iter(own)) for own in parts])
    assert [told.column("survivor")[0].as_py() for told in state.parts] == ["int32", None, None, None]


def test_columns_that_are_not_there_or_cannot_be_compared_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"'isbm', which these documents do not have; they have id, text.*columns: {isbm: "
    ):
        kept_by(["isbm"], [{"isbn": 1}])
    with pytest.raises(InputError, match="'tags': it holds list"):
        kept_by(["tags"], [{"tags": ["x"]}])
    partial = Exact(by={"columns": ["isbn"]}).map(iter([documents([{"id": "a"}], COLUMNS)]))  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="part 0"):
        Exact(by={"columns": ["source"]}).reduce([partial])  # type: ignore[arg-type]
