"""The presets against the tables that they are from: what comes out of the shapes and rules, and what is printed.

    python -m benchmarks.training.formulas --out benchmarks/training/formulas.json

Nothing is trained. A printed number agrees to the precision that it is printed with. The last table is where the rule
that a preset names would give something else than its table, which is what the ladder uses.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from curate.proxy_training.planning.ladder_file import load_ladder
from curate.proxy_training.planning.plan import LadderPlan, Rung, plan_ladder

PRESETS = ("open_sci_ref", "dclm", "datadecide")
THROUGHPUT = (
    ("0.13B", "A100", 87_710, 114),
    ("0.4B", "A100", 44_550, 157),
    ("1.3B", "A100", 16_800, 172),
    ("1.7B", "A100", 14_490, 184),
    ("1.7B", "H100", 29_170, 370),
)
"""open-sci-ref's tokens a GPU and second, and TFLOP/s: their quotient is its FLOPs a token, attention counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    plans = {name: plan_ladder(load_ladder(name)) for name in PRESETS}
    found = {
        "what": "presets against the tables that they are from",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "presets": {name: [_rung(rung) for rung in plan.rungs] for name, plan in plans.items()},
        "flops_exact": [_throughput(plans["open_sci_ref"], *row) for row in THROUGHPUT],
    }
    for name, plan in plans.items():
        _tell(name, plan)
    for row in found["flops_exact"]:
        print(f"{row['scale']:>6} on {row['device']}: {row['printed']} TFLOP/s printed, {row['ours']:.1f} by our count")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _rung(rung: Rung) -> dict[str, Any]:
    return {
        "scale": rung.scale.name,
        "params": rung.shape.params,
        "params_stored": rung.shape.params_stored,
        "flops_per_token": rung.shape.flops_per_token,
        "steps": [budget.steps for budget in rung.budgets],
        "tokens": [budget.tokens for budget in rung.budgets],
        "as_printed": [f"{what} {text}" for what, text in rung.agrees],
        "otherwise": list(rung.notes),
        "rule_would_give": dict(rung.rule_differs),
    }


def _throughput(plan: LadderPlan, scale: str, device: str, tokens_per_second: float, printed: float) -> dict[str, Any]:
    shape = next(rung.shape for rung in plan.rungs if rung.scale.name == scale)
    ours = shape.flops_per_token_exact * tokens_per_second / 1e12
    return {"scale": scale, "device": device, "tokens_per_second": tokens_per_second, "printed": printed, "ours": ours}


def _tell(name: str, plan: LadderPlan) -> None:
    fields = sorted({field for rung in plan.rungs for field in rung.rule_differs})
    print(f"{name}: {sum(len(rung.agrees) for rung in plan.rungs)} printed numbers agree")
    for note in dict.fromkeys(note for rung in plan.rungs for note in rung.notes):
        print(f"  otherwise: {note}")
    print("| scale | " + " | ".join(fields) + " |\n|" + "---|" * (len(fields) + 1))
    for rung in plan.rungs:
        if rung.rule_differs:
            cells = (rung.rule_differs.get(field, "the same") for field in fields)
            print(f"| {rung.scale.name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
