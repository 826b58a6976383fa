"""Documents on the page: what rules dropped, and duplicates beside their survivors with the differing words marked.

All of it is page text: hostile, escaped, cut to a length, in boxes that scroll. Addresses are text, never links.
"""

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

from curate.report.content import DatasetContent, DuplicateContent
from curate.report.elements import aside, code, folded
from curate.report.markup import Html, join, shortened, tag
from curate.report.numbers import brief, count, digits
from curate.report.sharing import shared, where

SHOWN_ID, SHOWN_URL, SHOWN_TEXT = 80, 160, 600
MOST_RULES = 60


def samples(datasets: Sequence[DatasetContent]) -> Html | None:
    """Dropped and failed documents, folded away by rule."""
    counts: dict[str, int] = {}
    for dataset in datasets:
        for step in dataset.funnel:
            for rule, held in step["rules"].items():
                counts[rule] = max(counts.get(rule, 0), held)
    blocks = [
        folded(_title(rule, counts.get(rule), where(names, datasets)), tag("div.cards", [_card(each) for each in some]))
        for rule, some, names in shared({each.name: each.samples for each in datasets}, most=MOST_RULES)
        if some
    ]
    return join(blocks) if blocks else None


def _title(rule: str, documents: int | None, place: str) -> Html:
    words = [f"{count(documents)} documents" if documents else "", place]
    return join([tag("b", shortened(rule, 80)), aside(" ", " · ".join(filter(None, words)))])


def _card(sample: dict[str, Any]) -> Html:
    value, threshold = sample.get("value"), sample.get("threshold")
    bound = f", threshold {brief(threshold)}" if threshold is not None else ""
    return tag(
        "div.card",
        _address(sample.get("url"), sample.get("id")),
        tag("p.measured", f"measured {_exact(value)}{bound}") if value is not None and math.isfinite(value) else None,
        tag("p.error", shortened(sample["error"], SHOWN_TEXT)) if sample.get("error") else None,
        _text(shortened(sample.get("text") or "", SHOWN_TEXT)),
    )


def _exact(value: float) -> str:
    return brief(value) if value == round(value) else digits(value, 4)


def _address(url: str | None, name: str | None) -> Html:
    shown = [shortened(url, SHOWN_URL), tag("br")] if url else None
    return tag("p.address", shown, code(name or "no id", SHOWN_ID))


def _text(content: object) -> Html:
    return tag("pre.text", content, attributes={"dir": "auto"})


def duplicates(datasets: Sequence[DatasetContent]) -> Html | None:
    """Removed and kept side by side, folded away."""
    found: dict[DuplicateContent, list[str]] = {}
    for dataset in datasets:
        for example in dataset.duplicates:
            found.setdefault(example, []).append(dataset.name)
    blocks = [_pair(example, where(names, datasets)) for example, names in found.items()]
    return join(blocks) if blocks else None


def _pair(example: DuplicateContent, place: str) -> Html:
    removed, kept = marked(example.text, example.survivor_text)
    if not example.survivor_text:
        kept = aside("The survivor's text is not in the stage before.")
    alike = f"similarity {digits(example.similarity, 3)}" if example.similarity is not None else "duplicate"
    title = [tag("b", alike), " ", shortened(example.url or example.id, 100), aside(f" · {place}") if place else None]
    left = tag("div.card", tag("p.side", "removed"), _address(example.url, example.id), _text(removed))
    survivor = _address(example.survivor_url, example.survivor_id)
    return folded(title, tag("div.pair", left, tag("div.card", tag("p.side", "kept"), survivor, _text(kept))))


_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def marked(first: str, second: str) -> tuple[Html, Html]:
    """Both texts with the words marked that the other does not have at that place; not where an excerpt just ends."""
    one, two = _WORD.findall(first), _WORD.findall(second)
    operations = difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes()
    compared = [place for place, (what, a, b, *_) in enumerate(operations) if what == "equal" and b - a > 2]
    end = compared[-1] if compared else 0
    left: list[object] = []
    right: list[object] = []
    for place, (what, a, b, c, d) in enumerate(operations):
        for text, into, whole in (("".join(one[a:b]), left, first), ("".join(two[c:d]), right, second)):
            cut_off = place > end and whole.endswith("…")
            if text:
                into.append(text if what == "equal" or cut_off or text.isspace() else tag("mark", text))
    return join(left), join(right)
