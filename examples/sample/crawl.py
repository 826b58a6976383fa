"""The pages of the sample crawl: which documents, on which sites, in which copies, among how much junk.

BUDGETS are bytes of text (before templates) by kind; everything is drawn from `random.Random` seeded by name, and from
hashes of ids, so that the same sources and seed give the same crawl.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from itertools import cycle
from random import Random

from examples.sample import junk
from examples.sample.copies import scrape
from examples.sample.packing import Fetched
from examples.sample.sources import PUBLIC_DOMAIN, Block, Doc, digest, role_of
from examples.sample.templates import Page, Site, make_site, render

GOOD_BYTES = {
    "textbooks": 3_450_000,
    "books": 2_050_000,
    "docs_peps": 1_000_000,
    "docs_misc": 350_000,
    "qa_stackexchange": 950_000,
    "wiki_en": 600_000,
    "factbook": 120_000,
    "sci_abstracts": 200_000,
    "docs_powershell_versions": 100_000,
}
CHAT_BYTES = 120_000
COPY_BYTES = {"mirror": 500_000, "scraped": 750_000, "print": 220_000, "mobile": 180_000}
BLATANT_BYTES = 16_000_000
FLUENT_BYTES = {"spun": 950_000, "markov": 850_000, "search_prose": 550_000, "listicle": 350_000}
FOREIGN_BYTES = {"wiki_fr": 130_000, "wiki_es": 130_000, "laws_de": 180_000, "multi_osguide": 180_000}

SITE_TEMPLATES = {
    "textbooks": ("docs", "wiki", "blog", "news", "docs", "bare"),
    "books": ("bare", "portal", "blog", "portal", "wiki"),
    "docs_peps": ("docs", "bare", "blog"),
    "docs_misc": ("docs", "blog", "shop"),
    "qa_stackexchange": ("forum", "forum", "forum"),
    "wiki_en": ("wiki", "wiki", "mobile"),
    "factbook": ("wiki", "portal"),
    "sci_abstracts": ("news", "docs"),
    "docs_powershell_versions": ("docs",),
    "dialogue_self": ("forum", "forum"),
    "copies": ("blog", "news", "portal", "bare", "wiki", "docs"),
    "blatant": ("shop", "blog", "portal", "bare", "forum", "news", "shop", "blog", "mobile"),
    "fluent": ("blog", "news", "blog", "shop", "blog", "news", "bare"),
    "wiki_fr": ("wiki",),
    "wiki_es": ("wiki", "portal"),
    "laws_de": ("portal", "docs"),
    "multi_osguide": ("docs", "blog"),
}
MAX_PAGE_BYTES = 16_000
MIN_PAGE_BYTES = 4_000
LICENSE_LINKS = {
    "CC-BY-4.0": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "CC-BY (PMC OA articles)": ("CC BY", "https://creativecommons.org/licenses/by/2.0/"),
    "CC-BY-SA-4.0": ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "CC-BY-SA-3.0/4.0": ("CC BY-SA", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "BSD-3-Clause": ("BSD-3-Clause", "https://opensource.org/license/bsd-3-clause"),
    "Apache-2.0": ("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "MIT OR Apache-2.0": ("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
}
AUTHORS = ("R. Hale", "M. Ortiz", "the editors", "J. Lindqvist", "A. Novak", "T. Okafor", "staff writer", "webmaster")


@dataclass(frozen=True)
class Entry:
    """A page with what is true about it, before it is fetched."""

    site: Site
    page: Page
    kind: str
    detail: str
    origins: tuple[Doc, ...] = ()
    template: str | None = None

    @property
    def url(self) -> str:
        return f"{self.site.scheme}://{self.site.host}{self.page.path}"

    @property
    def size(self) -> int:
        return sum(len(text) for _, text in self.page.blocks)


class CrawlBuilder:
    """Makes the entries of a crawl; `scale` shrinks every budget (for tests)."""

    def __init__(self, pools: dict[str, list[Doc]], *, seed: int, scale: float = 1.0) -> None:
        self.pools, self.seed, self.scale = pools, seed, scale
        rng = Random(f"{seed}/sites")
        number = iter(range(1, 10_000))
        self.sites = {
            name: [
                make_site(rng, template, next(number), lang=_LANGS.get(name, "en"), charset=_CHARSETS.get(name))
                for template in templates
            ]
            for name, templates in SITE_TEMPLATES.items()
        }
        chat = [doc for doc in pools["dialogue_self"] if role_of(doc) == "junk"]
        self.remarks = [text for doc in chat[:400] for _, text in doc.blocks if 20 < len(text) < 160]

    def entries(self) -> list[Entry]:
        """All pages, in order of kind."""
        good = [entry for pool, budget in GOOD_BYTES.items() for entry in self.good(pool, budget)]
        chat = list(self.good("dialogue_self", CHAT_BYTES, kind="chat"))
        foreign = [entry for pool, budget in FOREIGN_BYTES.items() for entry in self.good(pool, budget, kind="foreign")]
        return [*good, *chat, *self.copies(good), *self.versions(good), *self.blatant(), *self.fluent(), *foreign]

    # --- real text ---------------------------------------------------------------------------------------------

    def good(self, pool: str, budget: int, kind: str = "good") -> Iterator[Entry]:
        """Pages of one pool up to its budget; short documents are gathered on one page."""
        docs = [doc for doc in self.pools[pool] if role_of(doc) == "crawl" and _wanted(doc)]
        titles = [doc.title for doc in docs[:300]]
        left = budget * self.scale
        sites = cycle(self.sites[pool])
        for group in _gather(docs):
            rng = Random(f"{self.seed}/{group[0].id}")
            site = next(sites)
            entry = Entry(site, self._page(group, site, titles, rng), kind, pool, tuple(group))
            yield entry
            left -= entry.size
            if left <= 0:
                return

    def _page(self, group: list[Doc], site: Site, titles: list[str], rng: Random) -> Page:
        if len(group) == 1:
            blocks, title, credit = _cut(group[0].blocks), group[0].title, _credit(group[0])
        else:
            blocks = tuple(block for doc in group for block in (_linked_heading(doc), *_cut(doc.blocks)))
            title = (
                f"{group[0].topic}: {group[0].title} to {group[-1].title}"
                if group[0].pool == "wiki_en"
                else group[0].title
            )
            credit = _credit(group[0], together=True)
        if blocks[0] == ("h", title):
            blocks = blocks[1:]
        comments = tuple(rng.sample(self.remarks, rng.randint(0, 4))) if site.template in ("blog", "forum") else ()
        return Page(
            title=title,
            blocks=blocks,
            path=f"/{_slug(title)}-{digest(group[0].id, site.host) % 10**6}.html",
            date=_date(rng),
            author=rng.choice(AUTHORS),
            credit=credit,
            comments=comments,
            related=tuple((f"/{_slug(t)}.html", t) for t in rng.sample(titles, min(4, len(titles)))),
        )

    # --- copies ------------------------------------------------------------------------------------------------

    def copies(self, good: list[Entry]) -> Iterator[Entry]:
        """Mirrors on other hosts, scraped copies with edits, print and mobile versions on the same host."""
        order = sorted(good, key=lambda entry: digest("copy", self.seed, entry.url))
        originals = cycle(order)
        sites = cycle(self.sites["copies"])
        for kind, budget in COPY_BYTES.items():
            left = budget * self.scale
            while left > 0:
                entry = next(originals)
                rng = Random(f"{self.seed}/{kind}/{entry.url}")
                for _ in range(rng.choice([1, 1, 1, 2, 4]) if kind in ("mirror", "scraped") else 1):
                    copy = self._copy(entry, kind, next(sites), rng)
                    yield copy
                    left -= copy.size

    def _copy(self, entry: Entry, kind: str, site: Site, rng: Random) -> Entry:
        page = entry.page
        if kind == "print":
            page = replace(page, path=page.path.replace(".html", "") + "?print=1")
            return replace(entry, page=page, kind=kind, template="printout")
        if kind == "mobile":
            page = replace(page, path="/m" + page.path)
            return replace(entry, page=page, kind=kind, template="mobile")
        page = replace(page, path=f"/{rng.randrange(10**7)}{page.path}", comments=())
        if kind == "scraped":
            credit = page.credit.replace("Source:", "Source, with changes:")
            page = replace(page, blocks=scrape(page.blocks, rng, strength=rng.uniform(0.1, 1)), credit=credit)
        return replace(entry, site=site, page=page, kind=kind)

    def versions(self, good: list[Entry]) -> Iterator[Entry]:
        """The other versions of the manual pages that are in the crawl."""
        taken = {entry.origins[0].work: entry for entry in good if entry.detail == "docs_powershell_versions"}
        used = {doc.id for entry in taken.values() for doc in entry.origins}
        for doc in self.pools["docs_powershell_versions"]:
            if doc.work in taken and doc.id not in used:
                entry = taken[doc.work]
                version = doc.url.split("/reference/")[1].split("/")[0]
                page = replace(
                    entry.page, blocks=_cut(doc.blocks), path=f"/{version}{entry.page.path}", credit=_credit(doc)
                )
                yield replace(entry, page=page, kind="version", origins=(doc,))

    # --- junk --------------------------------------------------------------------------------------------------

    def blatant(self) -> Iterator[Entry]:
        """Junk that breaks the published rules."""
        turns = self.remarks
        makers = {**junk.BLATANT, "one_liners": (lambda rng: junk.one_liners(rng, turns), 0.008)}
        for name, (maker, share) in makers.items():
            yield from self._junk("blatant", name, maker, BLATANT_BYTES * share)

    def fluent(self) -> Iterator[Entry]:
        """Junk that only a classifier can tell."""
        raw = [doc for doc in self.pools["books"] if role_of(doc) == "junk" and doc.size > 6000][:400]
        talk = [text for doc in self.pools["dialogue_self"] if role_of(doc) == "junk" for _, text in doc.blocks]
        chain = junk.Markov([doc.text for doc in raw[:40]] + talk[:4000])
        makers = {
            "spun": lambda rng: junk.spun(rng, raw),
            "markov": lambda rng: junk.markov(rng, chain),
            "search_prose": junk.search_prose,
            "listicle": junk.listicle,
        }
        for name, maker in makers.items():
            yield from self._junk("fluent", name, maker, FLUENT_BYTES[name])

    def _junk(self, kind: str, name: str, maker: junk.Maker, budget: float) -> Iterator[Entry]:
        rng = Random(f"{self.seed}/{name}")
        sites, left, number = cycle(self.sites[kind]), budget * self.scale, 0
        while left > 0:
            title, blocks = maker(rng)
            number += 1
            site = next(sites)
            page = Page(
                title=title,
                blocks=blocks,
                path=f"/{name[:1]}{number}/{_slug(title)}.html",
                date=_date(rng),
                author=rng.choice(AUTHORS),
                comments=tuple(rng.sample(self.remarks, rng.randint(0, 2))),
            )
            entry = Entry(site, page, kind, name)
            yield entry
            left -= max(entry.size, 200)


_LANGS = {"wiki_fr": "fr", "wiki_es": "es", "laws_de": "de", "multi_osguide": "mul"}
_CHARSETS = {"wiki_fr": "iso-8859-1", "wiki_es": "windows-1252", "laws_de": "iso-8859-1", "multi_osguide": "utf-8"}


def _wanted(doc: Doc) -> bool:
    if doc.pool == "multi_osguide" and doc.lang not in ("fr", "es", "de", "pt", "ja", "ru"):
        return False
    if doc.pool == "docs_powershell_versions":  # one version; the others come as its near duplicates
        return "/reference/7.6/" in doc.url
    return _like_prose(doc) or digest("odd one", doc.id) % 25 == 0


def _like_prose(doc: Doc) -> bool:
    """Whether the published heuristics would let the document pass, roughly.

    C4 drops a page with a curly bracket, Gopher one with many marks and numbers, FineWeb one with repeated lines: most
    of such documents are left out, or a crawl of this size would leave too little good text to train on.
    """
    texts = [text for _, text in _cut(doc.blocks)]
    tokens = re.findall(r"\w+|[^\w\s]", " ".join(texts))
    lettered = sum(any(c.isalpha() for c in token) for token in tokens)
    repeated = sum(map(len, texts)) - sum(map(len, set(texts)))
    return "{" not in "".join(texts) and lettered >= 0.82 * len(tokens) and repeated <= 0.008 * sum(map(len, texts))


def _gather(docs: list[Doc]) -> Iterator[list[Doc]]:
    """Long documents alone; short ones of one source and topic together until they fill a page."""
    waiting: dict[tuple[str, str], list[Doc]] = {}
    for doc in docs:
        if doc.size >= MIN_PAGE_BYTES:
            yield [doc]
            continue
        group = waiting.setdefault((doc.source, doc.topic), [])
        group.append(doc)
        if sum(member.size for member in group) >= 2.5 * MIN_PAGE_BYTES:
            yield waiting.pop((doc.source, doc.topic))


def _cut(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The first blocks up to MAX_PAGE_BYTES."""
    size, kept = 0, list[Block]()
    for kind, text in blocks:
        size += len(text)
        if size > MAX_PAGE_BYTES and kept:
            break
        kept.append((kind, text[:MAX_PAGE_BYTES]))
    return tuple(kept)


