"""Machine-made junk: what a crawl is full of. Each maker takes a random state and returns a title and blocks.

BLATANT junk breaks some rule of the published heuristics (repetition, symbols, short lines, no sentences, policy
phrases); FLUENT junk has normal words, lines and punctuation, so only a quality classifier can tell it: spun text with
a third of its words out of place, Markov text, search-engine prose, list pages. Raw text is public domain or BSD-3.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable
from random import Random

from examples.sample.phrases import (
    CLICKBAIT,
    LIST_ITEMS,
    LOREM,
    POLICY,
    SENTENCES,
    SHOUTS,
    SLOTS,
    TOPICS,
)
from examples.sample.sources import Block, Doc

Junk = tuple[str, tuple[Block, ...]]
Maker = Callable[[Random], Junk]


def _topic(rng: Random) -> str:
    return rng.choice(TOPICS)


def _fill(pattern: str, topic: str, rng: Random) -> str:
    def value(match: re.Match[str]) -> str:
        return topic if match[1] == "topic" else rng.choice(SLOTS[match[1]])

    text = re.sub(r"<(\w+)>", value, pattern)
    return text[0].upper() + text[1:]


# --- blatant -------------------------------------------------------------------------------------------------------


def keyword_spam(rng: Random) -> Junk:
    """Comma-separated search terms, over and over."""
    topic = _topic(rng)
    forms = [f"{a} {topic} {b}".strip() for a in SLOTS["adj"] for b in ("online", "near me", "deals", "")]
    lines = [", ".join(rng.choices(forms[:24], k=rng.randint(80, 160))) for _ in range(rng.randint(14, 26))]
    return f"{topic} - best {topic} - cheap {topic}", tuple(("p", line) for line in lines)


def product_list(rng: Random) -> Junk:
    """Short lines of models, prices, stock."""
    topic = _topic(rng)
    prices = [f"{rng.randint(5, 900)}.{rng.choice(['00', '49', '95', '99'])}" for _ in range(8)]
    adjectives = rng.sample(SLOTS["adj"], k=6)
    rows = [
        f"<tr><td>The {rng.choice(adjectives)} {topic} for your {rng.choice(SLOTS['noun'])}</td>"
        f"<td>${rng.choice(prices)}</td>"
        f"<td>{rng.choice(['In stock and ready to ship', 'Only 3 left', 'Sold out', 'Order now'])}</td>"
        "<td><a href='/cart'>Add to cart</a></td></tr>"
        for _ in range(rng.randint(300, 600))
    ]
    return f"{topic.title()} catalogue", (("html", "<table>" + "\n".join(rows) + "</table>"),)


def link_farm(rng: Random) -> Junk:
    """Hundreds of anchors."""
    items = [
        f"<a href='http://{rng.choice(SLOTS['adj'])}-{topic.replace(' ', '-')}.example/'>"
        f"{rng.choice(SLOTS['adj'])} {topic}</a>"
        for topic in rng.choices(TOPICS, k=rng.randint(150, 350))
    ]
    return "Partner links", (("html", "<p>" + "<br>\n".join(items) + "</p>"),)


def tag_cloud(rng: Random) -> Junk:
    """Words with counts."""
    words = rng.choices(TOPICS + SLOTS["adj"] + SLOTS["noun"], k=rng.randint(400, 900))
    return "All tags", (("p", " ".join(f"{word} ({rng.randint(1, 9)})" for word in words)),)


def calendar(rng: Random) -> Junk:
    """Months of numbers, or a table of readings."""
    year = rng.randint(1998, 2024)
    if rng.random() < 0.5:
        months = "January February March April May June July August September October November December".split()
        body = "\n".join(
            f"{month} {year}\nMo Tu We Th Fr Sa Su\n"
            + "\n".join(" ".join(f"{d:2d}" for d in range(w, min(w + 7, 31))) for w in range(1, 31, 7))
            for month in months
        )
        return f"Events calendar {year}", (("pre", body),)
    rows = "\n".join(" ".join(f"{rng.gauss(20, 4):.0f}.0" for _ in range(8)) for _ in range(rng.randint(60, 160)))
    return f"Station readings {year}", (("pre", rows),)


def log_dump(rng: Random) -> Junk:
    """Server log lines."""
    messages = (
        "the connection to the server was closed by the remote host after {n} seconds",
        "failed to read the file from the disk, trying again in {n} seconds",
        "request for the page was served from the cache in {n} ms",
        "user {n} has logged in from a new address",
        "could not find the requested page, sending {n} bytes",
    )
    lines, second = [], 0
    for _ in range(rng.randint(150, 350)):
        second += rng.randint(0, 40)
        lines.append(
            f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d} "
            f"{rng.choice(['INFO', 'WARN', 'ERROR'])} worker-{rng.randint(1, 4)}: "
            f"{rng.choice(messages).format(n=rng.randint(1, 99))}"
        )
    return "paste: untitled", (("pre", "\n".join(lines)),)


def lorem_ipsum(rng: Random) -> Junk:
    """A template that nobody filled in."""
    paragraphs = [" ".join(rng.sample(LOREM, k=rng.randint(4, len(LOREM)))) for _ in range(rng.randint(4, 12))]
    return "Sample page", (
        ("p", "Lorem ipsum dolor sit amet, consectetur adipiscing elit."),
        *(("p", p) for p in paragraphs),
    )


def script_error(rng: Random) -> Junk:
    """A page that needs a script to show anything."""
    lines = [
        "Please enable JavaScript to continue using this application.",
        "You need to enable JavaScript to run this app.",
        "Uncaught TypeError: Cannot read properties of undefined (reading 'map') at render (bundle.js:1:48231)",
        "Your browser is not supported. Please upgrade to a modern browser.",
    ]
    return "Loading...", tuple(("p", line) for line in rng.sample(lines, k=rng.randint(1, 4)))


def policy(rng: Random) -> Junk:
    """Terms, privacy and cookie policies: long, and nearly the same on every host."""
    company = f"{rng.choice(SLOTS['adj']).title()} {rng.choice(SLOTS['noun']).title()} Ltd"
    chosen = sorted(rng.sample(range(len(POLICY)), k=rng.randint(len(POLICY) - 4, len(POLICY))))
    return "Privacy and cookie policy", tuple(("p", POLICY[i].replace("<company>", company)) for i in chosen)


def repeated_lines(rng: Random) -> Junk:
    """A few sentences, many times."""
    topic = _topic(rng)
    lines = [_fill(rng.choice(SENTENCES), topic, rng) for _ in range(rng.randint(2, 5))]
    return f"{topic.title()} news", tuple(("p", rng.choice(lines)) for _ in range(rng.randint(250, 600)))


def boilerplate_only(rng: Random) -> Junk:
    """Nothing but furniture."""
    lines = [
        "Home",
        "Login",
        "Register",
        "Search",
        "Share on social media",
        "Read more...",
        "Next page",
        "Items in cart: 0",
        "Follow us",
    ]
    return "Page", tuple(("p", rng.choice(lines)) for _ in range(rng.randint(10, 40)))


def one_liners(rng: Random, turns: list[str]) -> Junk:
    """A thread of five-word posts."""
    short = [turn for turn in rng.sample(turns, k=min(1200, len(turns))) if len(turn) < 45]
    posts = short[: rng.randint(60, 160)]
    return f"Re: Re: {_topic(rng)}??", tuple(
        ("p", post.rstrip(".") + rng.choice(["", " lol", " :)", " +1", "!!!"])) for post in posts
    )


def shouting(rng: Random) -> Junk:
    """Advertisements in capitals."""
    topic = _topic(rng)
    lines = [_fill(rng.choice(SHOUTS), topic, rng).upper() for _ in range(rng.randint(60, 160))]
    return f"!!! {topic.upper()} !!!", tuple(("p", line) for line in lines)


def stub(rng: Random) -> Junk:
    """Coming soon."""
    lines = [
        "This page is under construction.",
        "Coming soon.",
        "No results found.",
        "Nothing here yet.",
        "Account suspended.",
        "It works!",
    ]
    return rng.choice(["Untitled", "Index of /", "Welcome"]), tuple(
        ("p", line) for line in rng.sample(lines, k=rng.randint(1, 2))
    )


# --- fluent --------------------------------------------------------------------------------------------------------


def spun(rng: Random, docs: list[Doc]) -> Junk:
    """Real sentences with 35% of their words out of place, and a search term now and then."""
    doc, topic = rng.choice(docs), _topic(rng)
    paragraphs = [text for kind, text in doc.blocks if kind == "p" and len(text) > 200]
    start = rng.randrange(max(1, len(paragraphs) - 20))
    blocks: list[Block] = []
    for text in paragraphs[start : start + rng.randint(14, 26)]:
        words = re.sub(r"[_*\"]", "", text).split()
        places = [i for i in range(len(words)) if rng.random() < 0.35]
        moved = places[:]
        rng.shuffle(moved)
        mixed = words[:]
        for place, source in zip(places, moved, strict=True):
            mixed[place] = _bare(words[source]) + words[place][len(_bare(words[place])) :]  # the marks stay in place
        for _ in range(len(words) // 25):
            mixed.insert(rng.randrange(len(mixed)), f"{rng.choice(SLOTS['adj'])} {topic}")
        blocks.append(("p", _as_sentence(" ".join(mixed))))
    return f"{rng.choice(SLOTS['adj']).title()} {topic}: {' '.join(blocks[0][1].split()[:6]) if blocks else ''}", tuple(
        blocks
    )


def _bare(word: str) -> str:
    return word.rstrip(".,;:?!") or word


def _as_sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in ".?!" else text.rstrip(",;:-") + "."


class Markov:
    """Word chains of order one over public-domain prose and dialogues, started and ended at sentence borders."""

    def __init__(self, texts: list[str]) -> None:
        chain: dict[str, list[str]] = defaultdict(list)
        for text in texts:
            words = ["^", *re.sub(r"[_*\"“”()\[\]{}]", "", text).split()]
            for a, b in itertools.pairwise(words):
                chain["^" if a[-1] in ".?!" else a].append(b)
        self.chain = dict(chain)

    def sentence(self, rng: Random) -> str:
        words: list[str] = []
        word = "^"
        while len(words) < 40 and word in self.chain:
            word = rng.choice(self.chain[word])
            words.append(word)
            if word[-1] in ".?!":
                break
        return _as_sentence(" ".join(words))


def markov(rng: Random, chain: Markov) -> Junk:
    """Markov paragraphs under a search term."""
    topic = _topic(rng)
    blocks: list[Block] = []
    for _ in range(rng.randint(16, 28)):
        sentences = [chain.sentence(rng) for _ in range(rng.randint(3, 7))]
        if rng.random() < 0.8:
            sentences.insert(rng.randrange(len(sentences)), _fill(rng.choice(SENTENCES), topic, rng))
        blocks.append(("p", " ".join(sentences)))
    return f"{rng.choice(SLOTS['adj']).title()} {topic} explained", tuple(blocks)


def search_prose(rng: Random) -> Junk:
    """Paragraphs that say nothing about a product, no sentence pattern twice on a page."""
    topic = _topic(rng)
    patterns = rng.sample(SENTENCES, k=rng.randint(40, len(SENTENCES)))
    blocks: list[Block] = []
    while patterns:
        if rng.random() < 0.2:
            blocks.append(
                ("h", _fill(rng.choice(["Why <topic>?", "<adj> <noun>", "Our <noun>", "What <who> say"]), topic, rng))
            )
        count = rng.randint(3, 6)
        blocks.append(("p", " ".join(_fill(pattern, topic, rng) for pattern in patterns[:count])))
        patterns = patterns[count:]
    return f"The ultimate guide to {rng.choice(SLOTS['adj'])} {topic} in {rng.randint(2015, 2024)}", tuple(blocks)


def listicle(rng: Random) -> Junk:
    """Seventeen reasons; number seven will surprise you."""
    topic = _topic(rng)
    patterns = rng.sample(LIST_ITEMS, k=len(LIST_ITEMS)) + rng.sample(SENTENCES, k=rng.randint(8, 20))
    blocks: list[Block] = [("p", " ".join(_fill(p, topic, rng) for p in rng.sample(CLICKBAIT, k=3)))]
    number = 0
    while patterns:
        number += 1
        blocks.append(("h", f"{number}. {_fill('<adj> <noun>', topic, rng)}"))
        count = rng.randint(2, 4)
        blocks.append(("p", " ".join(_fill(p, topic, rng) for p in patterns[:count])))
        patterns = patterns[count:]
    return f"{number} {rng.choice(SLOTS['adj'])} {topic} secrets experts do not want you to know", tuple(blocks)


BLATANT: dict[str, tuple[Maker, float]] = {
    # maker, share of the blatant junk's text
    "keyword_spam": (keyword_spam, 0.34),
    "product_list": (product_list, 0.12),
    "link_farm": (link_farm, 0.035),
    "tag_cloud": (tag_cloud, 0.012),
    "calendar": (calendar, 0.008),
    "log_dump": (log_dump, 0.12),
    "lorem_ipsum": (lorem_ipsum, 0.004),
    "script_error": (script_error, 0.0006),
    "policy": (policy, 0.0065),
    "repeated_lines": (repeated_lines, 0.36),
    "boilerplate_only": (boilerplate_only, 0.0005),
    "shouting": (shouting, 0.016),
    "stub": (stub, 0.0006),
}
