"""Which format a path has: by its folder's content, its columns or its JSON, never by its name alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.comparator.adapters import lm_eval, open_clip, tensorboard, wandb
from curate.comparator.adapters.column_map import ColumnMap
from curate.comparator.adapters.dclm_database import COLUMNS as DCLM_DATABASE
from curate.comparator.adapters.files import JSON, header, read_json
from curate.errors import MeasurementError


def detect(path: Path, mapping: ColumnMap) -> str:
    """The name of a format in FORMATS; raises MeasurementError where none fits."""
    if not path.exists():
        raise MeasurementError(f"{path}: there is no such file.")
    if path.is_dir():
        return detect_folder(path)
    if tensorboard.EVENTS in path.name:
        return "tensorboard"
    if path.suffix.lower() in JSON:
        return detect_json(path, read_json(path))
    columns = header(path)
    if tensorboard.is_scalars(columns):
        return "tensorboard"
    if set(DCLM_DATABASE) <= set(columns):
        return "dclm"
    if any(set(pair) <= set(columns) for pair in open_clip.NAMES) and "dataset" not in mapping.columns:
        return "open_clip"
    if wandb.is_chart(columns) or wandb.is_runs_or_history(columns):
        return "wandb"
    return "columns"


def detect_folder(path: Path) -> str:
    if (path / "evals").is_dir() and (path / "models").is_dir():
        return "dclm"
    if next(path.rglob(f"*{tensorboard.EVENTS}*"), None) is not None:
        return "tensorboard"
    if next(path.rglob("results*.json"), None) is not None:
        return "lm_eval"
    raise MeasurementError(
        f"{path}: this folder holds no results*.json of lm-evaluation-harness, no TensorBoard events and no evals/ and "
        "models/ of DCLM's exp_data; give single files."
    )


def detect_json(path: Path, content: Any) -> str:
    if lm_eval.is_lm_eval(content):
        return "lm_eval"
    if tensorboard.is_scalars_json(content):
        return "tensorboard"
    if wandb.is_wandb_json(content):
        return "wandb"
    if isinstance(content, Mapping) and "eval_metrics" in content:
        raise MeasurementError(
            f"{path}: an evaluation of DCLM says nothing about its training; give the exp_data folder."
        )
    raise MeasurementError(
        f"{path}: this JSON is neither a results file of lm-evaluation-harness, nor scalars of TensorBoard, nor an "
        "export of Weights & Biases."
    )
