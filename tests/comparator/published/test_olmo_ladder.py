"""OLMo ladder (Bhagia et al. 2024, arXiv:2412.04403): two-step predictions of a 7B and a 13B model from 16 small runs.

Data: allenai/OLMo-ladder (Apache-2.0), read beside the project. Step 1: Chinchilla by Huber(1e-3) on the log of the
task's bits per byte, mean of each run's last five evaluations. Step 2: sigmoid by least squares on every evaluation
but the first tenth, trailing means of five, with a perfect score at no loss as one more point and a in [-1, 0],
b in [0, 1]. Actual values are means of the target's last five evaluations (its only one at 7B).
"""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from curate.comparator.chains import Checkpoints, TwoStep, fit_one_step, fit_two_step, smooth
from curate.comparator.laws import Inputs

PUBLISHED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "published"
FOLDER = PUBLISHED / "allenai_OLMo-ladder"
MMLU = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}  # their weights
TASKS = {
    "MMLU": {f"mmlu_{k}_test": w for k, w in MMLU.items()},
    "HellaSwag": {"hellaswag_val": 1.0},
    "PIQA": {"piqa_val": 1.0},
    "SIQA": {"socialiqa_val": 1.0},
    "ARC-C": {"arc_challenge_test": 1.0},
    "ARC-E": {"arc_easy_test": 1.0},
    "CSQA": {"csqa_val": 1.0},
    "OBQA": {"openbookqa_test": 1.0},
}
PRINTED_AT_7B = {  # predicted / actual, per cent
    "MMLU": (48.4, 49.0),
    "HellaSwag": (82.5, 81.3),
    "PIQA": (81.2, 82.0),
    "SIQA": (58.7, 59.9),
    "ARC-C": (51.5, 61.9),
}
STORED_AT_13B = {  # their figures/chained_main.csv
    "MMLU": (0.5126799915287485, 0.5161402368605137),
    "HellaSwag": (0.8530359563499285, 0.831905996799469),
    "ARC-C": (0.5267099358093748, 0.638054609298706),
    "ARC-E": (0.7724156000459201, 0.8717171669006347),
    "PIQA": (0.820804177694882, 0.8295973896980285),
    "CSQA": (0.7760887505172276, 0.7410319447517395),
    "SIQA": (0.5994822062474122, 0.6159672379493714),
    "OBQA": (0.4486477676972386, 0.4863999903202057),
}
TOKENS_AT_7B = 3945065873408.0  # its file's step column holds tokens
WINDOW = 5

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="published runs are not beside the project")


@dataclass(frozen=True)
class Ladder:
    """One task on the ladder: last points of the runs, all checkpoints, and the two targets (N, D, actual)."""

    inputs: Inputs
    losses: np.ndarray
    metric: np.ndarray
    runs: tuple[str, ...]
    checkpoints: Checkpoints
    targets: Inputs
    actual: np.ndarray


@cache
def rows(path: str) -> list[dict[str, str]]:
    with open(FOLDER / "ladder-runs" / path.rsplit("/", 1)[-1]) as lines:
        return list(csv.DictReader(lines))


