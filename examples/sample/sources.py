"""Source documents of the sample crawl: which text may ship, how it is split by work, and its parse into blocks.

A document is a title and a list of blocks `(kind, text)` with kind in {"h", "p", "li", "pre"}; markup is gone.
Every *work* (a book, a textbook, a question, an article) plays exactly one role: `crawl`, `junk` (raw material for spun
text), `heldout` or `positives`, chosen by a hash of the work, so no work is seen on two sides.
Only rows whose licence is in ALLOWED_LICENSES are read.
"""

import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

Block = tuple[str, str]
Parser = Callable[[str], Iterator[Block]]

ALLOWED_LICENSES = frozenset(
    {
        "public-domain",
        "public-domain OR CC0-1.0",
        "CC0-1.0 (US Gov public domain)",
        "CC0-1.0 / public domain",
        "public-domain (amtliches Werk, §5 UrhG)/Unlicense",
        "Unlicense",
        "CC-BY-4.0",
        "CC-BY (PMC OA articles)",
        "CC-BY-SA-4.0",
        "CC-BY-SA-3.0/4.0",
        "BSD-3-Clause",
        "Apache-2.0",
        "MIT",
        "MIT OR Apache-2.0",
    }
)
PUBLIC_DOMAIN = frozenset(
    {
        "public-domain",
        "public-domain OR CC0-1.0",
        "CC0-1.0 (US Gov public domain)",
        "CC0-1.0 / public domain",
        "Unlicense",
    }
)

# role shares in percent of works, by pool: (heldout, positives, junk); the rest is crawl
ROLE_SHARES = {
    "books": (5, 6, 24),
    "docs_peps": (8, 6, 0),
    "docs_misc": (0, 8, 0),
    "qa_stackexchange": (6, 8, 0),
    "wiki_en": (8, 7, 0),
    "factbook": (0, 3, 0),
    "sci_abstracts": (0, 10, 0),
    "dialogue_self": (0, 2, 40),
    "instruct": (0, 100, 0),
}
# textbooks are few and long: whole books by name
TEXTBOOK_ROLES = {"introduction-philosophy": "heldout", "introduction-sociology": "positives"}


@dataclass(frozen=True)
class Doc:
    """One source document that may ship."""

    id: str
    pool: str
    """File of the text folder that it comes from."""
    work: str
    """What must not be split between roles: a book, a question, an article."""
    title: str
    url: str
    lang: str
    source: str
    license: str
    blocks: tuple[Block, ...]
    topic: str = ""

    @property
    def text(self) -> str:
        return blocks_text(self.blocks)

    @property
    def size(self) -> int:
        return sum(len(text) for _, text in self.blocks)


