"""`curate inspect` on the terminal and as a page: the funnel, each rule alone and with the others, duplicates, samples.

Ids, addresses and texts come from data: on the terminal as `Text` with unseen characters made visible, never as markup.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from curate.engine.inspection import Duplicates, Inspection, Pair, RuleCount
from curate.engine.signals import rule_facts
from curate.report.clusters_section import CLUSTERS_NOTE, clusters_of_run
from curate.report.curation_sections import left_by_rule
from curate.report.documents_shown import Shown, document_lines, documents_table
from curate.report.elements import cell, code, head, note, number, row, table
from curate.report.markup import Html, join, shortened, tag
from curate.report.numbers import brief, count, digits, share, size
from curate.report.terminal import funnel, one_line, plain, plain_table

PAIRS = 12
"""Pairs of rules on the terminal; the page has all."""
CLUSTERS = 5
"""Clusters of a step on the terminal; the page has all that the run noted."""


def funnel_screen(name: str, rows: Sequence[dict[str, Any]]) -> RenderableType:
    """The funnel alone: of published output, whose other documents are not here."""
    return funnel(name, rows)


def inspection_screen(found: Inspection, *, name: str, samples: int) -> Group:
    """What `curate inspect` prints."""
    shown: list[RenderableType] = [funnel(name, found.funnel)] if found.funnel is not None else []
    shown += _of_rules(found) if found.rules else []
    shown += [_clusters(each) for each in found.duplicates if each.largest]
    if found.funnel is None:
        shown.append(Text("The recipe did not run to its end here: no funnel and no samples yet.", "yellow"))
    for rule, some in found.samples.items():
        shown += [Text.assemble("dropped by ", plain(rule, 80, "bold"))] if samples else []
        shown += [document_lines(_shown(sample)) for sample in some[:samples]]
    return Group(*shown)


def _of_rules(found: Inspection) -> list[RenderableType]:
    shown: list[RenderableType] = [_rules(found), Text(_failures(found), "dim")]
    shown += [_idle(found), Text()] if any(not each.fails for each in found.rules) else [Text()]
    return [*shown, _pairs(found)] if _of_two_steps(found) else shown


def _rules(found: Inspection) -> RenderableType:
    title = Text.assemble(
        ("Rules", "bold"),
        (f"  each asked of all {count(found.documents)} documents ({size(found.text_bytes)}) that come to them", "dim"),
    )
    shown = plain_table(title, "rule", "asks", "fail it", "first", "it alone", "text of these", left=(0, 1))
    place = -1
    for each in found.rules:
        if not each.fails:
            continue
        if each.place != place:
            place = each.place
            shown.add_row(plain(each.step, 40, "bold"))
        numbers = [share(each.fails, found.documents), count(each.first), count(each.only), size(each.only_bytes)]
        shown.add_row(plain(f"  {_short(each)}", 40), plain(asks(each), 24, "dim"), *numbers)
    return shown


def _short(each: RuleCount) -> str:
    return each.rule.name.removeprefix(f"{each.step}.")


def _idle(found: Inspection) -> Text:
    names = [each.rule.name for each in found.rules if not each.fails]
    return Text(f"No document fails {len(names)} more: {', '.join(one_line(name, 48) for name in names)}", "dim")


def asks(each: RuleCount) -> str:
    """The rule's bounds: `≥ 50`, `≤ .3`."""
    low, high = each.rule.at_least, each.rule.at_most
    bounds = [f"≥ {brief(low)}"] if low is not None else []
    bounds += [f"≤ {brief(high)}"] if high is not None else []
    return " and ".join(bounds) + (", by language" if each.rule.of_case else "")


def _failures(found: Inspection) -> str:
    several = sum(documents for failures, documents in found.by_failures.items() if failures > 1)
    one = found.by_failures.get(1, 0)
    return (
        f"{count(found.passing)} documents ({share(found.passing, found.documents)}) fail none, {count(one)} fail one, "
        f"{count(several)} fail several"
    )


def _pairs(found: Inspection) -> RenderableType:
    pairs = found.pairs()
    more = f", {PAIRS} of {len(pairs)}" if len(pairs) > PAIRS else ""
    title = Text.assemble(("Rules that drop the same documents", "bold"), (f"  share of the rarer one's{more}", "dim"))
    shown = plain_table(title, "rule", "rule", "both", "overlap", left=(0, 1))
    for pair in pairs[:PAIRS]:
        names = [plain(each.rule.name, 48) for each in (pair.first, pair.second)]
        shown.add_row(*names, count(pair.both), _overlap(pair))
    return shown


def _clusters(found: Duplicates) -> RenderableType:
    title = Text.assemble(
        ("Largest clusters of ", "bold"), plain(found.step, 40, "bold"), (f"  {_removed(found)}", "dim")
    )
    shown = plain_table(title, "survivor", "documents", "lowest similarity", "least similar", left=(0, 3))
    for each in found.largest[:CLUSTERS]:
        least = plain(next(iter(each["least_similar"]), ""), 40, "dim")
        shown.add_row(plain(each["survivor"], 40), count(each["size"]), digits(each["lowest_similarity"], 3), least)
    return shown


