"""`curate tune` on the terminal and as a page: a rule's histogram, what it drops, documents of each side.

Ids, addresses and texts come from data: on the terminal as `Text` with unseen characters made visible, never as markup.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curate.engine.signals import rule_facts
from curate.engine.tuning import Effect, Example, Tuned
from curate.report.documents_shown import Shown, document_lines, documents_table
from curate.report.elements import note
from curate.report.histograms import histogram_figure
from curate.report.markup import Html, join, shortened, tag
from curate.report.numbers import brief, count, digits, share, size
from curate.report.terminal import plain

BAR = 40
"""Characters of the longest bar."""
ROWS = 24
"""Rows of a histogram on the terminal, between those below and above the span."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def tuning_screen(tuned: Sequence[Tuned]) -> Group:
    """What `curate tune` prints."""
    return Group(*(_one(each) for each in tuned))


def _one(each: Tuned) -> Group:
    title = Text.assemble(plain(each.rule.name, 80, "bold"), plain(f"  {_asks(each)}", 120, "dim"))
    shown: list[RenderableType] = [title, _histogram(each), *map(Text, _lines(each)), Text()]
    for examples, words in ((each.dropped, "dropped"), (each.kept, "kept")):
        shown.append(
            Text(f"{len(examples)} random documents that it {'drops' if words == 'dropped' else 'keeps'}", "bold")
        )
        shown += [document_lines(_shown(example)) for example in examples]
        shown.append(Text())
    return Group(*shown)


def _asks(each: Tuned) -> str:
    bounds = [f"at least {brief(each.rule.at_least)}"] if each.rule.at_least is not None else []
    bounds += [f"at most {brief(each.rule.at_most)}"] if each.rule.at_most is not None else []
    return f"{each.rule.signal} {' and '.join(bounds) or 'without a threshold'} (step {each.step})"


def _lines(each: Tuned) -> Iterator[str]:
    """What a person decides by, in sentences."""
    moved = each.rule != each.was
    if moved:
        was = each.was.at_least if each.was.at_least is not None else each.was.at_most
        yield f"at the recipe's {brief(was)}: {_effect(each.now, each)}"
        new = each.rule.at_least if each.rule.at_least is not None else each.rule.at_most
        yield f"at {brief(new)}: {_effect(each.then, each)}"
    else:
        yield _effect(each.then, each)
    seen = each.documents - each.undefined - each.absent
    spread = f", from {digits(each.least, 4)} to {digits(each.most, 4)}" if seen else ""
    yield f"{count(seen)} documents have a value{spread}"
    if each.undefined:
        yield f"{count(each.undefined)} have none that is defined: the rule keeps them"
    if each.absent:
        yield f"{count(each.absent)} left before this step: by an extraction, an edit or an exchange"


def _effect(effect: Effect, each: Tuned) -> str:
    return (
        f"drops {count(effect.documents)} of {count(each.documents)} documents "
        f"({share(effect.documents, each.documents)}, {size(effect.text_bytes)} of text), "
        f"{count(effect.only)} of them by this rule only ({size(effect.only_bytes)})"
    )


def _histogram(each: Tuned) -> Table:
    """A row for every two bins; the bins in which a threshold lies are marked."""
    low, high = each.rule.span
    width = (high - low) / ROWS
    inner, merge = each.counts[1:-1], (len(each.counts) - 2) // ROWS
    rows = [(f"< {digits(low, 4)}", each.counts[0], (-float("inf"), low))]
    for place in range(ROWS):
        start, end = low + place * width, low + (place + 1) * width
        rows.append((digits(start, 4), sum(inner[place * merge : (place + 1) * merge]), (start, end)))
    rows.append((f"> {digits(high, 4)}", each.counts[-1], (high, float("inf"))))
    most = max(held for _, held, _ in rows)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    used = [place for place, (_, held, edges) in enumerate(rows) if held or _mark(each, edges, is_last=place == ROWS)]
    for place in range(min(used, default=0), max(used, default=-1) + 1):
        name, held, edges = rows[place]
        mark = _mark(each, edges, is_last=place == ROWS)
        grid.add_row(Text(name), Text(count(held)), Text(_bar(held, most), _style(each, edges)), Text(mark, "bold"))
    return grid


def _mark(each: Tuned, edges: tuple[float, float], *, is_last: bool) -> str:
    start, end = edges
    marks = []
    for bound, words in ((each.rule.at_least, "at least"), (each.rule.at_most, "at most")):
        if bound is not None and (start <= bound < end or (is_last and bound == end)):
            marks.append(f"◄ {words} {brief(bound)}")
    return " ".join(marks)


def _style(each: Tuned, edges: tuple[float, float]) -> str:
    start, end = edges
    low, high = each.rule.at_least, each.rule.at_most
    if (low is not None and end <= low) or (high is not None and start > high):
        return "red"
    if (low is not None and start < low) or (high is not None and end > high):
        return "yellow"
    return "green"


def _bar(held: int, most: int) -> str:
    """A bar in eighths of a character; what is not nothing is seen."""
    eighths = max(round(held / most * BAR * 8), 1) if held and most else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _shown(example: Example) -> Shown:
    return Shown(example.value, example.id, example.url, example.text)


def tuning_sections(tuned: Sequence[Tuned]) -> list[tuple[str, str, Html]]:
    """The sections of the page: (anchor, title, content), one a rule."""
    return [(f"rule-{place}", shortened(each.rule.name, 80), _section(each)) for place, each in enumerate(tuned)]


def _section(each: Tuned) -> Html:
    said = [tag("p", line) for line in _lines(each)]
    figure = tag("figure", histogram_figure(each.rule.name, each.histogram, width=720, height=280))
    return join(
        [
            note(_asks(each)),
            figure,
            said,
            _examples(each.dropped, f"{len(each.dropped)} random documents that it drops"),
            _examples(each.kept, f"{len(each.kept)} random documents that it keeps"),
        ]
    )


def _examples(examples: Sequence[Example], title: str) -> Html:
    return documents_table(title, map(_shown, examples), is_open=True)


def tuning_data(tuned: Sequence[Tuned]) -> list[dict[str, Any]]:
    """The same as plain data, for `--json`."""
    return [
        {
            **rule_facts(each.place, each.step, each.rule),
            "recipe": {"at_least": each.was.at_least, "at_most": each.was.at_most, "drops": asdict(each.now)},
            "drops": asdict(each.then),
            "documents": each.documents,
            "text_bytes": each.text_bytes,
            "undefined": each.undefined,
            "absent": each.absent,
            "histogram": each.histogram,
            "dropped": [asdict(example) for example in each.dropped],
            "kept": [asdict(example) for example in each.kept],
        }
        for each in tuned
    ]
