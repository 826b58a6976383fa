"""Runs plans: stage by stage, artifacts before the stage that needs them, finished parts never again.

`Engine.run(recipe)` gives the `Dataset`: parts, manifest, funnel. The work folder holds `stages/<step>-<fingerprint>/`
and `artifacts/<name>-<fingerprint>/`; deleting any of it only costs the time to make it again.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curate.engine.account import SAMPLES
from curate.engine.executors import Executor
from curate.engine.manifest import (
    PART_FIELDS,
    merge_funnel,
    merge_histograms,
    merge_samples,
    part_manifest,
    read_valid,
    write_manifest,
)
from curate.engine.part import (
    ArtifactJob,
    Failure,
    PartJob,
    ReduceJob,
    make_artifact,
    map_part,
    reduce_parts,
    run_part,
)
from curate.engine.publish import check_outputs, publish
from curate.engine.recipe import Recipe
from curate.engine.stages import Plan, PlannedArtifact, Planner, Stage
from curate.errors import ReconciliationError, StageError
from curate.fingerprints import ContentMemory
from curate.progress import Progress


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its folder and its manifest."""

    stage: Stage
    folder: Path
    manifest: dict[str, Any]

    @property
    def parts(self) -> list[Path]:
        """Data files of the parts that hold documents, in order."""
        return [
            self.folder / part["files"]["data"]["name"] for part in self.manifest["parts"] if "data" in part["files"]
        ]

    @property
    def ledgers(self) -> list[Path]:
        """Ledger files, one a part."""
        return [self.folder / part["files"]["ledger"]["name"] for part in self.manifest["parts"]]


