"""A whole ladder: every run of every dataset, scheduled over worker processes, into one measurements table.

Runs, not threads, share the machine: one process a core with one torch thread each is 1.2 to 1.35 x as fast as
one process with two. Largest runs go first, so that the last to finish are short. Each run has a folder
`runs/<fingerprint>` under `out`: what is finished is not done again, what was killed resumes. A run that fails
does not stop the others; the ladder then ends with a TrainingError that names it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from curate.errors import InputError, TrainingError
from curate.measurements import SCHEMA
from curate.progress import Progress
from curate.proxy_training.evaluate import HeldOutSet, evaluation_fingerprint, load_heldout
from curate.proxy_training.ladder_file import Ladder, Scale, load_ladder
from curate.proxy_training.packing import TokenizedDataset, same_tokenizer
from curate.proxy_training.procedure import Procedure, settle_precision
from curate.proxy_training.run import FLOPS_CONVENTION, Run
from curate.proxy_training.tokenizer import load_tokenizer

__all__ = ["Ladder", "PlanRow", "Scale", "load_ladder", "loss_curves", "plan", "train_ladder"]

# One core of a busy Xeon with AVX-512, eager float32: 41,000 tokens a second at .06M parameters, 9,300 at .5M.
# An idle machine is up to 1.5 x as fast; compiled bfloat16, where a ladder has it, 1.8 x.
SECONDS_PER_TOKEN = 12e-6
SECONDS_PER_FLOP = 1 / 47e9
CURVE_COLUMNS = ("run_id", "dataset", "scale", "seed", "phase", "step", "tokens", "loss", "learning_rate")


@dataclass(frozen=True)
class PlanRow:
    """What one run will cost."""

    dataset: str
    """Name of the dataset."""
    scale: str
    """Name of the scale."""
    seed: int
    """Seed of the run."""
    params: int
    """N = blocks + norms + one V d."""
    params_non_embedding: int
    """Blocks and norms."""
    budgets_tokens: tuple[int, ...]
    """Tokens at which the run is measured, in whole batches."""
    flops: float
    """6 N D of the largest budget."""
    trained_tokens: int
    """Tokens of trunk and branches together."""
    epochs: float
    """How often the largest budget sees the dataset; above 1 it repeats."""
    estimated_seconds: float
    """On one core like the one the rates were measured on."""


def plan(ladder: Ladder, datasets: Mapping[str, TokenizedDataset]) -> list[PlanRow]:
    """What `train_ladder` would do, largest run first; costs nothing and needs no torch."""
    procedure = Procedure(
        **ladder.procedure.model_dump(),
        tokenizer=same_tokenizer(datasets),
        sequence_length=ladder.sequence_length,
        precision="fp32",
        compile="eager",
    )
    return [
        PlanRow(
            dataset=run.dataset.name,
            scale=run.scale.name,
            seed=run.seed,
            params=run.shape.params,
            params_non_embedding=run.shape.params_non_embedding,
            budgets_tokens=tuple(run.tokens(budget) for budget in run.scale.budgets_tokens),
            flops=run.shape.flops_per_token * run.tokens(run.scale.budgets_tokens[-1]),
            trained_tokens=run.trained_tokens,
            epochs=run.epochs,
            estimated_seconds=_estimated_seconds(run),
        )
        for run in _runs(ladder, datasets, procedure, evaluation="")
    ]


def train_ladder(
    *,
    datasets: Mapping[str, TokenizedDataset],
    heldout: Mapping[str, Path | Sequence[Path]],
    ladder: Ladder,
    out: Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> pa.Table:
    """Train every dataset on every scale and seed; returns measurements (curate.measurements.SCHEMA), one row a
    run, budget and metric.

    `heldout` maps a name to Parquet files with a `text` column. Finished runs under `out` are read, not trained
    again. Raises MismatchError when the datasets do not share a tokenizer, InputError for held-out sets that
    cannot be used, TrainingError naming each run that failed (after all others have finished). Ctrl-C saves and
    leaves the ladder resumable.
    """
    progress = progress or Progress()
    if not datasets or not heldout or workers < 1:
        raise InputError("A ladder needs at least one dataset, one held-out set and one worker.")
    tokenizer_fingerprint = same_tokenizer(dict(datasets))
    sets = _load_heldout_sets(heldout, next(iter(datasets.values())), ladder)
    compiled = _settle_compile(ladder, progress)
    procedure = Procedure(
        **ladder.procedure.model_dump(),
        tokenizer=tokenizer_fingerprint,
        sequence_length=ladder.sequence_length,
        precision=settle_precision(ladder.precision, compiled=compiled),
        compile="blocks" if compiled else "eager",
    )
    runs = _runs(ladder, datasets, procedure, evaluation=evaluation_fingerprint(sets))
    for name, repeats in {run.dataset.name: run.epochs for run in runs if run.epochs > 1}.items():
        progress.note(f"{name} holds fewer tokens than the largest budget: it is repeated ({repeats:.1f} epochs).")
    folders = {run.fingerprint: out / "runs" / run.fingerprint for run in runs}
    todo = [run for run in runs if not (folders[run.fingerprint] / "result.json").exists()]
    todo = list({run.fingerprint: run for run in todo}.values())  # a dataset under two names is trained once
    if todo:
        from curate.proxy_training.workers import train_runs

        costs = {run.fingerprint: _estimated_seconds(run) for run in runs}
        failures = train_runs(
            todo, sets, folders=folders, costs=costs, workers=workers, progress=progress, title=f"train {ladder.name}"
        )
        if failures:
            raise TrainingError(
                f"{len(failures)} of {len(runs)} runs of ladder {ladder.name!r} failed; the others are kept in {out}, "
                "and the same command tries only the missing ones:\n" + "\n".join(failures)
            )
    rows = [row for run in runs for row in _measurements(run, ladder, folders[run.fingerprint])]
    rows.sort(key=lambda row: (row["dataset"], row["params"], row["scale"], row["seed"], row["tokens"], row["metric"]))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def loss_curves(out: Path) -> pa.Table:
    """Training losses of all runs under `out`, finished or not: columns CURVE_COLUMNS; `phase` is "trunk" or
    "branch-<tokens>"."""
    columns: dict[str, list] = {name: [] for name in CURVE_COLUMNS}
    for folder in sorted((out / "runs").glob("*/")):
        if not (folder / "run.json").exists() or not (folder / "curve.jsonl").exists():
            continue
        facts = json.loads((folder / "run.json").read_text())
        of_run = {key: facts[key] for key in ("run_id", "dataset", "seed")} | {"scale": facts["scale"]["name"]}
        for line in (folder / "curve.jsonl").read_text().splitlines(keepends=True):
            if line.endswith("}\n"):  # a kill may leave the last line unfinished
                for name, value in (of_run | json.loads(line)).items():
                    columns[name].append(value)
    kinds = dict.fromkeys(CURVE_COLUMNS, pa.string()) | dict.fromkeys(("seed", "step", "tokens"), pa.int64())
    kinds |= dict.fromkeys(("loss", "learning_rate"), pa.float64())
    return pa.table(columns, schema=pa.schema(list(kinds.items())))


def _runs(
    ladder: Ladder, datasets: Mapping[str, TokenizedDataset], procedure: Procedure, *, evaluation: str
) -> list[Run]:
    """All runs of a ladder, the most expensive first."""
    runs = [
        Run(_named(packed, name), scale, seed, procedure, evaluation)
        for scale in ladder.scales
        for seed in range(scale.seeds)
        for name, packed in datasets.items()
    ]
    return sorted(runs, key=_estimated_seconds, reverse=True)


def _named(packed: TokenizedDataset, name: str) -> TokenizedDataset:
    return replace(packed, name=name)


def _estimated_seconds(run: Run) -> float:
    return run.trained_tokens * (SECONDS_PER_TOKEN + run.shape.flops_per_token_exact * SECONDS_PER_FLOP)


def _load_heldout_sets(
    heldout: Mapping[str, Path | Sequence[Path]], packed: TokenizedDataset, ladder: Ladder
) -> dict[str, HeldOutSet]:
    tokenizer = load_tokenizer(packed.tokenizer_path)
    return {
        name: load_heldout(
            name,
            [files] if isinstance(files, str | Path) else list(files),
            tokenizer=tokenizer,
            sequence_length=ladder.sequence_length,
            bytes_per_set=ladder.evaluation.bytes_per_set,
            bytes_per_document=ladder.evaluation.bytes_per_document,
        )
        for name, files in heldout.items()
    }


def _settle_compile(ladder: Ladder, progress: Progress) -> bool:
    """Whether the blocks will be compiled; tries it on this machine, once, unless the ladder says eager."""
    if ladder.compile == "eager":
        return False
    from curate.proxy_training.workers import compile_problem

    problem = compile_problem()
    if problem and ladder.compile == "blocks":
        raise TrainingError(
            f"Ladder {ladder.name!r} wants compiled blocks, but torch.compile fails here ({problem}); "
            "install a C++ compiler and Python's headers, or say `compile: auto`."
        )
    if problem:
        progress.note(f"torch.compile fails here ({problem}): training runs eagerly, 1.3 to 1.6 x slower.")
    return not problem


def _measurements(run: Run, ladder: Ladder, folder: Path) -> list[dict]:
    """Rows of one finished run: for each budget one a held-out set, and their unweighted mean."""
    result = json.loads((folder / "result.json").read_text())
    rows = []
    for point in result["points"]:
        tokens = point["tokens"]
        hyperparameters = {
            "learning_rate": run.learning_rate,
            "batch_tokens": run.batch_tokens,
            "steps": point["steps"],
            "warmup_steps": run.warmup_steps,
            "decay_steps": point["decay_steps"],
            "weight_decay": run.procedure.weight_decay,
            "precision": run.procedure.precision,
            "compile": run.procedure.compile,
            "torch": result["torch"],
            "ladder": ladder.name,
            "flops_exact": run.shape.flops_per_token_exact * tokens,
        }
        values, errors = point["bits_per_byte"], point["error"]
        mean = sum(values.values()) / len(values)
        known = [error for error in errors.values() if error is not None]
        mean_error = math.hypot(*known) / len(values) if len(known) == len(values) else None
        metrics = {"bits_per_byte": (mean, mean_error)}
        metrics |= {f"bits_per_byte/{name}": (value, errors[name]) for name, value in values.items()}
        rows += [
            {
                "run_id": run.fingerprint,
                "dataset": run.dataset.name,
                "scale": run.scale.name,
                "params": run.shape.params,
                "params_non_embedding": run.shape.params_non_embedding,
                "tokens": tokens,
                "unique_tokens": run.dataset.tokens,
                "tokenizer": run.dataset.tokenizer_fingerprint,
                "token_unit": "tokens",
                "flops": run.shape.flops_per_token * tokens,
                "flops_convention": FLOPS_CONVENTION,
                "seed": run.seed,
                "metric": metric,
                "value": value,
                "error": error,
                "lower_is_better": True,
                "cooled_down": True,
                "procedure": run.procedure.fingerprint(),
                "evaluation": run.evaluation,
                "dataset_fingerprint": run.dataset.dataset_fingerprint,
                "hyperparameters": json.dumps(hyperparameters, sort_keys=True),
            }
            for metric, (value, error) in metrics.items()
        ]
    return rows
