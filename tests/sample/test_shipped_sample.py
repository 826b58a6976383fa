"""Claims about the data that ships with the package; they need nothing beside the installed package."""

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from curate import sample

# what may ship: public domain, CC0, CC BY, CC BY-SA, permissive software licences
ALLOWED = re.compile(
    r"public-domain|CC0|CC-BY-4\.0$|CC-BY \(PMC OA articles\)$|CC-BY-SA-[234]|Unlicense$|BSD-3-Clause$|Apache-2\.0$"
    r"|MIT$|MIT OR Apache-2\.0$|US federal government work"
)
FORBIDDEN = re.compile(r"\bNC\b|-NC|\bND\b|-ND|GPL|research|Common Crawl|\(c\) its site", re.I)
GRAM = 13
Crawl = list[tuple[str, str, int, str | None, bytes]]
"""(record id, URL, status, content type, body) of responses."""


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def grams(text: str) -> set[int]:
    found = words(text)
    return {hash(tuple(found[i : i + GRAM])) for i in range(len(found) - GRAM + 1)}


def responses() -> Crawl:
    out: Crawl = []
    for path in sample.crawl():
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                assert isinstance(record, WarcRecord)
                head = record.http_headers
                body = record.reader.read()
                kind = dict(head.astuples()).get("Content-Type")
                uri = record.headers["WARC-Target-URI"]
                out.append((record.headers["WARC-Record-ID"], uri, int(head.status_code or 0), kind, body))
    return out


@pytest.fixture(scope="module")
def crawl() -> Crawl:
    return responses()


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, str]]:
    return {row["record_id"]: row for row in pq.read_table(sample.truth()).to_pylist()}


def page_text(body: bytes, *, main: bool = False) -> str:
    encoding = detect_encoding(body, html5_compatible=True)
    return extract_plain_text(
        HTMLTree.parse(bytes_to_str(body, encoding or "utf-8")), main_content=main, alt_texts=True
    )


def test_the_shipped_folder_is_5_to_10_megabytes() -> None:
    folder = sample.crawl_folder().parent
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert 5e6 < size < 10e6
    assert sample.truth().stat().st_size < 150_000


def test_every_record_has_the_length_and_the_digests_that_its_header_says() -> None:
    ids: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    assert len(sample.crawl()) == 8
    for path in sample.crawl():
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, parse_http=False):
                assert record.verify_block_digest(), f"{path.name}: {record.headers['WARC-Target-URI']}"
                block = record.reader.read()
                assert len(block) == int(record.headers["Content-Length"])
                ids[record.headers["WARC-Record-ID"]] += 1
                kinds[record.headers["WARC-Type"]] += 1
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                assert record.verify_payload_digest(), record.headers["WARC-Target-URI"]
    assert kinds["warcinfo"] == 8
    assert kinds["request"] > 20
    assert kinds["response"] > 1500
    assert max(ids.values()) == 1


def test_each_record_is_a_gzip_member_of_its_own() -> None:
    path = sample.crawl()[0]
    data = path.read_bytes()
    with path.open("rb") as stream:
        for record in ArchiveIterator(stream):
            assert data[record.stream_pos : record.stream_pos + 3] == b"\x1f\x8b\x08"


def test_the_crawl_holds_what_crawls_hold(crawl: Crawl) -> None:
    status = Counter(code for _, _, code, _, _ in crawl)
    types = Counter((content_type or "none").partition(";")[0] for *_, content_type, _ in crawl)
    assert status[404] and status[301]
    assert types["image/gif"] and types["application/json"] and types["text/plain"] and types["none"]
    assert any(content_type and "iso-8859-1" in content_type for *_, content_type, _ in crawl)
    assert any(kind == "text/html" and b"charset" in body[:600] for *_, kind, body in crawl)
    assert any(not body for *_, body in crawl)
    hosts = {url.split("/")[2] for _, url, *_ in crawl}
    assert sum(not host.endswith(".example") for host in hosts) <= 15