@cache
def ladder(task: str) -> Ladder:
    with open(FOLDER / "final.json") as text:
        models = json.load(text)
    small, large, names = [], [], []
    parts: list[tuple[str, np.ndarray, np.ndarray]] = []
    for label, model in models.items():
        for path in model["paths"]:
            evaluations = rows(path)
            loss, metric = (
                np.average(
                    [[float(r[before + k + after]) for r in evaluations] for k in TASKS[task]],
                    axis=0, weights=list(TASKS[task].values()),
                )
                for before, after in (
                    ("eval/downstream_bpb/", "_rc_5shot_bpb"),
                    ("eval/downstream/", "_rc_5shot_len_norm"),
                )
            )  # fmt: skip
            last = evaluations[-1]
            tokens = float(last.get("throughput/total_tokens") or last["_step"])
            if "throughput/total_tokens" not in last and not label.startswith("7B"):
                tokens *= float(last["batch_size_in_tokens"])
            point = (model["n"], tokens, loss[-WINDOW:].mean(), metric[-WINDOW:].mean())
            if model["mode"] == "eval":
                large.append(point)
                continue
            name = path.rsplit("/", 1)[-1].removesuffix(".csv")
            small.append(point)
            names.append(name)
            parts.append((name, loss, metric))
    columns, targets = np.array(small).T, np.array(large).T
    assert len(names) == 16 and targets[1, 0] == TOKENS_AT_7B
    return Ladder(
        inputs={"params": columns[0], "tokens": columns[1]},
        losses=columns[2],
        metric=columns[3],
        runs=tuple(names),
        checkpoints=smooth(
            Checkpoints(
                np.concatenate([[n] * len(v) for n, v, _ in parts]),
                np.concatenate([v for _, v, _ in parts]),
                np.concatenate([m for _, _, m in parts]),
            ),
            window=WINDOW,
            skip_share=0.1,
        ),
        targets={"params": targets[0], "tokens": targets[1]},
        actual=targets[3],
    )


@cache
def chain(task: str, draws: int = 0) -> TwoStep:
    data = ladder(task)
    return fit_two_step(
        data.inputs, data.losses, data.runs, data.checkpoints,
        first="chinchilla", second="sigmoid", second_bounds={"a": (-1.0, 0.0), "b": (0.0, 1.0)},
        anchors=[(0.0, 1.0)], draws=draws, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize("task", PRINTED_AT_7B)
def test_predictions_and_actual_values_at_7b_are_the_printed_ones(task: str) -> None:
    predicted = chain(task).predict(ladder(task).targets).metric[0]
    assert (f"{100 * predicted:.1f}", f"{100 * ladder(task).actual[0]:.1f}") == tuple(
        f"{value:.1f}" for value in PRINTED_AT_7B[task]
    )


@pytest.mark.parametrize("task", TASKS)
def test_predictions_at_13b_are_the_stored_ones_on_all_eight_tasks(task: str) -> None:
    predicted = chain(task).predict(ladder(task).targets).metric[1]
    assert predicted == pytest.approx(STORED_AT_13B[task][0], abs=2e-5)
    assert ladder(task).actual[1] == pytest.approx(STORED_AT_13B[task][1], abs=1e-9)


def test_the_certificates_name_what_ended_at_a_bound() -> None:
    assert chain("CSQA").first.certificate.at_bound == ("E",)  # no irreducible loss in their CSQA law
    assert chain("MMLU").second.certificate.at_bound == ("b",)  # the sigmoid's ceiling is its bound, a perfect score
    assert all(chain(task).first.certificate.converged for task in TASKS)


def test_intervals_by_run_hold_two_thirds_of_the_targets_and_are_no_promise() -> None:
    """95% percentile intervals over resampled runs cover 11 of 16 targets (8 tasks at 7B and 13B): the chain's form
    fails on ARC-E and CSQA, and no resampling of small runs can know that. Seed 0, 100 draws.
    """
    covered = {}
    for task in TASKS:
        data, predicted = ladder(task), chain(task, 100).predict(ladder(task).targets)
        inside = (predicted.metric_low <= data.actual) & (data.actual <= predicted.metric_high)
        covered[task] = inside.tolist()
        assert (predicted.metric_low < predicted.metric).all() and (predicted.metric < predicted.metric_high).all()
    assert 8 <= sum(map(sum, covered.values())) <= 13, covered
    assert all(covered["MMLU"]) and all(covered["HellaSwag"])


def test_one_step_from_size_and_tokens_misses_by_more_than_two() -> None:
    """Mean relative error at 7B over five tasks: 7.7% in one step, 4.5% in two."""
    one, two = [], []
    for task in ("MMLU", "HellaSwag", "PIQA", "SIQA", "ARC-C"):
        data = ladder(task)
        direct = fit_one_step(data.inputs, data.metric)
        one.append(abs(direct.predict(data.targets)[0] / data.actual[0] - 1))
        two.append(abs(chain(task).predict(data.targets).metric[0] / data.actual[0] - 1))
    assert np.mean(two) < np.mean(one)
