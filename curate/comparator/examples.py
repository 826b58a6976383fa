"""Published results that ship with the package: `load_example("dclm" | "open-sci-ref" | "gadre")`, offline.

The files under published/ hold what the sources hold (NOTICE there names source, commit, licence and what was
changed); this module gives it the names, units, directions and chance levels of a measurements table. Nothing is
fitted, averaged or dropped here but what `notes` says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.comparator.adapters.chance import DCLM_BASELINE, LM_EVAL
from curate.comparator.adapters.dclm import CENTRED, MMLU, TASKS
from curate.comparator.adapters.files import read_rows
from curate.comparator.adapters.flops import SIX_ND, six_nd
from curate.comparator.adapters.wide import MetricColumn, Runs, melt
from curate.comparator.tables import complete, notes_of, with_notes
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

FOLDER = Path(__file__).with_name("published")
STABLE_SHARE = 0.8  # open-sci-ref: warm-up and stable phase take the first four fifths, the decay the last
GADRE_DATASETS = {"c4_original": "C4", "rpj": "RedPajama", "rw_original": "RefinedWeb"}
GADRE_SIZES = {
    10569312: "11M",
    78914048: "79M",
    153677376: "154M",
    411616256: "411M",
    1439795200: "1.4B",
    6889410560: "6.9B",
}
GADRE_17_TASKS = tuple(
    "arc_easy bigbench_cs_algorithms bigbench_dyck_languages bigbench_novel_concepts bigbench_operators "
    "bigbench_qa_wikidata boolq commonsense_qa copa coqa hellaswag hellaswag_zeroshot lambada_openai piqa "
    "pubmed_qa_labeled squad winograd".split()
)
"""The tasks whose mean is `err_avg_subset` (found by solving for it: every weight is 1/17 to nine digits)."""
OPEN_SCI_REF_TASKS = tuple(
    "copa openbookqa lambada_openai winogrande mmlu commonsense_qa piqa arc_challenge arc_easy hellaswag boolq".split()
)
OPEN_SCI_REF_NAMES = {"Nemotron-cc-hq": "Nemotron-CC-HQ", "FineWeb-Edu-1.4T": "FineWeb-Edu"}
OPEN_SCI_REF_PARAMS = {"0.13B": 0.13e9, "0.4B": 0.4e9, "1.3B": 1.3e9, "1.7B": 1.7e9}


@dataclass(frozen=True)
class Example:
    """A published study, ready for `compare(example.table, metric=example.metric, at=example.at, law=example.law)`."""

    name: str
    table: pa.Table
    """Measurements, completed and checked; `notes_of(table)` are its notes too."""
    metric: str
    at: tuple[float, ...]
    """Compute in FLOPs at which to decide."""
    law: str
    notes: tuple[str, ...]
    """What a reader must know: what was left out, what the numbers are not."""
    source: str
    """Repository, commit, licence, paper."""


def load_example(name: str) -> Example:
    """The example called `name`; raises MeasurementError listing the names there are."""
    if name not in EXAMPLES:
        raise MeasurementError(f"There is no example {name!r}; there are {', '.join(EXAMPLES)}.")
    return EXAMPLES[name]()


def dclm() -> Example:
    """133 runs that DCLM's evaluation, model and dataset JSON link, with Core, Extended, MMLU and 53 tasks."""
    runs = read_rows(FOLDER / "dclm_runs.csv")
    measured = melt(Runs(runs, [*CENTRED, MMLU, *TASKS]), where="dclm_runs.csv")
    notes = [
        *measured.notes,
        "one seed nearly everywhere, and learning rate, weight decay and batch size differ between datasets of one "
        "scale: compare matched runs",
        "three runs go on from runs of 4.3e12 and 4.4e12 tokens, and one is an average of weights of such runs "
        "(hyperparameters: variant); their tokens and flops count the last phase only",
        "one run is marked as failed in its JSON and was evaluated nevertheless: OH+ELI5 at 7B-2x, seed 124",
    ]
    return make(
        name="dclm",
        table=measured.table,
        metric="core_v2",
        at=(6 * 6889410560.0 * 137788211200.0,),
        law="power",
        notes=notes,
        source="DataComp-LM (Li et al. 2024, arXiv:2406.11794), github.com/mlfoundations/dclm @ 361714b, MIT",
    )