def _credit(doc: Doc, *, together: bool = False) -> str:
    if doc.license in PUBLIC_DOMAIN or doc.license not in LICENSE_LINKS:
        return ""
    name, link = LICENSE_LINKS[doc.license]
    source = "the pages linked above" if together else f'<a href="{escape(doc.url)}">{escape(doc.title)}</a>'
    return f'<p class="credit">Source: {source}, <a rel="license" href="{link}">{name}</a>.</p>'


def _linked_heading(doc: Doc) -> Block:
    return "html", f'<h2><a href="{escape(doc.url)}">{escape(doc.title)}</a></h2>'


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "page"


def _date(rng: Random) -> str:
    return f"{rng.randint(2012, 2024)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def fetch(entry: Entry) -> Fetched:
    """The response that the entry's site would give."""
    site = entry.site
    return Fetched(
        url=entry.url,
        body=render(site, entry.page, entry.template).encode(site.charset, "xmlcharrefreplace"),
        kind=entry.kind,
        detail=entry.detail,
        origin=";".join(doc.id for doc in entry.origins),
        license=entry.origins[0].license if entry.origins else "",
        content_type="text/html" if site.declares == "meta" else f"text/html; charset={site.charset}",
        with_request=digest("request", entry.url) % 25 == 0,
    )


def odd_records(seed: int) -> list[Fetched]:
    """What else a crawl holds: missing pages, redirects, robots.txt, a picture, a data file, an empty page."""
    rng = Random(f"{seed}/odd")
    pixel = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
    missing = (
        b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1><p>No such page.</p></body></html>"
    )
    robots = b"User-agent: *\nDisallow: /tmp/\n"
    out: list[Fetched] = []
    for i in range(24):
        host = f"https://odd{i}.example"
        out.append(
            [
                Fetched(f"{host}/gone.html", missing, "http", "404", status="404 Not Found", with_request=True),
                Fetched(
                    f"{host}/old", b"", "http", "301", status="301 Moved Permanently", content_type=None,
                    extra_headers=(("Location", f"{host}/new"),),
                ),
                Fetched(f"{host}/robots.txt", robots, "http", "text", content_type="text/plain"),
                Fetched(f"{host}/pixel.gif", pixel, "http", "image", content_type="image/gif"),
                Fetched(
                    f"{host}/api/items", b'{"items": [' + str(rng.randrange(10**6)).encode() + b"]}", "http", "json",
                    content_type="application/json",
                ),
                Fetched(f"{host}/empty.html", b"", "http", "empty"),
            ][i % 6]
        )  # fmt: skip
    return out