def test_truth_names_every_response_once(crawl: Crawl, truth: dict[str, dict[str, str]]) -> None:
    assert {record_id for record_id, *_ in crawl} == set(truth)
    assert {row["kind"] for row in truth.values()} == {
        *("good", "chat", "mirror", "scraped", "print", "mobile", "version"),
        *("blatant", "fluent", "foreign", "real", "http"),
    }
    for row in truth.values():
        made_up = row["kind"] in ("blatant", "fluent", "http")
        assert bool(row["origin"]) != made_up, row


def test_every_licence_may_ship(truth: dict[str, dict[str, str]]) -> None:
    tables = [*sample.heldout().values(), sample.positives()]
    licences = {row["license"] for row in truth.values() if row["origin"]}
    licences |= {licence for path in tables for licence in pq.read_table(path)["license"].to_pylist()}
    for licence in licences:
        assert ALLOWED.match(licence) and not FORBIDDEN.search(licence), licence


def test_notice_names_every_source_and_every_real_page(truth: dict[str, dict[str, str]]) -> None:
    notice = sample.notice().read_text(encoding="utf-8")
    for path in [*sample.heldout().values(), sample.positives()]:
        for source in set(pq.read_table(path)["source"].to_pylist()):
            assert source in notice
    for row in truth.values():
        if row["kind"] == "real":
            assert row["url"] in notice


def test_share_alike_pages_say_so(crawl: Crawl, truth: dict[str, dict[str, str]]) -> None:
    for record_id, url, _, _, body in crawl:
        if truth[record_id]["license"].startswith("CC-BY"):
            assert b"creativecommons.org/licenses/by" in body or b"Creative Commons license" in body, url


@pytest.mark.slow
def test_held_out_text_shares_no_13_gram_with_the_crawl_or_the_positives(
    crawl: Crawl,
) -> None:
    held: dict[int, str] = {}
    for kind, path in sample.heldout().items():
        for row in pq.read_table(path).to_pylist():
            held |= dict.fromkeys(grams(row["text"]), f"{kind}: {row['id']}")
    assert len(held) > 50_000
    for _, url, _, content_type, body in crawl:
        if body and "html" in (content_type or "html"):
            shared = grams(page_text(body)) & held.keys()
            assert not shared, f"{url} holds text of {held[shared.pop()]}"
    for row in pq.read_table(sample.positives()).to_pylist():
        assert not grams(row["text"]) & held.keys(), row["id"]


def test_held_out_tables_are_three_kinds_of_150_to_260_kilobytes() -> None:
    assert set(sample.heldout()) == {"prose", "reference", "technical"}
    for path in sample.heldout().values():
        texts = pq.read_table(path, columns=["id", "text"])["text"].to_pylist()
        assert 150_000 < sum(len(text.encode()) for text in texts) < 260_000
        assert all(text.strip() for text in texts)


def test_positives_are_not_only_instructions() -> None:
    table = pq.read_table(sample.positives()).to_pylist()
    size = Counter[str]()
    for row in table:
        size["gsm8k" if "grade-school-math" in row["source"] else "other"] += len(row["text"].encode())
    assert 400_000 < size.total() < 700_000
    assert size["gsm8k"] < 0.2 * size.total()


def test_the_main_text_of_good_pages_is_found_by_the_extractor(crawl: Crawl, truth: dict[str, dict[str, str]]) -> None:
    bodies = [body for record_id, *_, body in crawl if truth[record_id]["kind"] == "good"]
    found = [len(page_text(body, main=True)) / len(page_text(body)) for body in bodies]
    assert sum(share > 0.8 for share in found) > 0.85 * len(found)
    assert sum(share < 0.999 for share in found) > 0.5 * len(found)  # there is furniture to remove


def test_missing_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.errors import InputError

    monkeypatch.setattr(sample, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match=r"truth\.parquet: the sample data is missing"):
        sample.truth()