def open_sci_ref() -> Example:
    """8 datasets x 4 sizes at 300B tokens (3 also at 1T), average of 11 tasks, and the curves before cool-down."""
    rows = []
    others = 0
    for row in read_rows(FOLDER / "open_sci_ref_points.csv"):
        if row["dataset"].startswith("ext:"):
            others += 1
            continue
        size, budget = row["run"].split("/")
        tokens = {"300B": 3e11, "1T": 1e12}[budget]
        dataset = OPEN_SCI_REF_NAMES.get(row["dataset"], row["dataset"])
        scale = f"{size}-{budget}"
        rows.append(open_sci_ref_row(dataset, scale, size, tokens, float(row["avg_downstream"]), cooled_down=True))
    decaying = 0
    for row in read_rows(FOLDER / "open_sci_ref_curves.csv"):
        tokens = 1e9 * float(row["tokens_B"])
        if tokens > STABLE_SHARE * 3e11:
            decaying += 1
            continue
        scale = f"{row['size']}-300B"
        rows.append(
            open_sci_ref_row(row["dataset"], scale, row["size"], tokens, float(row["avg11"]), cooled_down=False)
        )
    notes = [
        "all values were read off vector figures; the curves' ends agree with the points within .002 but for C4 at "
        ".13B (.421 against .427) and Nemotron-CC-HQ at 1.7B (.616 against .623)",
        "one run a cell: the seed noise is not in these data",
        f"{decaying} curve points within the decay (last fifth) and {others} points of other model families left out",
        "params are nominal (.13, .4, 1.3, 1.7 billion), as the source's own FLOPs have them",
    ]
    return make(
        name="open-sci-ref",
        table=pa.Table.from_pylist(rows, schema=SCHEMA),
        metric="avg11",
        at=(6 * 1.7e9 * 3e11,),
        law="power",
        notes=notes,
        source="open-sci-ref-0.01 (Nezhurina et al. 2025, arXiv:2509.09009), github.com/LAION-AI/open-sci-ref-0.01 "
        "@ 0c45a7e, Apache-2.0; values read off its figures",
    )


def open_sci_ref_row(
    dataset: str, scale: str, size: str, tokens: float, value: float, *, cooled_down: bool
) -> dict[str, Any]:
    return {
        "run_id": f"{dataset}/{scale}",
        "dataset": dataset,
        "scale": scale,
        **trained(OPEN_SCI_REF_PARAMS[size], tokens),
        "metric": "avg11",
        "value": value,
        "lower_is_better": False,
        "chance": sum(LM_EVAL[task] for task in OPEN_SCI_REF_TASKS) / len(OPEN_SCI_REF_TASKS),
        "cooled_down": cooled_down,
        "evaluation": "average of 11 tasks",
    }


def gadre() -> Example:
    """104 runs on 3 datasets, 8 losses with their errors and 46 task errors."""
    raw = read_rows(FOLDER / "gadre_runs.csv")
    runs, metrics = [], []
    losses = [c.removeprefix("loss_") for c in raw[0] if c.startswith("loss_") and f"loss_upper_{c[5:]}" in raw[0]]
    for row in raw:
        run: dict[str, Any] = dict(row)
        for name in losses:  # 95% intervals of the evaluation: half the width is 1.96 standard errors
            width = float(row[f"loss_upper_{name}"]) - float(row[f"loss_lower_{name}"])
            run[f"loss_error_{name}"] = width / (2 * 1.96)
        runs.append(
            run
            | {
                "run_id": row["name"],
                "dataset": GADRE_DATASETS[row["dataset_name"]],
                "scale": GADRE_SIZES[int(row["N"])],
                **trained(float(row["N"]), float(row["D"])),
                "cooled_down": True,
                "evaluation": "gadre 2024",
            }
        )
    metrics += [MetricColumn(f"loss_{n}", f"loss/{n}", True, error=f"loss_error_{n}") for n in losses]
    tasks = [c.removeprefix("err_") for c in raw[0] if c.startswith("err_") and "avg" not in c]
    chance = {task: 1 - DCLM_BASELINE["mmlu_fewshot" if task == "mmlu" else task] for task in tasks}
    metrics += [MetricColumn(f"err_{t}", f"error/{t}", True, chance=chance[t]) for t in tasks]
    for column, name, subset in (
        ("err_avg", "error_46_tasks", tuple(tasks)),
        ("err_avg_subset", "error_17_tasks", GADRE_17_TASKS),
    ):
        metrics.append(MetricColumn(column, name, True, chance=sum(chance[t] for t in subset) / len(subset)))
    measured = melt(Runs(runs, metrics), where="gadre_runs.csv")
    notes = [
        *measured.notes,
        "tokens per parameter run from 5 to 640: a law of compute alone does not fit, params and tokens are needed",
        "one run a cell: the seed noise is not in these data",
        "chance levels of task errors are 1 - DCLM's random baselines",
    ]
    return make(
        name="gadre",
        table=measured.table,
        metric="loss/c4_val",
        at=(1e20, 6 * 6889410560.0 * 137788211200.0),
        law="chinchilla",
        notes=notes,
        source="Language models scale reliably with over-training (Gadre et al. 2024, arXiv:2403.08540), "
        "github.com/mlfoundations/scaling @ a003c49, MIT",
    )


EXAMPLES: dict[str, Callable[[], Example]] = {"dclm": dclm, "open-sci-ref": open_sci_ref, "gadre": gadre}


def make(
    *, name: str, table: pa.Table, metric: str, at: tuple[float, ...], law: str, notes: list[str], source: str
) -> Example:
    """The example with its table completed and checked like any other."""
    checked = with_notes(complete(table, where=name), notes)
    return Example(name, checked, metric, at, law, notes_of(checked), source)


def trained(params: float, tokens: float) -> dict[str, Any]:
    """What a run of open-sci-ref's and Gadre's was trained with, in columns of SCHEMA."""
    return {
        "params": params,
        "tokens": tokens,
        "token_unit": "tokens",
        "tokenizer": "EleutherAI/gpt-neox-20b",
        "flops": six_nd(params, tokens),
        "flops_convention": SIX_ND,
    }
