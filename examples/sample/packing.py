"""WARC files from pages: one gzip member a record, stable ids and dates, digests, HTTP headers as a server sends them.

Record ids are uuid5 of (kind, URL), dates come from the URL's hash: the same pages make the same bytes (for one zlib).
"""

import base64
import gzip
import hashlib
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from examples.sample.sources import digest

_CRAWL_START = 1_719_792_000  # 2024-07-01
_CRAWL_SECONDS = 14 * 86400


@dataclass(frozen=True)
class Fetched:
    """One URL as the crawler saw it."""

    url: str
    body: bytes
    kind: str
    """What it is in truth: good, mirror, scraped, version, junk..., foreign, real, http."""
    detail: str = ""
    origin: str = ""
    """Id of the source document (empty for made-up text)."""
    license: str = ""
    content_type: str | None = "text/html; charset=utf-8"
    status: str = "200 OK"
    with_request: bool = False
    extra_headers: tuple[tuple[str, str], ...] = ()


def record_id(kind: str, url: str) -> str:
    """`<urn:uuid:...>`, a function of the record's kind and URL."""
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {url}')}>"


def _fetch_time(url: str) -> int:
    return _CRAWL_START + digest("time", url) % _CRAWL_SECONDS


def _warc_date(seconds: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def _record(headers: list[tuple[str, str]], block: bytes) -> bytes:
    headers = [*headers, ("WARC-Block-Digest", _sha1(block)), ("Content-Length", str(len(block)))]
    head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return gzip.compress(head.encode() + block + b"\r\n\r\n", 9, mtime=0)


def _http_head(page: Fetched) -> bytes:
    lines = [f"HTTP/1.1 {page.status}", f"Date: {formatdate(_fetch_time(page.url), usegmt=True)}", "Server: nginx"]
    if page.content_type is not None:
        lines.append(f"Content-Type: {page.content_type}")
    lines += [f"{name}: {value}" for name, value in page.extra_headers]
    lines.append(f"Content-Length: {len(page.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def pack(pages: list[Fetched], path: Path, *, seed: int) -> None:
    """Write `pages` in their order to one WARC.gz file, behind a warcinfo record."""
    info = (
        "software: curate examples/make_sample.py\r\nformat: WARC File Format 1.0\r\n"
        f"description: sample crawl made from open text (see NOTICE), seed {seed}\r\n"
    ).encode()
    name = path.name
    with path.open("wb") as out:
        out.write(
            _record(
                [
                    ("WARC-Type", "warcinfo"),
                    ("WARC-Record-ID", record_id("warcinfo", f"{name} {seed}")),
                    ("WARC-Date", _warc_date(_CRAWL_START)),
                    ("WARC-Filename", name),
                    ("Content-Type", "application/warc-fields"),
                ],
                info,
            )
        )
        for page in pages:
            date = _warc_date(_fetch_time(page.url))
            common = [("WARC-Target-URI", page.url), ("WARC-Date", date)]
            if page.with_request:
                _, _, rest = page.url.partition("://")
                host, _, target = rest.partition("/")
                request = f"GET /{target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sample-crawler/1.0\r\n\r\n".encode()
                out.write(
                    _record(
                        [
                            ("WARC-Type", "request"),
                            ("WARC-Record-ID", record_id("request", page.url)),
                            *common,
                            ("WARC-Concurrent-To", record_id("response", page.url)),
                            ("Content-Type", "application/http; msgtype=request"),
                        ],
                        request,
                    )
                )
            out.write(
                _record(
                    [
                        ("WARC-Type", "response"),
                        ("WARC-Record-ID", record_id("response", page.url)),
                        *common,
                        ("WARC-Payload-Digest", _sha1(page.body)),
                        ("Content-Type", "application/http; msgtype=response"),
                    ],
                    _http_head(page) + page.body,
                )
            )