def _removed(found: Duplicates) -> str:
    below = found.removed_below_threshold
    chained = f", {count(below)} of them below the threshold" if below else ""
    return f"{count(found.clusters)} clusters, {count(found.removed)} removed{chained}"


def _of_two_steps(found: Inspection) -> list[Pair]:
    return [pair for pair in found.pairs() if pair.first.place != pair.second.place]


def _overlap(pair: Pair) -> str:
    return share(pair.both, min(pair.first.fails, pair.second.fails))


def _shown(sample: dict[str, Any]) -> Shown:
    kept = sample.get("survivor") or ""
    beside = sample.get("survivor_text", sample["error"] or "") if kept else ""
    return Shown(sample["value"], sample["id"], sample["url"], sample["text"], kept, beside)


def inspection_words(found: Inspection, recipe: str) -> str:
    """What stands under the title of the page."""
    if found.rules:
        return f"{found.documents:,} documents come to the rules of {recipe}"
    rows = found.funnel or [{"in": 0, "out": 0}]
    return f"{rows[0]['in']:,} records come to the steps of {recipe}, {rows[-1]['out']:,} documents are left"


def inspection_sections(found: Inspection) -> list[tuple[str, str, Html]]:
    """The sections of the page: (anchor, title, content)."""
    parts = []
    if found.funnel is not None:
        parts.append(("funnel", "Funnel", _funnel_table(found.funnel)))
    if found.rules:
        parts.append(("rules", "Rules", join([note(_failures(found)), _rules_table(found)])))
    if found.pairs():
        parts.append(("pairs", "Rules that drop the same documents", _pairs_table(found)))
    if found.duplicates:
        told = [note(f"{shortened(each.step, 40)}: {_removed(each)}.") for each in found.duplicates]
        clusters = clusters_of_run([(each.step, each.largest) for each in found.duplicates])
        words = note(CLUSTERS_NOTE) if clusters else None
        parts.append(("clusters", "Largest clusters of duplicates", join([*told, words, clusters])))
    if found.samples:
        parts.append(("samples", "Samples", join([_samples(rule, some) for rule, some in found.samples.items()])))
    return parts


def _funnel_table(rows: Sequence[dict[str, Any]]) -> Html:
    body = [
        row(
            head(code(step["step"], 60)),
            number(count(step["in"]), sort=step["in"]),
            number(count(step["out"]), sort=step["out"]),
            number(size(step["out_bytes"]), sort=step["out_bytes"]),
            number(count(step["edited"]), sort=step["edited"]),
            number(count(step["fates"].get("failed", 0)), sort=step["fates"].get("failed", 0)),
            tag("td.rules", left_by_rule(step["step"], step["rules"], step["in"])),
        )
        for step in rows
    ]
    return table(("step", "in", "out", "size", "edited", "failed", "left by rule"), body, numeric=(1, 2, 3, 4, 5))


def _rules_table(found: Inspection) -> Html:
    body = [
        row(
            head(code(each.rule.name, 80)),
            cell(asks(each)),
            number(count(each.fails), sort=each.fails),
            number(share(each.fails, found.documents), sort=each.fails),
            number(count(each.first), sort=each.first),
            number(count(each.only), sort=each.only),
            number(size(each.only_bytes), sort=each.only_bytes),
        )
        for each in found.rules
    ]
    names = ("rule", "asks", "fail it", "share", "fail it first", "fail it alone", "text of these")
    return table(names, body, numeric=(2, 3, 4, 5, 6))


def _pairs_table(found: Inspection) -> Html:
    body = [
        row(
            head(code(pair.first.rule.name, 80)),
            head(code(pair.second.rule.name, 80)),
            number(count(pair.both), sort=pair.both),
            number(_overlap(pair), sort=pair.overlap),
        )
        for pair in found.pairs()
    ]
    return table(("rule", "rule", "fail both", "share of the rarer one's"), body, numeric=(2, 3))


def _samples(rule: str, some: Sequence[dict[str, Any]]) -> Html:
    return documents_table(tag("code", shortened(rule, 80)), map(_shown, some))


def inspection_data(found: Inspection) -> dict[str, Any]:
    """The same as plain data, for `--json`."""
    rules = [
        {
            **rule_facts(each.place, each.step, each.rule),
            **{name: getattr(each, name) for name in ("fails", "fails_bytes", "first", "only", "only_bytes")},
        }
        for each in found.rules
    ]
    of_rules = {
        "documents": found.documents,
        "text_bytes": found.text_bytes,
        "passing": found.passing,
        "by_failures": {str(number): documents for number, documents in sorted(found.by_failures.items())},
        "rules": rules,
        "together": found.together.tolist(),
    }
    duplicates = [asdict(each) for each in found.duplicates]
    of_run = {"funnel": found.funnel, "duplicates": duplicates, "samples": found.samples}
    return of_rules | of_run if rules else of_run
