"""DCLM's model database (assets/DCLM_model_database.csv): 416 evaluations as a flat CSV, older and dirtier than
exp_data.

Its Core and Extended are the v1 scores (equal to those of exp_data to 5e-11 in all 115 shared runs). What cannot be a
measurement of its own is left out and named with its row: a second evaluation of one run, a row that copies another's
scores, an evaluation that answered nothing, an aggregate over fewer tasks than it says. What is doubtful but stays
(a name on another dataset's data, params of another vocabulary) is named too. Rows count from 1 without the header.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.comparator.adapters.chance import DCLM_BASELINE
from curate.comparator.adapters.dclm import CENTRED, MMLU, TASKS, TOKENIZERS, scale_name
from curate.comparator.adapters.files import read_rows
from curate.comparator.adapters.flops import SIX_ND, six_nd
from curate.comparator.adapters.wide import Runs, as_number
from curate.errors import MeasurementError

COLUMNS = ("Model JSON", "Dataset", "model", "params", "tokens", "Core", "Extended", "model_uuid")
CORE_TASKS = tuple(
    "hellaswag_zeroshot jeopardy bigbench_qa_wikidata arc_easy arc_challenge copa commonsense_qa piqa openbook_qa "
    "lambada_openai hellaswag winograd winogrande bigbench_dyck_languages agi_eval_lsat_ar bigbench_cs_algorithms "
    "bigbench_operators bigbench_repeat_copy_logic squad coqa boolq bigbench_language_identification".split()
)
FREE_ANSWER = tuple(task for task in CORE_TASKS if DCLM_BASELINE[task] == 0.0)
DEAD_BELOW = 0.005  # mean of the free-answer tasks; the worst model that works has .16 there, failed evaluations 2e-5
OWN_TOKENIZER = "EleutherAI/gpt-neox-20b"
SETTING = re.compile(r"(?<=-)(?P<key>warm|lr|wd|cd|bs|seed)=(?P<value>\d+(?:p\d+)?(?:e-?\d+)?)")
TAIL = re.compile(r".*(?:tokens|seed|mult)=\d+(?:p\d+)?(?P<tail>.*?)(?:_heavy|_mmlu_and_lowvar)?(?:_copy)?$")
NAMES = {
    "warm": "warmup_steps",
    "lr": "learning_rate",
    "wd": "weight_decay",
    "cd": "final_learning_rate",
    "bs": "batch_size",
}


def read_database(path: Path) -> Runs:
    """The runs of the database CSV with core_v1, extended_v1, mmlu and `accuracy/<task>`."""
    rows = [{key: "" if value is None else value for key, value in row.items()} for row in read_rows(path)]
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise MeasurementError(f"{path}: no column {missing[0]!r}; DCLM's model database has {', '.join(COLUMNS)}.")
    notes: list[str] = []
    rows = without_repeats(rows, notes)
    rows = without_copies(rows, notes)
    rows = without_broken(rows, notes)
    runs = [run_of(row, str(path)) for row in rows]
    without_partial_aggregates(runs, rows, notes)
    name_foreign_data(runs, notes)
    name_foreign_vocabularies(runs, notes)
    core_v1, extended_v1 = CENTRED[0], CENTRED[2]
    return Runs(runs, [core_v1, extended_v1, MMLU, *TASKS], notes)


def run_of(row: dict[str, Any], where: str) -> dict[str, Any]:
    at = f"{where}, row {row['_row']}"
    params, tokens = as_number(row["params"], at, "params"), as_number(row["tokens"], at, "tokens")
    if not params or not tokens:
        raise MeasurementError(f"{at}: {row['Dataset']}: params or tokens is empty; the run cannot be placed.")
    name = row["Model JSON"].removeprefix("evaluation_").removesuffix(".json").removeprefix(row["Dataset"])
    settings = {m["key"]: float(m["value"].replace("p", ".")) for m in SETTING.finditer(name)}
    tail = TAIL.match(name)
    tokenizer = row.get("tokenizer") or None
    return {
        "_row": row["_row"],
        "run_id": row["model_uuid"],
        "dataset": row["Dataset"],
        "scale": scale_name(params, tokens),
        "params": params,
        "tokens": tokens,
        "token_unit": "tokens",
        "tokenizer": TOKENIZERS.get(tokenizer or "", tokenizer),
        "flops": six_nd(params, tokens),
        "flops_convention": SIX_ND,
        "seed": int(settings["seed"]) if "seed" in settings else None,
        "cooled_down": True,
        "evaluation": "dclm v1",
        "dataset_fingerprint": row.get("dataset_uuid") or None,
        "hyperparameters": {name: settings.get(key) for key, name in NAMES.items()}
        | {"model_config": row["model"], "variant": (tail["tail"].strip("_-") or None) if tail else None},
        "core_v1": row["Core"],
        "extended_v1": row["Extended"],
        "mmlu": row.get("mmlu_fewshot"),
        **{f"accuracy/{task}": row.get(task) for task in DCLM_BASELINE},
    }


def without_repeats(rows: Sequence[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """One evaluation a run: of rows with one model_uuid the one with most tasks, the first of these."""
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["model_uuid"]].append(row)
    kept = []
    for uuid, group in groups.items():
        best = max(group, key=lambda row: sum(bool(row.get(task)) for task in DCLM_BASELINE))
        kept.append(best)
        if len(group) > 1:
            others = [str(row["_row"]) for row in group if row is not best]
            same = all(scores(row) == scores(best) for row in group)
            what = "the same evaluation again" if same else "other evaluations of one run, or of its checkpoints"
            notes.append(
                f"rows {', '.join(others)} ({best['Dataset']}, run {uuid}): {what}; left out, row {best['_row']} stays"
            )
    return sorted(kept, key=lambda row: int(row["_row"]))


def without_copies(rows: Sequence[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Two trainings do not agree in every task to ten digits: such a row is a copy under another uuid."""
    first: dict[tuple[str, ...], dict[str, Any]] = {}
    kept = []
    for row in rows:
        original = first.setdefault(scores(row), row)
        if original is row or not any(scores(row)):
            kept.append(row)
        else:
            notes.append(
                f"row {row['_row']} ({row['Dataset']}, run {row['model_uuid']}): every score equals that of row "
                f"{original['_row']}, though the uuid is another; left out as a copy"
            )
    return kept