@dataclass(frozen=True)
class Dataset:
    """What a recipe made."""

    name: str
    fingerprint: str
    stages: tuple[StageResult, ...]
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Manifests of the artifacts that its stages used, by name."""

    @property
    def parts(self) -> list[Path]:
        """Parquet files of the documents, in order."""
        return self.stages[-1].parts

    @property
    def documents(self) -> int:
        """Documents in the dataset."""
        return int(self.stages[-1].manifest["records_out"])

    @property
    def text_bytes(self) -> int:
        """Bytes of text in the dataset."""
        return int(self.stages[-1].manifest["bytes_out"])

    @property
    def funnel(self) -> list[dict[str, Any]]:
        """One row a step, from the source to the end: in, out, edited, fates and rules with their counts."""
        return [row for stage in self.stages for row in stage.manifest["funnel"]]


class Engine:
    """Runs recipes in one work folder with one executor."""

    def __init__(
        self, work: Path, executor: Executor, *, progress: Progress | None = None, verify: bool = False
    ) -> None:
        self.work = work
        self.executor = executor
        self.progress = progress or Progress()
        self.verify = verify
        self.memory = ContentMemory(work / "contents.json", verify=verify)
        self.planner = Planner(self.memory)
        self._seen: set[str] = set()

    def plan(self, recipe: Recipe) -> Plan:
        """The stages of `recipe` with their fingerprints; hashes the source's files if they are not known yet."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StageError(f"The work folder {self.work} cannot be made: {error.strerror or error}.") from error
        plan = self.planner.plan(recipe)
        self.memory.save()
        return plan

    def run(self, recipe: Recipe) -> Dataset:
        """Make the dataset, or find it made. Raises StageError when a part fails; what was finished stays."""
        return self.run_plan(self.plan(recipe))

    def run_plan(self, plan: Plan) -> Dataset:
        """Make the dataset of a plan."""
        check_outputs(plan)
        self._check_disk(plan)
        made: dict[str, dict[str, Any]] = {}
        results: list[StageResult] = []
        for stage in plan.stages:
            files = {}
            for artifact in stage.artifacts:
                made[artifact.spec.name], folder = self._artifact(artifact)
                files[artifact.spec.name] = str(folder)
            results.append(self._stage(stage, results[-1] if results else None, files))
        dataset = Dataset(plan.recipe.name, plan.last.fingerprint, tuple(results), made)
        for kind, target in plan.recipe.output.items():
            publish(dataset, plan, kind=kind, target=target)
        return dataset

    def _check_disk(self, plan: Plan) -> None:
        # Compressed input becomes at most about as many bytes of compressed parts a stage; what is missing is refused
        # before the work, not after it.
        missing = [stage for stage in plan.stages if not (self._folder(stage) / "manifest.json").exists()]
        need, free = plan.input_bytes * len(missing), shutil.disk_usage(self.work).free
        if need > free:
            raise StageError(
                f"The work folder {self.work} has {free / 1e9:.1f} GB free, and {len(missing)} stages over "
                f"{plan.input_bytes / 1e9:.1f} GB of input may need {need / 1e9:.1f} GB: name another with --work."
            )

    def _folder(self, stage: Stage) -> Path:
        return self.work / "stages" / stage.folder_name

    def _stage(self, stage: Stage, parent: StageResult | None, files: dict[str, str]) -> StageResult:
        folder = self._folder(stage)
        manifest = read_valid(folder / "manifest.json", ("parts", "funnel", "records_out", "bytes_out"))
        if manifest and manifest.get("fingerprint") == stage.fingerprint and self._whole(folder, manifest):
            if stage.fingerprint not in self._seen:
                self.progress.note(f"{stage.label}: already done ({manifest['records_out']:,} documents)")
            self._seen.add(stage.fingerprint)
            return StageResult(stage, folder, manifest)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        jobs = self._jobs(stage, parent, folder, files)
        with self.progress.task(stage.label, total=len(jobs) * (2 if stage.exchange else 1), unit="parts") as task:
            if stage.exchange:
                jobs, summary = self._exchange(stage, folder, jobs, files, task.advance)
            parts = self._finish(run_part, jobs, "part", task.advance)
        manifest = _stage_manifest(stage, parts, time.perf_counter() - began)
        if stage.exchange:
            manifest["summary"] = summary
        _check_stage(stage, parent, manifest)
        write_manifest(folder / "manifest.json", manifest)
        self._seen.add(stage.fingerprint)
        return StageResult(stage, folder, manifest)

    def _whole(self, folder: Path, manifest: dict[str, Any]) -> bool:
        return all(
            read_valid(part_manifest(folder, part["part"]), PART_FIELDS, verify=self.verify) is not None
            for part in manifest["parts"]
        )

    def _jobs(self, stage: Stage, parent: StageResult | None, folder: Path, files: dict[str, str]) -> list[PartJob]:
        common: dict[str, Any] = {"stage": stage.label, "folder": str(folder), "steps": stage.steps, "files": files}
        if parent is None:
            return [
                PartJob(part=number, source=stage.source, input=file, **common)
                for number, file in enumerate(stage.inputs)
            ]
        return [
            PartJob(part=part["part"], parent=_data_path(parent.folder, part), **common)
            for part in parent.manifest["parts"]
        ]

    def _exchange(
        self, stage: Stage, folder: Path, jobs: list[PartJob], files: dict[str, str], advance: Callable[[float], None]
    ) -> tuple[list[PartJob], dict[str, Any]]:
        """Map and reduce; the jobs that apply the state, and the state's summary."""
        partials = self._finish(map_part, jobs, "partial", advance)
        state = read_valid(folder / "state.json", ("summary",), verify=self.verify)
        if state is None:
            paths = tuple(str(folder / partial["files"]["partial"]["name"]) for partial in partials)
            (result,) = (
                result
                for _, result in self.executor.run(
                    reduce_parts, [ReduceJob(stage.label, str(folder), stage.steps[0], files, paths)]
                )
            )
            state = _checked(result)
        jobs = [
            replace(job, state=str(folder / state["files"][f"state-{number}"]["name"]))
            for number, job in enumerate(jobs)
        ]
        return jobs, state["summary"]

    def _finish(
        self, function: Callable[[Any], Any], jobs: Sequence[PartJob], kind: str, advance: Callable[[float], None]
    ) -> list[dict[str, Any]]:
        """Manifests of all parts in order; those that are whole are not done again."""
        needed = PART_FIELDS if kind == "part" else ("part",)
        found = {
            number: manifest
            for number, job in enumerate(jobs)
            if (manifest := read_valid(part_manifest(Path(job.folder), job.part, kind), needed, verify=self.verify))
        }
        advance(len(found))
        todo = [number for number in range(len(jobs)) if number not in found]
        for place, result in self.executor.run(function, [jobs[number] for number in todo]):
            found[todo[place]] = _checked(result)
            advance(1)
        return [found[number] for number in range(len(jobs))]

    def _artifact(self, planned: PlannedArtifact) -> tuple[dict[str, Any], Path]:
        folder = self.work / "artifacts" / f"{planned.spec.name}-{planned.fingerprint[:16]}"
        manifest = read_valid(folder / "manifest.json", verify=self.verify)
        if manifest is None:
            if isinstance(planned.negatives, Plan):
                negatives = self.run_plan(planned.negatives).parts
            else:
                negatives = list(planned.negatives)
            with self.progress.task(f"train {planned.spec.name}", total=1, unit="model") as task:
                job = ArtifactJob(
                    stage=f"artifact {planned.spec.name}",
                    folder=str(folder),
                    spec=planned.spec,
                    positives=tuple(str(path) for path in planned.positives),
                    negatives=tuple(str(path) for path in negatives),
                )
                ((_, result),) = self.executor.run(make_artifact, [job])
                manifest = _checked(result)
                task.advance(1)
        return manifest | {"fingerprint": planned.fingerprint}, folder


