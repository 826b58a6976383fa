"""open_clip's results: docs/openclip_results.csv and its classification and retrieval tables (one row a model, one
column a data set).

The tag says what a model saw: `commonpool_m_clip_s128m_b4k` is CommonPool medium filtered by CLIP score, 128M samples
in batches of 4k. `tokens` counts image-text pairs (`token_unit` "samples"); FLOPs are 3 x the table's forward FLOPs of
one pair (two a multiply-add) x samples. Rows whose tag does not say their samples are left out and counted, unless a
table of runs gives them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.comparator.adapters.column_map import ColumnMap
from curate.comparator.adapters.files import read_rows
from curate.comparator.adapters.flops import SAMPLES, forward_times_three
from curate.comparator.adapters.wide import MetricColumn, Runs, as_number
from curate.errors import MeasurementError

PARAMS, FORWARD = "params (M)", "FLOPs (B)"
NAMES = (("name", "pretrained"), ("model", "version"))
SEEN = re.compile(r"_s(?P<samples>\d+(?:\.\d+)?)(?P<unit>[kmb])_b(?P<batch>\d+)k(?P<rest>.*)$")
POOL = re.compile(r"^(?P<pool>commonpool|datacomp)_(?P<size>s|m|l|xl)(?:_(?P<filter>\w+))?$")
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
CLASSES = {
    "ImageNet 1k": 1000, "Caltech-101": 102, "CIFAR-10": 10, "CIFAR-100": 100, "CLEVR Counts": 8, "CLEVR Distance": 6,
    "Country211": 211, "Describable Textures": 47, "EuroSAT": 10, "FGVC Aircraft": 100, "Food-101": 101, "GTSRB": 43,
    "ImageNet Sketch": 1000, "ImageNet v2": 1000, "ImageNet-A": 200, "ImageNet-O": 200, "ImageNet-R": 200,
    "KITTI Vehicle Distance": 4, "MNIST": 10, "ObjectNet": 113, "Oxford Flowers-102": 102, "Oxford-IIIT Pet": 37,
    "Pascal VOC 2007": 20, "PatchCamelyon": 2, "Rendered SST2": 2, "RESISC45": 45, "Stanford Cars": 196, "STL-10": 10,
    "SUN397": 397, "SVHN": 10, "Camelyon17": 2,
}  # fmt: skip


def read_open_clip(path: Path, mapping: ColumnMap) -> Runs:
    """One run a model; metrics `average` and `zero_shot/<data set>`."""
    rows = read_rows(path)
    names = next((pair for pair in NAMES if set(pair) <= rows[0].keys()), None)
    if names is None:
        raise MeasurementError(f"{path}: no columns name and pretrained (or model and version) as open_clip writes.")
    averages = [c for c in rows[0] if c.lower().startswith(("average", "avg")) and "jaccard" not in c]
    skip = {*names, PARAMS, FORWARD, "_row", "scale", "filter", *averages}
    metrics = [MetricColumn(column, "average", False) for column in averages[:1]]
    for column in rows[0]:
        if column not in skip:
            classes = CLASSES.get(column)
            metrics.append(MetricColumn(column, f"zero_shot/{column}", False, chance=1 / classes if classes else None))
    runs = [run_of(row, names, f"{path}, row {row['_row']}") for row in rows]
    placed = runs if mapping.runs_table else [run for run in runs if run["tokens"] and run["flops"]]
    notes = [
        *left_out(runs, placed),
        "flops are 3 x open_clip's forward FLOPs x samples; tokens counts samples, as the tags round them",
    ]
    if not placed:
        raise MeasurementError(
            f"{path}: no row says its samples (tag ..._s13b_b90k) and forward FLOPs; give --set runs_table=FILE with "
            "the columns run (name/pretrained), dataset, tokens, flops."
        )
    return Runs(placed, metrics, notes)


def left_out(runs: Sequence[dict[str, Any]], placed: Sequence[dict[str, Any]]) -> list[str]:
    kept = {run["_row"] for run in placed}
    gone = [run for run in runs if run["_row"] not in kept]
    if not gone:
        return []
    shown = ", ".join(f"{run['_row']} ({run['run'][0]})" for run in gone[:6])
    more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
    return [f"{len(gone)} models left out: their tag does not say how many samples they saw: rows {shown}{more}"]


def run_of(row: dict[str, Any], names: tuple[str, str], where: str) -> dict[str, Any]:
    model, tag = str(row[names[0]]), str(row[names[1]])
    params, forward = as_number(row.get(PARAMS), where, PARAMS), as_number(row.get(FORWARD), where, FORWARD)
    dataset, samples, batch, rest = seen(tag)
    return row | {
        "run": (f"{model}/{tag}", tag),
        "run_id": f"{model}/{tag}",
        "dataset": dataset,
        "scale": model,
        "params": None if params is None else params * 1e6,
        "tokens": samples,
        "token_unit": "samples",
        "flops": forward_times_three(forward * 1e9, samples) if forward and samples else None,
        "flops_convention": SAMPLES,
        "cooled_down": True,
        "evaluation": "open_clip zero-shot",
        "hyperparameters": {"batch_size": batch, "variant": rest.strip("_") or None},
    }


def seen(tag: str) -> tuple[str | None, float | None, float | None, str]:
    """(dataset, samples, batch size, rest) from a tag; None for what it does not say."""
    found = SEEN.search(tag)
    if found is None:
        return None, None, None, ""
    stem = tag[: found.start()]
    pool = POOL.match(stem)
    # DataComp's pool sizes s to xl are scales; the dataset is the filter that was applied to the pool
    dataset = (
        stem
        if pool is None
        else f"{pool['pool']}_{pool['filter'] or 'no_filter'}".replace("datacomp_no_filter", "datacomp")
    )
    samples = float(found["samples"]) * UNITS[found["unit"]]
    return dataset, samples, float(found["batch"]) * 1e3, found["rest"]
