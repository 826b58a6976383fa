"""What the page says of where every number came from: facts of the study, fingerprints, stages, time spent."""

from collections.abc import Sequence
from typing import Any

from curate.report.content import DatasetContent, StudyContent
from curate.report.elements import cell, code, head, name_of, note, number, row, table
from curate.report.looks import Style
from curate.report.markup import Html, join, shortened, tag
from curate.report.numbers import count, duration


def provenance_section(content: StudyContent, looks: dict[str, Style]) -> Html:
    """Facts, then the stages of all datasets."""
    facts = {"made by": f"curate {content.version}", "at": content.created} | content.facts | _comparison(content)
    rows = [row(head(shortened(name, 60)), cell(code(value))) for name, value in facts.items()]
    return join([table(("fact", "value"), rows), _stages(content.datasets, looks)])


def _comparison(content: StudyContent) -> dict[str, str]:
    verdict = content.verdict
    if verdict is None:
        return {}
    settings = f"seed {verdict.seed}, {verdict.bootstraps} bootstraps, {100 * verdict.confidence:g}% intervals"
    return {
        "metric": verdict.metric,
        "law": verdict.law,
        "comparison": f"{settings}, version {verdict.version} of the verdict",
    }


def _stages(datasets: Sequence[DatasetContent], looks: dict[str, Style]) -> Html | None:
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for dataset in datasets:
        for place, stage in enumerate(dataset.stages):
            fingerprint = stage.get("fingerprint") or f"{dataset.name} {place}"
            found.setdefault(fingerprint, (stage, []))[1].append(dataset.name)
    if not found:
        return None
    rows = [_stage(fingerprint, stage, names, looks) for fingerprint, (stage, names) in found.items()]
    heads = ("stage", "datasets", "records in", "out", "wall time", "time in steps", "found", "fingerprint")
    words = "Recipes with an equal beginning share its stages: they ran once. Times are of the run that made a stage."
    return join([tag("h3", "Stages"), note(words), table(heads, rows, numeric=(2, 3, 4, 5))])


def _stage(fingerprint: str, stage: dict[str, Any], names: Sequence[str], looks: dict[str, Style]) -> Html:
    summary = (f"{name} {value}" for name, value in stage["summary"].items() if not isinstance(value, dict | list))
    return row(
        cell(shortened(stage["label"], 90)),
        cell(join([name_of(name, looks) for name in names], " ")),
        number(count(stage["records_in"])),
        number(count(stage["records_out"])),
        number(duration(stage["wall_seconds"])),
        number(duration(sum((stage["step_seconds"] or {}).values()))),
        cell(shortened("; ".join(summary), 300)),
        cell(code(fingerprint[:16])),
    )