def _data_path(folder: Path, part: dict[str, Any]) -> str | None:
    return str(folder / part["files"]["data"]["name"]) if "data" in part["files"] else None


def _checked(result: dict[str, Any] | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        raise StageError(str(result))
    return result


def _stage_manifest(stage: Stage, parts: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    funnel = merge_funnel(parts)
    fates: dict[str, int] = {}
    ignored: dict[str, int] = {}
    spent: dict[str, float] = {}
    for part in parts:
        for into, name in ((fates, "fates"), (ignored, "ignored"), (spent, "seconds")):
            for key, count in part[name].items():
                into[key] = into.get(key, 0) + count
    return {
        "fingerprint": stage.fingerprint,
        "label": stage.label,
        "steps": [{"name": step.name, "parameters": json.loads(step.parameters)} for step in stage.steps],
        "parent": stage.parent.fingerprint if stage.parent else None,
        "inputs": [{"name": file.name, "bytes": file.size} for file in stage.inputs],
        "artifacts": {artifact.spec.name: artifact.fingerprint for artifact in stage.artifacts},
        "files": {},
        "parts": [{name: part[name] for name in ("part", "files", "records_in", "records_out")} for part in parts],
        "records_in": sum(part["records_in"] for part in parts),
        "records_out": sum(part["records_out"] for part in parts),
        "bytes_out": funnel[-1]["out_bytes"] if funnel else 0,
        "fates": fates,
        "ignored": ignored,
        "funnel": funnel,
        "histograms": merge_histograms(parts),
        "samples": merge_samples(parts, SAMPLES),
        "step_seconds": spent,
        "wall_seconds": seconds,
    }


def _check_stage(stage: Stage, parent: StageResult | None, manifest: dict[str, Any]) -> None:
    kept = manifest["fates"].get("kept", 0) + manifest["fates"].get("edited", 0)
    expected = parent.manifest["records_out"] if parent else manifest["records_in"]
    if manifest["records_in"] != expected or kept != manifest["records_out"]:
        raise ReconciliationError(
            f"Stage {stage.label} does not add up over its parts: {expected} records before it, "
            f"{manifest['records_in']} read, {manifest['records_out']} written, fates {manifest['fates']}."
        )
