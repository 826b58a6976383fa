"""What branching costs: losses of decayed branches of one trunk against separate trainings of the same budgets.

    OMP_NUM_THREADS=1 python -m benchmarks.training.branching --out benchmarks/training/branching.json

Two rungs, two seeds, budgets D/4, D/2, D; the same weights and data order at the start. Separate trainings are made
three ways: with the branches' warm-up (bar: .3%; they should end at the same loss, bit for bit); with the warm-up that
the rule gives for that budget alone; and, on the small rung, with the best of three learning rates for that budget
alone, which is what a common trunk gives up. The last two take other paths, so that they differ by the noise of a
training, too: their mean difference is given with its standard error. Cosine at the same peak is shown beside them.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.training.many import SEQUENCE_LENGTH, Bench, hand_in
from curate.proxy_training.planning.ladder_file import Scale

SEEDS = (0, 1)
BUDGETS = (65_536, 131_072, 262_144)
BATCH_SEQUENCES = 8
RUNGS = (
    Scale(name="w32", width=32, layers=2, heads=2, ffn=96, budgets_tokens=BUDGETS, batch_sequences=BATCH_SEQUENCES),
    Scale(name="w64", width=64, layers=2, heads=4, ffn=176, budgets_tokens=BUDGETS, batch_sequences=BATCH_SEQUENCES),
)
BAR = 0.003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rows = [row for rung in RUNGS for row in _rung(bench, rung, rates=rung is RUNGS[0])]
    result = {
        "what": __doc__.split("\n")[0],
        "seeds": SEEDS,
        "batch_tokens": BATCH_SEQUENCES * SEQUENCE_LENGTH,
        **summary(rows),
        "rows": rows,
        "cpu_seconds": round(time.process_time()),
    }
    hand_in(result, load, chosen.out)


def summary(rows: list[dict]) -> dict:
    """What the rows say together."""
    equal = all(row["same_warm_up_equal"] for row in rows if "same_warm_up_equal" in row)
    # at the shortest budget the warm-up of its own is the branch's, so there is nothing to compare
    pairs = [
        a / b - 1
        for row in rows
        if row["tokens"] > BUDGETS[0]
        for a, b in zip(row["branch"], row["own_warm_up"]["losses"], strict=True)
    ]
    return {
        "bar": f"branch against a separate training with the same warm-up <= {BAR:.1%}",
        "same_warm_up_is_bitwise_equal": equal,
        "holds": equal,
        "own_warm_up_difference": statistics.mean(pairs),
        "own_warm_up_standard_error": statistics.stdev(pairs) / math.sqrt(len(pairs)),
        "cosine_difference": statistics.mean(row["cosine"]["difference"] for row in rows if "cosine" in row),
    }


def _rung(bench: Bench, rung: Scale, *, rates: bool) -> list[dict]:
    """A row for each budget: differences are (branch - separate) / separate, means over seeds."""

    def losses(budgets: tuple[int, ...], **changes: object) -> list[dict[int, float]]:
        procedure = {"schedule": changes.pop("schedule", "wsd")}
        scale = rung.model_copy(update={"budgets_tokens": budgets, **changes})
        found = bench.losses([bench.run(scale, seed, procedure) for seed in SEEDS])
        print(f"{time.process_time():6.0f} s  {rung.name} {budgets} {changes} {found}", flush=True)
        return found

    trunk = bench.run(rung, 0, {})
    branches = losses(BUDGETS)
    rows = []
    for budget in BUDGETS:
        mine = [found[budget] for found in branches]
        own = [found[budget] for found in losses((budget,))]
        row: dict = {"rung": rung.name, "params": trunk.shape.params, "tokens": budget, "branch": mine}
        row["own_warm_up"] = {"losses": own, "difference": _difference(mine, own)}
        if budget == BUDGETS[0]:  # the shortest budget sets the warm-up: its separate training is the branch
            row["same_warm_up_equal"] = own == mine
        elif budget == BUDGETS[1]:
            row["same_warm_up_equal"] = mine == [
                found[budget] for found in losses((budget,), warmup_steps=trunk.warmup_steps)
            ]
        if budget != BUDGETS[-1]:
            cosine = [found[budget] for found in losses((budget,), schedule="cosine")]
            row["cosine"] = {"losses": cosine, "difference": _difference(mine, cosine)}
        if rates:
            by_rate = {1.0: own} | {
                factor: [found[budget] for found in losses((budget,), learning_rate=trunk.learning_rate * factor)]
                for factor in (0.5, 2.0)
            }
            best = min(by_rate, key=lambda factor: statistics.mean(by_rate[factor]))
            row["own_rate"] = {
                "losses": {str(factor): by_rate[factor] for factor in sorted(by_rate)},
                "best_factor": best,
                "difference": _difference(mine, by_rate[best]),
            }
        rows.append(row)
    deviations = [statistics.stdev(row["branch"]) / statistics.mean(row["branch"]) for row in rows]
    for row in rows:
        row["sigma_over_seeds"] = math.sqrt(statistics.mean(d**2 for d in deviations))
    return rows


def _difference(branch: list[float], separate: list[float]) -> float:
    """Mean over seeds, paired."""
    return statistics.mean(a / b - 1 for a, b in zip(branch, separate, strict=True))


if __name__ == "__main__":
    main()
