"""DCLM's `exp_data`: evaluation JSON joined by uuid to the model that it evaluated and the dataset that this was
trained on (mlfoundations/dclm, MIT). Their model database, a flat CSV, is dclm_database.py.

Core and Extended exist in two versions that differ in the tasks' random baselines: `core_v1` is what papers printed
before September 2025, `core_v2` what the repository reports since. Both are means of centred accuracies, so chance is
0. What the JSON contradicts itself in, lacks or marks as failed is in the notes, run by run, never guessed silently.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.comparator.adapters.chance import DCLM_BASELINE
from curate.comparator.adapters.flops import SIX_ND, six_nd
from curate.comparator.adapters.wide import MetricColumn, Runs, as_number
from curate.comparator.tables import MISSING
from curate.errors import MeasurementError

CENTRED = tuple(
    MetricColumn(name, name, lower_is_better=False, chance=0.0)
    for name in ("core_v1", "core_v2", "extended_v1", "extended_v2")
)
MMLU = MetricColumn("mmlu", "mmlu", lower_is_better=False, chance=0.25)
TASKS = tuple(
    MetricColumn(f"accuracy/{task}", f"accuracy/{task}", lower_is_better=False, chance=chance)
    for task, chance in DCLM_BASELINE.items()
)
SHAPES = {411616256: "400M", 1439795200: "1B", 6889410560: "7B"}
TOKENIZERS = {"tokenizers/gpt_neox_tokenizer.json": "EleutherAI/gpt-neox-20b"}  # the same one, as a local file
SUFFIX = re.compile(r"(?:seed=\d+|tokens=\d+|mult=[\d.]+(?:p\d+)?)(?P<suffix>(?:_|avg=).*)$")


def read_exp_data(folder: Path) -> Runs:
    """The evaluated runs of an `exp_data` folder (with `models/`, `evals/` and, for token counts and tokenizers,
    `datasets/tokenized/`).
    """
    notes: list[str] = []
    runs = exp_data_runs(folder, notes)
    return Runs(runs, [*CENTRED, MMLU, *TASKS], notes)


def exp_data_runs(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """One dict an evaluated run, in the order of the evaluation files' names."""
    models = by_uuid(folder / "models", notes)
    datasets = by_uuid(folder / "datasets" / "tokenized", notes) if (folder / "datasets" / "tokenized").is_dir() else {}
    runs: dict[str, dict[str, Any]] = {}
    unlinked = []
    for path, evaluation in json_files(folder / "evals"):
        uuid = evaluation.get("model_uuid")
        if uuid not in models:
            unlinked.append(path.stem.removeprefix("evaluation_"))
            continue
        if uuid in runs:
            notes.append(f"{path.name}: model {uuid} was evaluated before; this second evaluation was left out")
            continue
        path_of_model, model = models[uuid]
        runs[uuid] = run_of(path, evaluation, path_of_model, model, datasets, notes)
    if not runs:
        raise MeasurementError(f"{folder}: no evaluation names a model of models/ by model_uuid.")
    if unlinked:
        shown = ", ".join(unlinked[:3])
        notes.append(f"{len(unlinked)} evaluations name no model of this folder and were left out: {shown} ...")
    return list(runs.values())


def run_of(
    path: Path,
    evaluation: Mapping[str, Any],
    path_of_model: Path,
    model: Mapping[str, Any],
    datasets: Mapping[str, tuple[Path, Mapping[str, Any]]],
    notes: list[str],
) -> dict[str, Any]:
    name = str(model.get("name") or path_of_model.stem)
    given = model.get("hyperparameters")
    if not isinstance(given, dict):
        raise MeasurementError(f"{path_of_model}: has no object 'hyperparameters'.")
    params, tokens = (as_number(given.get(key), str(path_of_model), key) for key in ("params", "tokens"))
    if not params or not tokens:
        raise MeasurementError(f"{path_of_model}: hyperparameters says no params or no tokens; both are needed.")
    arguments = command_line(model.get("open_lm_args") or [])
    data = datasets.get(model.get("dataset_uuid") or "", (None, {}))[1]
    dataset = model.get("dataset_name")
    if not dataset:
        dataset = name
        notes.append(f"run {name}: its JSON names no dataset; it stands under its own name")
    if model.get("failed"):
        notes.append(f"run {name}: its JSON says failed, yet it was evaluated; look before you trust it")
    seed = given.get("seed")
    if seed is None and arguments.get("seed", "").isdigit():
        seed = int(arguments["seed"])
        notes.append(f"run {name}: seed {seed} from its command line; its JSON has none")
    for key, argument in (("lr", "lr"), ("wd", "wd"), ("global_bs", "global-batch-size")):
        if argument in arguments and not same_number(arguments[argument], given.get(key)):
            notes.append(
                f"run {name}: {key} is {given.get(key)} in its JSON, {arguments[argument]} on its command line"
            )
    if "pretrained" in arguments:
        notes.append(
            f"run {name}: goes on from {checkpoint(arguments['pretrained'])}; its tokens and flops count this "
            "phase only"
        )
    metrics = evaluation.get("eval_metrics")
    scores = metrics.get("icl") if isinstance(metrics, dict) else None
    if not isinstance(scores, dict):
        raise MeasurementError(f"{path}: has no scores under eval_metrics.icl.")
    tokenizer = data.get("tokenizer")
    return {
        "_row": path.name,
        "run_id": model["uuid"],
        "dataset": dataset,
        "scale": scale_name(params, tokens),
        "params": params,
        "params_non_embedding": without_embeddings(params, given.get("params_no_embed")),
        "tokens": tokens,
        "unique_tokens": data.get("num_tokens"),
        "flops": six_nd(params, tokens),
        "flops_convention": SIX_ND,
        "seed": seed,
        "cooled_down": True,
        "evaluation": f"dclm {evaluation.get('eval_version', 'v1')}",
        "tokenizer": TOKENIZERS.get(tokenizer or "", tokenizer),
        "token_unit": "tokens",
        "dataset_fingerprint": model.get("dataset_uuid") or None,
        "hyperparameters": {
            "learning_rate": given.get("lr"),
            "weight_decay": given.get("wd"),
            "batch_size": given.get("global_bs"),
            "warmup_steps": given.get("warmup"),
            "final_learning_rate": given.get("cd"),
            "z_loss": given.get("z_loss"),
            "model_config": Path(str(given.get("model"))).name.removesuffix(".json"),
            "variant": variant(name, arguments),
        },
        **{column: evaluation.get(column.capitalize()) for column in (m.column for m in CENTRED)},
        "mmlu": scores.get("mmlu_fewshot"),
        **{f"accuracy/{task}": scores.get(task) for task in DCLM_BASELINE},
    } | without_missing(evaluation, path, notes)


