"""TensorBoard's scalars: downloaded CSV (`Wall time,Step,Value`) or JSON ([[wall time, step, value], ...]), named
`run-<run>-tag-<tag>` by TensorBoard, and event files where the tensorboard package is installed.

The last value of a tag of a run counts (final_values.py). In a downloaded file's name `/` of a tag has become `_`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.comparator.adapters.column_map import ColumnMap
from curate.comparator.adapters.files import read_json, read_rows
from curate.comparator.adapters.final_values import LoggedRun, ends_of, number_or_none
from curate.comparator.adapters.wide import Runs
from curate.errors import MeasurementError

HEADER = ["Wall time", "Step", "Value"]
FILE_NAME = re.compile(r"^run[-_](?P<run>.+)-tag-(?P<tag>.+?)(?: \(\d+\))?$")
EVENTS = "events.out.tfevents"


def is_scalars(columns: Sequence[str]) -> bool:
    return [name.strip() for name in columns] == HEADER


def is_scalars_json(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(point, list) and len(point) == 3 for point in content[:100])
    )


def read_scalar_files(paths: Sequence[Path], mapping: ColumnMap) -> Runs:
    """Downloaded scalars; files of one run are put together."""
    runs: dict[str, LoggedRun] = {}
    for path in paths:
        name, tag = run_and_tag(path)
        run = runs.setdefault(name, LoggedRun(tuple(dict.fromkeys((name, name.split("/")[-1]))), f"run {name}"))
        if tag in run.curves:
            raise MeasurementError(f"{path}: run {name!r} has {tag!r} from another file already; give one of them.")
        for step, value in points_of(path):
            run.log(tag, step, value)
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return ends_of(list(runs.values()), by_file_name(mapping, runs), where=where)


def run_and_tag(path: Path) -> tuple[str, str]:
    found = FILE_NAME.match(path.stem)
    if found is None:
        raise MeasurementError(
            f"{path}: TensorBoard's scalars do not say run and tag themselves; name the file run-<run>-tag-<tag>"
            f"{path.suffix} as TensorBoard does."
        )
    return (path.parent.name or "." if found["run"] == "." else found["run"]), found["tag"]


def by_file_name(mapping: ColumnMap, runs: dict[str, LoggedRun]) -> ColumnMap:
    """A map written with the tags' real names (`eval/loss`) finds them in file names too (`eval_loss`)."""
    tags = {tag for run in runs.values() for tag in run.curves}

    def known(name: str) -> str:
        flat = name.replace("/", "_")
        return flat if name not in tags and flat in tags else name

    return replace(
        mapping,
        columns={ours: known(theirs) for ours, theirs in mapping.columns.items()},
        settings={name: known(theirs) for name, theirs in mapping.settings.items()},
        metrics=tuple(replace(m, column=known(m.column)) for m in mapping.metrics),
    )


def points_of(path: Path) -> list[tuple[float, float]]:
    if path.suffix.lower() == ".csv":
        raw = [(row["_row"], row["Step"], row["Value"]) for row in read_rows(path)]
    else:
        content = read_json(path)
        if not is_scalars_json(content):
            raise MeasurementError(f"{path}: is no list of [wall time, step, value].")
        raw = [(number, point[1], point[2]) for number, point in enumerate(content, start=1)]
    out = []
    for number, step, value in raw:
        at, measured = (number_or_none(x, f"{path}, row {number}", "Value") for x in (step, value))
        if at is None:
            raise MeasurementError(f"{path}, row {number}: Step holds {str(step)[:40]!r}, which is no number.")
        if measured is not None:
            out.append((at, measured))
    if not out:
        raise MeasurementError(f"{path}: holds no value that is a number.")
    return out


def read_event_folder(folder: Path, mapping: ColumnMap) -> Runs:
    """Event files under `folder`, one run for every folder that holds some, named by its path below `folder`."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise MeasurementError(
            f"{folder}: reading event files needs the tensorboard package: pip install tensorboard, or download the "
            "scalars as CSV."
        ) from error
    folders = sorted({file.parent for file in folder.rglob(f"*{EVENTS}*")})
    runs = []
    for sub in folders:
        name = sub.relative_to(folder).as_posix()
        name = folder.name if name == "." else name
        log = EventAccumulator(str(sub), size_guidance={"scalars": 0, "tensors": 0})
        log.Reload()
        run = LoggedRun(tuple(dict.fromkeys((name, sub.name))), f"run {name}")
        for tag in log.Tags()["scalars"]:
            for event in log.Scalars(tag):
                run.log(tag, event.step, event.value)
        for tag in log.Tags()["tensors"]:  # how TensorFlow 2 writes scalars
            for event in log.Tensors(tag):
                value = make_ndarray(event.tensor_proto)
                if value.size == 1 and value.dtype.kind == "f":
                    run.log(tag, event.step, float(value.item()))
        if run.curves:
            runs.append(run)
    if not runs:
        raise MeasurementError(f"{folder}: its event files hold no scalars.")
    return ends_of(runs, mapping, where=str(folder))
