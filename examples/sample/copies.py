"""Copies as the web makes them: scraped pages with small edits (word-5-gram Jaccard .75 to .98)."""

import re
from random import Random

from examples.sample.sources import Block

_SWAPS = {
    "however": "but", "therefore": "so", "large": "big", "important": "key", "begin": "start", "often": "frequently",
    "show": "display", "small": "little", "also": "too", "because": "since", "many": "numerous", "use": "employ",
    "people": "folks", "very": "quite", "different": "various", "example": "instance", "help": "assist",
    "must": "should",
}  # fmt: skip
_TEASERS = (
    "This article first appeared elsewhere on the web.",
    "Read on to learn more about this fascinating topic.",
    "Scroll down for the full text, and do not forget to bookmark us.",
    "Our editors picked this story for you today.",
)


def scrape(blocks: tuple[Block, ...], rng: Random, *, strength: float) -> tuple[Block, ...]:
    """A scraper's copy: synonyms for some words, a sentence dropped here and there, a teaser put in.

    `strength` in 0..1 sets how much is touched: .1 leaves a Jaccard of about .97, 1 of about .8.
    """
    out: list[Block] = []
    for kind, text in blocks:
        if kind == "p":
            sentences = re.split(r"(?<=[.?!])\s+", text)
            if len(sentences) > 3 and rng.random() < 0.25 * strength:
                del sentences[rng.randrange(1, len(sentences))]
            text = re.sub(r"[a-z]+", lambda m: _swap(m[0], rng, strength), " ".join(sentences))
            if rng.random() < 0.06 * strength:
                text += " " + rng.choice(_TEASERS)
        out.append((kind, text))
    return tuple(out)


def _swap(word: str, rng: Random, strength: float) -> str:
    return _SWAPS[word] if word in _SWAPS and rng.random() < 0.7 * strength else word


def jaccard(a: str, b: str, n: int = 5) -> float:
    """Exact Jaccard of the sets of word n-grams."""
    grams = []
    for text in (a, b):
        words = re.findall(r"\w+", text.lower())
        grams.append({tuple(words[i : i + n]) for i in range(len(words) - n + 1)})
    return len(grams[0] & grams[1]) / max(1, len(grams[0] | grams[1]))