def scores(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row.get(task) or "" for task in DCLM_BASELINE)


def without_broken(rows: Sequence[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Any trained model answers some questions of nine tasks; one that answers none was not evaluated properly."""
    kept = []
    for row in rows:
        found = [as_number(row.get(task), f"row {row['_row']}", task) for task in FREE_ANSWER]
        given = [value for value in found if value is not None]
        if len(given) < len(FREE_ANSWER) or sum(given) / len(given) >= DEAD_BELOW:
            kept.append(row)
            continue
        hellaswag, core = (as_number(row.get(key), f"row {row['_row']}", key) for key in ("hellaswag", "Core"))
        what = "the model is at chance" if (hellaswag or 0.0) < 0.3 else "the model works, its evaluation failed"
        notes.append(
            f"row {row['_row']} ({row['Dataset']}, {row['model']}, run {row['model_uuid']}): broken, answers nothing "
            f"in all {len(FREE_ANSWER)} free-answer CORE tasks, HellaSwag {hellaswag or 0:.3f}: {what} (Core "
            f"{'empty' if core is None else f'{core:.3f}'}); left out"
        )
    return kept


def without_partial_aggregates(
    runs: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], notes: list[str]
) -> None:
    """Extended is printed over whatever tasks a row has: it is kept where all 53 were measured."""
    no_core = [str(row["_row"]) for row in rows if not row["Core"]]
    partial = []
    for run, row in zip(runs, rows, strict=True):
        if not all(row.get(task) for task in DCLM_BASELINE):
            run["extended_v1"] = None
            partial.append(str(row["_row"]))
    if partial:
        notes.append(
            f"extended_v1 of {len(partial)} rows left out: their Extended is the mean of fewer than the "
            f"{len(DCLM_BASELINE)} tasks (rows {few(partial)})"
        )
    if no_core:
        notes.append(f"core_v1 of {len(no_core)} rows is empty in the database (rows {few(no_core)})")


def name_foreign_data(runs: Sequence[dict[str, Any]], notes: list[str]) -> None:
    """The uuid says what was trained on: a name on another dataset's uuid gives way to that dataset's name, and
    several names of one uuid are one dataset.
    """
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    uuids: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        if run["dataset_fingerprint"]:
            names[run["dataset_fingerprint"]][run["dataset"]] += 1
            uuids[run["dataset"]][run["dataset_fingerprint"]] += 1
    for run in runs:
        name, uuid = run["dataset"], run["dataset_fingerprint"]
        if uuid is None:
            continue
        owner = names[uuid].most_common(1)[0][0]
        if owner != name:
            run["dataset"] = owner
            notes.append(f"row {run['_row']}: called {name!r}, but its dataset_uuid {uuid} is {owner!r}: so it stands")
        elif uuids[name].most_common(1)[0][0] != uuid:
            run["dataset"] = f"{name} [{uuid[-8:]}]"
            notes.append(f"row {run['_row']}: {name!r} has another dataset_uuid here; it stands as {run['dataset']!r}")


def name_foreign_vocabularies(runs: Sequence[dict[str, Any]], notes: list[str]) -> None:
    foreign = [r for r in runs if r["tokenizer"] not in (None, OWN_TOKENIZER)]
    unknown = [str(r["_row"]) for r in runs if r["tokenizer"] is None]
    if foreign:
        shown = ", ".join(f"{r['_row']} ({r['tokenizer']})" for r in foreign)
        notes.append(
            f"{len(foreign)} rows have another tokenizer but the params of the GPT-NeoX vocabulary, so their N and "
            f"FLOPs are not exact: rows {shown}"
        )
    if unknown:
        notes.append(f"{len(unknown)} rows name no tokenizer (rows {few(unknown)})")


def few(numbers: Sequence[str]) -> str:
    return ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
