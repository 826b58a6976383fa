"""Results of EleutherAI's lm-evaluation-harness: `results*.json` of 0.3 (`"acc": ...`) and 0.4 (`"acc,none": ...`).

A metric is called metric/task (`acc/arc_easy`, `exact_match[strict-match]/gsm8k`), its standard error comes with it,
its chance level from chance.py, its direction from the file or, before 0.4.3, from LOWER and HIGHER here. The subtasks
of a group that has the same metric (57 of MMLU) are left to the group and counted. What was trained on which dataset,
and how large, is not in these files: constants or a table of runs say it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.comparator.adapters.chance import lm_eval_chance
from curate.comparator.adapters.files import read_json
from curate.comparator.adapters.wide import MetricColumn, Runs
from curate.errors import MeasurementError

HIGHER = frozenset(
    "acc acc_norm acc_mutual_info acc_bytes exact_match em f1 mcc mc1 mc2 bleu chrf rouge1 rouge2 rougeL rougeLsum "
    "bleu_acc bleu_max bleu_diff rouge1_acc rouge2_acc rougeL_acc pass@1 pass_at_1 likelihood_diff recall precision "
    "inst_level_strict_acc inst_level_loose_acc prompt_level_strict_acc prompt_level_loose_acc".split()
)
LOWER = frozenset("word_perplexity byte_perplexity bits_per_byte perplexity ppl ter brier_score".split())
GUESSABLE = ("acc", "acc_norm", "acc_bytes", "exact_match", "em")
NOT_METRICS = ("alias", "name", "sample_len", "sample_count", "samples", "group", "task")
LEADERBOARD = re.compile(r"^harness\|(?P<task>[^|]+)\|(?P<shots>\d+)$")


def is_lm_eval(content: Any) -> bool:
    """Whether a JSON document has the layout of a results file."""
    if not isinstance(content, Mapping) or not isinstance(content.get("results"), Mapping):
        return False
    scores = [task for task in content["results"].values() if isinstance(task, Mapping)]
    described = any(key in content for key in ("versions", "config", "configs", "n-shot", "config_general"))
    return bool(scores) and (described or any("stderr" in key for task in scores for key in task))


def read_lm_eval(path: Path) -> Runs:
    """One run with every metric of every task of one results file."""
    content = read_json(path)
    if not is_lm_eval(content):
        raise MeasurementError(
            f"{path}: is no results file of lm-evaluation-harness; it needs an object 'results' of tasks."
        )
    row: dict[str, Any] = {"_row": "results"}
    metrics: list[MetricColumn] = []
    grouped = covered_by_groups(content)
    left: dict[str, int] = {}
    for task, scores in content["results"].items():
        if not isinstance(scores, Mapping):
            continue
        for key, value in scores.items():
            name, _, kind = key.partition(",")
            if name in NOT_METRICS or name.endswith("_stderr") or not is_score(value):
                continue
            if (task, key) in grouped:
                left[grouped[task, key]] = left.get(grouped[task, key], 0) + 1
                continue
            column = f"{task}:{key}"
            stderr = scores.get(f"{name}_stderr" + (f",{kind}" if kind else ""))
            row[column] = value
            row[f"{column} stderr"] = stderr if is_score(stderr) else None
            metrics.append(metric_of(content, task, name, kind, column))
    if not metrics:
        raise MeasurementError(f"{path}: its tasks have no metric with a number.")
    notes = [f"{path.name}: {count} scores of subtasks are in their group {group}" for group, count in left.items()]
    limit = limit_of(content)
    if limit is not None:
        notes.append(f"{path.name}: evaluated on a limited sample only (limit {limit})")
    return Runs([row | model_of(path, content)], metrics, notes)


def metric_of(content: Mapping[str, Any], task: str, name: str, kind: str, column: str) -> MetricColumn:
    found = LEADERBOARD.match(task)
    plain = found["task"].replace(":", "_") if found else task
    shown = name if kind in ("", "none") else f"{name}[{kind}]"
    guessed = lm_eval_chance(plain) if name in GUESSABLE else None
    return MetricColumn(
        column=column,
        name=f"{shown}/{plain}",
        lower_is_better=is_lower_better(content, task, name),
        chance=guessed,
        error=f"{column} stderr",
        evaluation=evaluation_of(content, task, found["shots"] if found else None),
    )


def is_lower_better(content: Mapping[str, Any], task: str, name: str) -> bool | None:
    """What the file says, else what is known of the metric, else None: the name is looked at later."""
    stated = of_task(content, "higher_is_better", task)
    higher = stated.get(name) if isinstance(stated, Mapping) else stated
    if isinstance(higher, bool):
        return not higher
    return True if name in LOWER else False if name in HIGHER else None


def evaluation_of(content: Mapping[str, Any], task: str, shots: str | None) -> str:
    """Task version and number of shots: scores that differ in them are not compared."""
    version = of_task(content, "versions", task)
    shot = shots or of_task(content, "n-shot", task)
    if shot is None:
        shot = settings_of(content).get("num_fewshot")
    limit = limit_of(content)
    parts = ["lm_eval"] + [f"version {version}"] * (version is not None) + [f"{shot}-shot"] * (shot is not None)
    return ", ".join([*parts, *([f"limit {limit}"] if limit is not None else [])])


def of_task(content: Mapping[str, Any], key: str, task: str) -> Any:
    return as_object(content.get(key)).get(task)


def settings_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_object(content.get("config")) or as_object(content.get("config_general"))


def limit_of(content: Mapping[str, Any]) -> Any:
    """How many questions of each task were asked at most; None where all were."""
    limit = settings_of(content).get("limit")
    return None if limit in (0, "None") else limit


def as_object(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one: what is malformed beside the scores is as good as missing."""
    return value if isinstance(value, Mapping) else {}


def is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def covered_by_groups(content: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(task, metric key) of each subtask whose group reports the same metric, with the outermost such group."""
    results = content["results"]
    out: dict[tuple[str, str], str] = {}
    scores_of = {**results, **as_object(content.get("groups"))}
    for group, tasks in as_object(content.get("group_subtasks")).items():
        shared = {key for key, value in as_object(scores_of.get(group)).items() if is_score(value)}
        for task in tasks if group in results and isinstance(tasks, list) else ():
            for key in shared & set(as_object(results.get(task))) if isinstance(task, str) and task != group else ():
                out[task, key] = group
    return {(task, key): outermost(group, key, out) for (task, key), group in out.items()}


def outermost(group: str, key: str, parents: Mapping[tuple[str, str], str]) -> str:
    seen = {group}
    while (parent := parents.get((group, key))) is not None and parent not in seen:
        group = parent
        seen.add(group)
    return group


def model_of(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The names under which a table of runs may know this model, and what the file says of its size."""
    settings = settings_of(content)
    arguments = settings.get("model_args")
    if isinstance(arguments, Mapping):
        pretrained, revision = arguments.get("pretrained"), arguments.get("revision")
    else:
        pairs = dict(part.split("=", 1) for part in str(arguments or "").split(",") if "=" in part)
        pretrained, revision = pairs.get("pretrained") or pairs.get("model"), pairs.get("revision")
    name = content.get("model_name") or pretrained or settings.get("model_name")
    names = [f"{name}@{revision}"] * bool(name and revision) + [str(name), Path(str(name)).name] * bool(name)
    folder = [path.parent.name] * bool(path.parent.name)
    return {
        "run": tuple(dict.fromkeys([*names, path.name, path.stem, *folder])),
        "params": settings.get("model_num_parameters"),
        "tokenizer": content.get("tokenizer_name") or None,
    }