def digest(*parts: object) -> int:
    """A stable 64-bit number of its parts."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


def blocks_text(blocks: tuple[Block, ...] | list[Block]) -> str:
    """Clean text: paragraphs apart by an empty line, list items by a newline."""
    out: list[str] = []
    previous = ""
    for kind, text in blocks:
        line = f"- {text}" if kind == "li" else text
        out.append(line if not out else ("\n" if kind == previous == "li" else "\n\n") + line)
        previous = kind
    return "".join(out)


def role_of(doc: Doc) -> str:
    """crawl, junk, heldout or positives: a function of the work alone."""
    if doc.pool == "textbooks":
        return TEXTBOOK_ROLES.get(doc.work, "crawl")
    if "rust-lang/book" in doc.source:
        return "heldout"
    heldout, positives, junk = ROLE_SHARES.get(doc.pool, (0, 0, 0))
    ticket = digest("role", doc.pool, doc.work) % 100
    if ticket < heldout:
        return "heldout"
    if ticket < heldout + positives:
        return "positives"
    return "junk" if ticket < heldout + positives + junk else "crawl"


def load(text_folder: Path) -> dict[str, list[Doc]]:
    """All shippable documents by pool, each list in a hashed (not the file's) order."""
    pools: dict[str, list[Doc]] = {}
    for pool, parse in PARSERS.items():
        docs = [doc for doc in _rows(text_folder / f"{pool}.parquet", pool, parse) if doc.blocks]
        unique = {doc.id: doc for doc in docs}
        pools[pool] = sorted(unique.values(), key=lambda doc: digest("order", doc.id))
    return pools


def _rows(path: Path, pool: str, parse: Parser) -> Iterator[Doc]:
    for row in pq.read_table(path).to_pylist():
        meta = json.loads(row["meta"] or "{}")
        if row["license"] not in ALLOWED_LICENSES or not _wanted(pool, row, meta):
            continue
        blocks = tuple((kind, text) for kind, text in parse(row["text"]) if text.strip())
        yield Doc(
            id=row["id"],
            pool=pool,
            work=_work(pool, row, meta),
            title=_title(pool, row, meta, blocks),
            url=row["url"] or _fallback_url(row, meta),
            lang=row["lang"],
            source=row["source"],
            license=row["license"],
            blocks=blocks,
            topic=str(meta.get("topic") or meta.get("site") or meta.get("page") or meta.get("book") or ""),
        )


def _wanted(pool: str, row: dict[str, str], meta: dict[str, str]) -> bool:
    if pool == "sci_abstracts":  # abstracts of other papers belong to their authors; CRAFT's articles are CC-BY
        return row["source"].startswith("github:UCDenver-ccp/CRAFT")
    if pool == "multi_osguide":
        return row["lang"] != "en"
    if pool == "instruct":  # only what people wrote
        return row["license"] in ("MIT", "Apache-2.0")
    return True


def _work(pool: str, row: dict[str, str], meta: dict[str, str]) -> str:
    if pool in ("books", "textbooks"):
        return meta["book"]
    if pool == "docs_powershell_versions":
        return meta["page"]
    if pool == "qa_stackexchange":
        return (row["title"] or row["id"]).casefold()
    return row["id"]


def _title(pool: str, row: dict[str, str], meta: dict[str, str], blocks: tuple[Block, ...]) -> str:
    title = row["title"] or ""
    if pool == "docs_peps":
        number = re.search(r"pep-0*(\d+)", title)
        heading = re.search(r"^Title: (.+)$", row["text"], re.M)
        return f"PEP {number[1] if number else '?'} – {heading[1] if heading else title}"
    if pool == "laws_de" and blocks:
        return blocks[0][1]
    if pool == "dialogue_self":
        return f"Talk about {title.replace('_', ' ')}"
    return title or row["id"]


def _fallback_url(row: dict[str, str], meta: dict[str, str]) -> str:
    repository = row["source"].removeprefix("github:").partition("@")[0]
    return f"https://github.com/{repository}" + (f"/blob/HEAD/{meta['path']}" if "path" in meta else "")


# --- parsers: source text to blocks -------------------------------------------------------------------------------

_LINK = re.compile(r"!?\[([^\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)|\[([^\]\n]+)\]\[[^\]\n]*\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,300}>|<!--.*?-->", re.S)
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|__|\*|_)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_RST_ROLE = re.compile(r":[a-z:+-]+:`~?!?([^`<]+?)(?:\s*<[^`]*>)?`|`([^`<\n]+?)(?:\s*<[^`]*>)?`__?")


def _clean(text: str) -> str:
    text = _LINK.sub(lambda m: m[1] if m[1] is not None else m[2], text)
    text = _EMPHASIS.sub(r"\2", _TAG.sub("", text))
    return html.unescape(" ".join(text.replace("`", "").split()))


