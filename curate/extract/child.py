"""The process that turns HTML into text, apart from its parent: native parsers can hang or crash on hostile pages.

Run as a script by `extract.sandbox`; imports nothing of curate, so that it starts in a tenth of a second. Protocol, on
stdin and stdout: a JSON line with the settings; then for each page a header of three lengths (charset, content, and
flags: 0) and these bytes; the answer is a status byte (`T` text, `E` error sentence), a length, and the bytes.
The CPU time of a page is limited by a timer whose signal ends the process, even inside native code.
"""

import json
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

REQUEST = struct.Struct("<II")
ANSWER = struct.Struct("<cI")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def decoded(content: bytes, charset: str) -> str:
    """The page as text: by byte-order mark, HTTP charset, meta element, detection; wrong bytes become U+FFFD."""
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        encoding: str | None = "utf-8" if content[0] == 0xEF else "utf-16"
    else:
        encoding = (charset and map_encoding_to_html5(charset, fallback_utf8=False)) or detect_encoding(
            content, html5_compatible=True, from_html_meta=True
        )
    try:
        text = content.decode(encoding or "utf-8", "replace")
    except LookupError:  # WHATWG knows encodings that Python does not
        text = content.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def normalised(text: str) -> str:
    """Text without controls (but tab and newline) and lone surrogates, with newlines as LF and no blank ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("", text)
    return text.encode("utf-8", "replace").decode().strip()


def resiliparse_engine(settings: dict[str, object]) -> Callable[[str], str]:
    """resiliparse with main content only, as DCLM: formatting kept, without links, forms and alternative texts."""
    from resiliparse.extract.html2text import extract_plain_text

    main_content = bool(settings["main_content"])

    def extract(html: str) -> str:
        return extract_plain_text(
            html,
            preserve_formatting=True,
            main_content=main_content,
            list_bullets=True,
            alt_texts=False,
            links=False,
            form_fields=False,
            noscript=False,
        )

    return extract


def trafilatura_engine(settings: dict[str, object]) -> Callable[[str], str]:
    """trafilatura as datatrove (and so FineWeb) calls it, but each page for itself.

    Its memory of repeated segments would make a page's text depend on the pages before it; it is emptied each time.
    """
    import trafilatura
    from trafilatura.deduplication import LRU_TEST

    favor, fallback = settings["favor"], bool(settings["fallback"])

    def extract(html: str) -> str:
        LRU_TEST.clear()
        text = trafilatura.extract(
            html,
            favor_precision=favor == "precision",
            favor_recall=favor == "recall",
            include_comments=False,
            deduplicate=True,
            fast=not fallback,
        )
        return text or ""

    return extract


ENGINES = {"resiliparse": resiliparse_engine, "trafilatura": trafilatura_engine}


def answer(content: bytes, charset: str, extract: Callable[[str], str]) -> tuple[bytes, bytes]:
    """The status byte and its bytes for one page."""
    try:
        return b"T", normalised(extract(decoded(content, charset))).encode()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of native code is no Exception
        return b"E", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".encode("utf-8", "replace")


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer pages until the parent closes the pipe."""
    settings = json.loads(source.readline())
    resource.setrlimit(resource.RLIMIT_AS, (settings["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    extract = ENGINES[settings["with"]](settings)
    extract("<html><body><p>The first page pays for imports.</p></body></html>")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    sink.write(ANSWER.pack(b"R", 0))
    sink.flush()
    while len(header := source.read(REQUEST.size)) == REQUEST.size:
        charset_bytes, content_bytes = REQUEST.unpack(header)
        charset = source.read(charset_bytes).decode("ascii", "replace")
        content = source.read(content_bytes)
        signal.setitimer(signal.ITIMER_PROF, settings["time_limit_s"])
        status, data = answer(content, charset, extract)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(ANSWER.pack(status, len(data)))
        sink.write(data)
        sink.flush()


if __name__ == "__main__":
    sys.path.pop(0)  # our own folder: its modules must not stand before the installed ones
    sys.setrecursionlimit(5000)
    serve(sys.stdin.buffer, sys.stdout.buffer)
