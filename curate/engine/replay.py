"""One document through all steps of its recipe again, from its source: every rule that it fails, in the recipe's order.

Filters drop nothing here, so that rules after the first that failed are asked too; edits have their thresholds off and
do what they do to the text. Exchanges need all documents: what they decided stands in their ledgers, and the text that
they left in their parts. Costs one reading of the files of the part that held the document.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import Batch
from curate.engine.jobs import PartJob
from curate.engine.lineage import decides_by_signals, segments
from curate.engine.manifest import part_manifest, read_valid
from curate.engine.part import built_steps, input_batches, read_part
from curate.engine.recipe import MATERIALISE, StepSpec
from curate.engine.run import part_jobs
from curate.engine.stages import Plan, Stage
from curate.steps import Filter, Outcome, Rule, Step


@dataclass(frozen=True)
class Failed:
    """A rule that the document fails."""

    step: str
    rule: str
    value: float | None = None
    threshold: float | None = None
    error: str | None = None
    labels: str = ""
    """What its step named the document: `language en, language_score 0.41`."""

    @property
    def sentence(self) -> str:
        """`gopher_quality.min_words: 41, the rule asks at least 50`."""
        if self.value is None:
            return f"{self.rule}{': ' + self.error if self.error else ''}"
        named = f" ({self.labels})" if self.labels else ""
        return f"{self.rule}: {self.value:.6g}{asked(self.value, self.threshold)}{named}"


def asked(value: float, threshold: float | None) -> str:
    """`, the rule asks at least 50`, of a value that fails it."""
    return (
        "" if threshold is None else f", the rule asks {'at most' if value > threshold else 'at least'} {threshold:.6g}"
    )


def replayed(plan: Plan, work: Path, *, part: int, source: str, key: str) -> Iterator[Failed]:
    """The rules that the document `key` of a part fails; it ends where nothing is left of the text.

    Raises LookupError if the part does not hold the document any more (it was removed on request).
    """
    document = _document(plan, work, part=part, source=source, key=key)
    measured = {step.place: step for segment in segments(plan) for step in segment.steps}
    places = [place for place, spec in enumerate(plan.recipe.steps) if spec.name != MATERIALISE]
    for stage in plan.stages:
        own, places = places[: len(stage.steps)], places[len(stage.steps) :]
        for place, spec in zip(own, stage.steps, strict=True):
            if stage.exchange:
                document = _as_left(stage.folder(work), part, document)
                continue
            known = measured.get(place)
            (step,) = _built(stage, known.spec if known else spec, work)
            after, failed = _asked(step, spec.name.rpartition(".")[2], known.rules if known else (), document)
            yield from failed
            if after is None:
                return
            document = after


def _document(plan: Plan, work: Path, *, part: int, source: str, key: str) -> Batch:
    """The document as it comes from its source."""
    stage = plan.stages[0]
    job = part_jobs(stage, None, stage.folder(work), {})[part]
    named = tuple(piece for piece in job.pieces if piece.file.name == source)
    for batch, _ in input_batches(replace(job, pieces=named or job.pieces)):
        here = pc.equal(batch.ids, key)
        if pc.any(here).as_py():
            return Batch(batch.data.filter(here).slice(0, 1))
    raise LookupError(key)


def _as_left(folder: Path, part: int, document: Batch) -> Batch:
    """The document as an exchange left it in its part; as it was, if it is not there."""
    manifest = read_valid(part_manifest(folder, part))
    if manifest is None or "data" not in manifest["files"]:
        return document
    data = manifest["files"]["data"]
    for batch in read_part(str(folder / data["name"]), expected=data["hash"]):
        here = pc.equal(batch.ids, document.ids[0])
        if pc.any(here).as_py():
            return Batch(batch.data.filter(here).slice(0, 1))
    return document


def _built(stage: Stage, spec: StepSpec, work: Path) -> list[Step]:
    files = {each.spec.name: str(work / "artifacts" / each.folder_name) for each in stage.artifacts}
    folder = str(stage.folder(work))
    return built_steps(PartJob(stage=stage.label, folder=folder, steps=(spec,), files=files, models=stage.models))


def _asked(step: Step, name: str, rules: tuple[Rule, ...], document: Batch) -> tuple[Batch | None, list[Failed]]:
    """The document after a step, None if there is nothing to go on with; and the rules of the step that it fails."""
    if decides_by_signals(step):
        after, signals = step.annotate(document)
        signals = step.derive(after, signals)
        failed = _failing(name, rules or step.rules(), signals)
        return after, [replace(each, labels=_labels(step, after)) for each in failed]
    outcome = step.process(document)
    failed = _failing(name, rules, outcome.signals) if rules and outcome.signals else []
    if len(outcome.batch):
        return outcome.batch, failed
    left = _left(name, outcome)
    has_text = "text" in document.data.schema.names
    return (document if has_text else None), (failed or [left])


def _failing(step: str, rules: tuple[Rule, ...], signals: dict[str, np.ndarray]) -> list[Failed]:
    found = []
    for rule in rules:
        case = None if rule.case is None else signals[rule.case]
        values = signals[rule.signal]
        if rule.fails(values, case)[0]:
            found.append(Failed(step, rule.name, float(values[0]), float(rule.threshold_for(values, case)[0])))
    return found


def _labels(step: Filter, document: Batch) -> str:
    named = ((label, document.data.column(label)[0].as_py()) for label in step.labels)
    return ", ".join(
        f"{label} {value:.6g}" if isinstance(value, float) else f"{label} {value}" for label, value in named
    )


def _left(step: str, outcome: Outcome) -> Failed:
    row = pa.Table.from_batches([outcome.left]).to_pylist()[0]
    return Failed(step, row["rule"] or f"{step}.{row['fate']}", row["value"], row["threshold"], error=row["error"])