def parse_markdown(text: str) -> Iterator[Block]:
    """Markdown (books, manuals, laws): fences to "pre", `#` to "h", bullets to "li", hard-wrapped lines joined."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    for index, part in enumerate(re.split(r"^ {0,3}(?:```|~~~).*$", text, flags=re.M)):
        if index % 2:
            if part.strip():
                yield "pre", part.strip("\n")
            continue
        for chunk in re.split(r"\n\s*\n", part):
            if chunk.strip():
                yield from _markdown_chunk(chunk)


def _markdown_chunk(chunk: str) -> Iterator[Block]:
    kind, lines = "p", list[str]()
    for line in chunk.splitlines():
        bullet = re.match(r"\s*(?:[-*+]|\d+[.)])\s+(?=\S)", line)
        heading = re.match(r"\s{0,3}#{1,6}\s+", line)
        if bullet or heading:
            if lines:
                yield kind, _clean("\n".join(lines))
            kind, lines = ("li" if bullet else "h"), [line[(bullet or heading).end() :]]  # type: ignore[union-attr]
            if heading:
                yield kind, _clean(lines[0])
                kind, lines = "p", []
        elif re.fullmatch(r"\s*([-*_=]\s*){3,}|\s*\|?[-:| ]+\|[-:| ]*|\s*\[[^\]]+\]:\s.*|\s*:::.*", line):
            continue
        else:
            lines.append(re.sub(r"^\s*(?:>\s?)+(?:\[!\w+\])?|^:\s+", "", line).replace("|", " "))
    if lines:
        yield kind, _clean("\n".join(lines))


def parse_rst(text: str) -> Iterator[Block]:
    """PEPs: the mail-like header, directives, references and the copyright section are left out."""
    body = text.partition("\n\n")[2]
    body = re.split(r"^(?:Copyright|References|Footnotes)\n=+\s*$", body, flags=re.M)[0]
    after_colons = False
    for chunk in re.split(r"\n\s*\n", body):
        lines = chunk.strip("\n").splitlines()
        if not chunk.strip() or chunk.lstrip().startswith(".. "):
            continue
        underlined = len(lines) >= 2 and re.fullmatch(r"([=\-~^'\"#*+.])\1{2,}\s*", lines[1].strip() or "x")
        indented = all(line.startswith((" ", "\t")) or not line for line in lines)
        if underlined:
            yield "h", _rst_clean(lines[0])
            if len(lines) > 2:
                yield "p", _rst_clean("\n".join(lines[2:]))
            after_colons = False
        elif indented and after_colons:
            yield "pre", chunk.strip("\n")
        else:
            after_colons = chunk.rstrip().endswith("::")
            for piece in re.split(r"\n(?=\s*(?:[-*]|\d+\.)\s)", chunk):
                bullet = re.match(r"\s*(?:[-*]|\d+\.)\s+", piece)
                yield ("li", _rst_clean(piece[bullet.end() :])) if bullet else ("p", _rst_clean(piece))


def _rst_clean(text: str) -> str:
    text = re.sub(r":(pep|rfc):`", lambda m: f"{m[1].upper()} `", text)
    text = _RST_ROLE.sub(lambda m: m[1] or m[2], text).replace("`", "")
    text = re.sub(r"\s*\[[\w#.*-]+\]_", "", text).replace("``", "")
    return " ".join(re.sub(r"(?<!\w)(\*\*|\*)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text).replace("::", ":").split())


def parse_plain(text: str) -> Iterator[Block]:
    """Paragraphs apart by empty lines; a short line without an end mark is a heading (textbooks, articles)."""
    for chunk in re.split(r"\n\s*\n", text):
        chunk = " ".join(chunk.split())
        if chunk.startswith("- "):
            yield "li", chunk[2:]
        elif len(chunk) < 70 and not re.search(r"[.?!:;,\"”)]$", chunk):
            yield "h", chunk
        else:
            yield "p", chunk


def parse_textbook(text: str) -> Iterator[Block]:
    """Plain text without the formula that opens each section of every book: it would tie held-out text to the crawl."""
    for kind, chunk in parse_plain(text):
        if not re.match(
            r"(Learning|Chapter) (Outcomes|Objectives)|(By the end of|After|In) this (section|chapter)", chunk
        ):
            yield kind, chunk


def parse_factbook(text: str) -> Iterator[Block]:
    """Sections of `key: value` lines, gathered into paragraphs of some 300 characters."""
    for section in text.split("\n\n"):
        lines = [" ".join(line.split()) for line in section.splitlines() if line.strip()]
        if len(lines) == 1 and ":" not in lines[0]:
            yield "h", lines[0]
            continue
        gathered = ""
        for line in lines:
            gathered = f"{gathered} {line.rstrip(';.')}.".strip()
            if len(gathered) > 300:
                yield "p", gathered
                gathered = ""
        if gathered:
            yield "p", gathered


def parse_turns(text: str) -> Iterator[Block]:
    """Dialogues: one paragraph a turn, the speaker's letter left out."""
    for line in text.splitlines():
        yield "p", re.sub(r"^[AB]: ", "", line).strip()


def parse_qa(text: str) -> Iterator[Block]:
    """`Q: title`, question, `A: ` answers: the marks become headings."""
    for chunk in re.split(r"\n\s*\n", text):
        if chunk.startswith("Q: "):
            continue  # the title; it stands in the page's heading
        if chunk.startswith("A: "):
            yield "h", "Answer"
            chunk = chunk[3:]
        yield from _markdown_chunk(chunk)


PARSERS: dict[str, Parser] = {
    "books": parse_markdown,
    "textbooks": parse_textbook,
    "docs_peps": parse_rst,
    "docs_misc": parse_markdown,
    "docs_powershell_versions": parse_markdown,
    "qa_stackexchange": parse_qa,
    "wiki_en": parse_plain,
    "factbook": parse_factbook,
    "sci_abstracts": parse_plain,
    "dialogue_self": parse_turns,
    "instruct": parse_markdown,
    "wiki_fr": parse_plain,
    "wiki_es": parse_plain,
    "laws_de": parse_markdown,
    "multi_osguide": parse_markdown,
}