def without_missing(evaluation: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, None]:
    """Extended scores are texts ("N/A due to missing tasks ...") where tasks are missing: no measurements."""
    gone: dict[str, None] = {}
    for metric in CENTRED:
        value = evaluation.get(metric.column.capitalize())
        if isinstance(value, str):
            gone[metric.column] = None
    missing = str(evaluation.get("missing tasks", "[]"))
    if missing not in ("[]", "") and missing.lower() not in MISSING:
        notes.append(f"{path.name}: missing tasks {missing}; {', '.join(gone) or 'no aggregate'} left out")
    return gone


def without_embeddings(params: float, params_no_embed: float | None) -> float | None:
    """Their `params_no_embed` still holds the head, which is as large as the embedding that it leaves out."""
    return None if params_no_embed is None else 2 * float(params_no_embed) - params


def scale_name(params: float, tokens: float) -> str:
    """DCLM's own names: 400M, 1B, 7B and the multiple of 20 tokens a parameter."""
    multiple = tokens / (20 * params)
    shape = SHAPES.get(int(params)) or f"{params / 1e9:.3g}B"
    return f"{shape}-{multiple:.2f}".rstrip("0").rstrip(".") + "x"


def variant(name: str, arguments: Mapping[str, str]) -> str | None:
    """What sets this run apart beyond its hyper-parameters: another start, objective or average of weights."""
    found = SUFFIX.search(name)
    parts = [found["suffix"].strip("_")] if found else []
    if "pretrained" in arguments:
        parts.append(f"goes on from {checkpoint(arguments['pretrained'])}")
    if not arguments and "wiseft" in name:
        parts.append("wise-ft average of two models")
    return ", ".join(parts) or None


def checkpoint(path: str) -> str:
    """`epoch_234 of a run of 4.41e+12 tokens` from a checkpoint's path."""
    planned = re.search(r"tokens=(\d+)", path)
    return f"{Path(path).stem} of a run of {float(planned[1]):.3g} tokens" if planned else Path(path).stem


def command_line(arguments: Sequence[str]) -> dict[str, str]:
    """`--key value` pairs; a flag has the value ""."""
    out: dict[str, str] = {}
    for at, word in enumerate(arguments):
        if word.startswith("--"):
            follows = arguments[at + 1] if at + 1 < len(arguments) else "--"
            out[word.removeprefix("--")] = "" if follows.startswith("--") else follows
    return out


def same_number(one: str, other: Any) -> bool:
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


def by_uuid(folder: Path, notes: list[str]) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    out: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path, content in json_files(folder):
        uuid = content.get("uuid")
        if not uuid:
            raise MeasurementError(f"{path}: has no uuid, by which evaluations, models and datasets are joined.")
        if uuid in out:
            notes.append(f"{path.name}: the uuid {uuid} is that of {out[uuid][0].name}; the second was left out")
            continue
        out[uuid] = (path, content)
    return out


def json_files(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if not folder.is_dir():
        raise MeasurementError(f"{folder}: there is no such folder; DCLM's exp_data holds models/ and evals/.")
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise MeasurementError(f"{path}: is no JSON: {error}.") from error
        if not isinstance(content, dict):
            raise MeasurementError(f"{path}: holds a {type(content).__name__}, not an object.")
        yield path, content
