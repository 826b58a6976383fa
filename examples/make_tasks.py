"""Make the items that ship with the package: a seeded sample of public tasks whose licence lets them be passed on.

usage: python -m examples.make_tasks [--shared ../shared/data] [--out proxy_training/evaluation/tasks] [--seed 7]

Reads bench/benchmarks.parquet of the data folder and writes items.parquet (task, id, query, choices, gold), aiw.parquet
(prompts of Alice in Wonderland: template, variation, prompt, answer) and NOTICE. Same source and seed: same bytes (for
one pyarrow). Tasks whose texts belong to others than the task's authors (LAMBADA's novels, HellaSwag's WikiHow pages,
PubMedQA's abstracts), or whose licence is not among the plain ones, are not taken: they load from the hub.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from examples.task_notice import notice

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_ITEMS = 500
MOST_LONG_ITEMS = 300  # of tasks with a passage
LISTED = re.compile(r"(?s)\s*\nA\. .*\nAnswer: ?$")
Row = dict[str, Any]


def choice(row: Row) -> tuple[str, list[str], int]:
    """As it is."""
    return row["query"], row["choices"], int(row["gold"])


def asked(row: Row) -> tuple[str, list[str], int]:
    """With a line for the answer."""
    return row["query"].rstrip().removesuffix("\nAnswer:") + "\nAnswer:", row["choices"], int(row["gold"])


def unlisted(row: Row) -> tuple[str, list[str], int]:
    """Without the list of lettered answers in the question; the answers are their texts."""
    stem = LISTED.sub("", row["query"])
    options = re.findall(r"(?m)^[A-Z]\. (.*)$", row["query"][len(stem) :])
    if stem == row["query"] or len(options) != len(row["choices"]):
        raise SystemExit(f"{row['task']} {row['idx']}: no list of {len(row['choices'])} answers in {row['query']!r}")
    return stem + "\nAnswer:", options, int(row["gold"])


def truthful(row: Row) -> tuple[str, list[str], int]:
    """The best answer among the wrong ones, at a place that the question's hash gives."""
    wrong = [text.strip() for text in json.loads(row["extra"])["incorrect"].split(";") if text.strip()]
    choices = list(dict.fromkeys(text for text in wrong if text != row["gold"]))
    gold = int(digest(0, row["query"])[:8], 16) % (len(choices) + 1)
    return f"Q: {row['query']}\nA:", [*choices[:gold], row["gold"], *choices[gold:]], gold


def completed(row: Row) -> tuple[str, list[str], int]:
    """With its one answer."""
    return row["query"].rstrip(), [row["gold"]], 0


def solved(row: Row) -> tuple[str, list[str], int]:
    """With its solution, without the marks for a calculator."""
    return f"Question: {row['query']}\nAnswer:", [re.sub(r"<<.*?>>", "", row["gold"])], 0


TASKS: dict[str, tuple[str, Callable[[Row], tuple[str, list[str], int]], int]] = {
    "arc_easy": ("arc_easy", asked, MOST_ITEMS),
    "boolq": ("boolq", asked, MOST_LONG_ITEMS),
    "winogrande": ("winogrande", choice, MOST_ITEMS),
    "winograd_wsc": ("winograd_wsc", choice, MOST_ITEMS),
    "truthfulqa_mc1": ("truthfulqa", truthful, MOST_ITEMS),
    "math_qa": ("math_qa", unlisted, MOST_ITEMS),
    "bigbench_conceptual_combinations": ("bigbench_conceptual_combinations", unlisted, MOST_ITEMS),
    "bigbench_logical_deduction": ("bigbench_logical_deduction", unlisted, MOST_LONG_ITEMS),
    "bigbench_novel_concepts": ("bigbench_novel_concepts", choice, MOST_ITEMS),
    "bigbench_strange_stories": ("bigbench_strange_stories", asked, MOST_ITEMS),
    "bigbench_cs_algorithms": ("bigbench_cs_algorithms", completed, MOST_LONG_ITEMS),
    "bigbench_dyck_languages": ("bigbench_dyck_languages", completed, MOST_LONG_ITEMS),
    "bigbench_operators": ("bigbench_operators", completed, MOST_ITEMS),
    "gsm8k": ("gsm8k_test_orig", solved, MOST_LONG_ITEMS),
}


def digest(seed: int, text: str) -> str:
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).hexdigest()


def items(rows: list[Row], *, seed: int) -> list[Row]:
    """The sample of each task, by task and id; an item with an empty answer is left out."""
    found = []
    for task, (name, made, most) in TASKS.items():
        mine = [row for row in rows if row["task"] == name]
        mine = sorted(mine, key=lambda row: digest(seed, f"{row['task']}-{row['idx']}"))[:most]
        for row in sorted(mine, key=lambda row: row["idx"]):
            query, choices, gold = made(row)
            if all(choices) and (len(choices) > 1 or made in (completed, solved)):
                found.append(
                    {"task": task, "id": f"{name}-{row['idx']}", "query": query, "choices": choices, "gold": gold}
                )
    return found


def alice_prompts(rows: list[Row]) -> Iterator[Row]:
    """AIW's prompts whose answer is a number of one digit and whose template has three variations or more."""
    found = []
    for row in rows:
        if row["task"] != "aiw":
            continue
        extra = json.loads(row["extra"])
        variation = re.search(r"(?i)\bvariation (\d+\w?)\b", extra.get("description") or "")
        try:
            answer = float(extra["right_answer"])
        except (TypeError, ValueError):
            continue
        if variation and answer in range(1, 10):
            described = extra["description"].replace(variation[0], "")
            template = re.sub(r"[^a-z0-9+]+", "_", described.lower()).strip("_")
            found.append(
                {"template": template, "variation": variation[1], "prompt": row["query"], "answer": int(answer)}
            )
    variations: dict[str, set[str]] = {}
    for row in found:
        variations.setdefault(row["template"], set()).add(row["variation"])
    seen = set()
    for row in found:
        key = (row["template"], row["variation"])
        if len(variations[row["template"]]) >= 3 and key not in seen:
            seen.add(key)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=REPOSITORY / ".." / "shared" / "data", help="data folder")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "proxy_training" / "evaluation" / "tasks")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rows = pq.read_table(options.shared / "bench" / "benchmarks.parquet").to_pylist()
    sample, prompts = items(rows, seed=options.seed), list(alice_prompts(rows))
    tables = {"items": pa.Table.from_pylist(sample), "aiw": pa.Table.from_pylist(prompts)}
    for name, table in tables.items():
        pq.write_table(table, options.out / f"{name}.parquet", compression="zstd", compression_level=19)
        print(f"{name}.parquet: {table.num_rows} rows, {(options.out / f'{name}.parquet').stat().st_size / 1e3:.0f} kB")
    counts = {task: sum(row["task"] == task for row in sample) for task in TASKS}
    sources = {row["task"]: row["source"] for row in rows}
    (options.out / "NOTICE").write_text(
        notice(counts, {task: sources[name] for task, (name, _, _) in TASKS.items()}, len(prompts), sources["aiw"]),
        encoding="utf-8",
    )
    for task, count in counts.items():
        print(f"{task:34} {count:4} items")


if __name__ == "__main__":
    main()
