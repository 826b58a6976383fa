"""Coordinate checks of the parametrisations: width x16 at a fixed depth, and depth x16 at a fixed width.

    OMP_NUM_THREADS=1 python benchmarks/training/coordinate_check.py --out benchmarks/training/coordinate_check.json

Base: 32 x 2, heads of 16 channels, tied. Text of a seeded Markov chain over 256 tokens, one batch of 8 sequences of 64,
10 steps of AdamW at learning rate .01, 4 seeds. What is stored: the size of every activation before and after, how much
it changed, and the slope of the logarithm of that by the logarithm of width or depth. Bars: under mup and completep all
blocks and what was learnt of the logits within .2 of flat over widths, under standard the stream steeper than .5; over
depths what was learnt of the logits within .2 under completep. All logits over widths, and the stream over depths, fall
to their limits with the part that is random from the start; their slopes are stored too. A picture goes beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib as mpl
import torch

from curate.proxy_training.network.coordinate_check import CoordinateCheck, at_width, coordinate_check
from curate.proxy_training.network.shape import ModelShape

mpl.use("Agg")
import matplotlib.pyplot as plt

BASE = ModelShape(256, 32, 2, 2, 96, 64)
WIDTHS = (32, 64, 128, 256, 512)
DEPTHS = (2, 4, 8, 16, 32)
KINDS = ("standard", "mup", "completep")
LEARNING_RATE, STEPS, SEEDS = 0.01, 10, (0, 1, 2, 3)
NAMES = {"stream": "residual stream, last block", "logits": "logits", "answer": "logit of the right token"}
COLOURS = {"standard": "#D55E00", "mup": "#0072B2", "completep": "#009E73"}


def markov_text(vocab_size: int, sequences: int, length: int, *, seed: int) -> torch.Tensor:
    """Sequences of a chain whose transitions are drawn once: there is something to learn in ten steps."""
    generator = torch.Generator().manual_seed(seed)
    transitions = torch.randn(vocab_size, vocab_size, generator=generator).mul(2).softmax(-1)
    tokens = [torch.randint(0, vocab_size, (sequences,), generator=generator)]
    for _ in range(length):
        tokens.append(torch.multinomial(transitions[tokens[-1]], 1, generator=generator).squeeze(1))
    return torch.stack(tokens, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    text = markov_text(BASE.vocab_size, 8, 64, seed=0)
    axes = {
        "width": [at_width(BASE, width) for width in WIDTHS],
        "width, wider heads": [at_width(BASE, width, grow="head_width") for width in WIDTHS],
        "layers": [replace(BASE, layers=layers) for layers in DEPTHS],
    }
    checks: dict[str, dict[str, CoordinateCheck]] = {}
    start = time.process_time()
    for axis, shapes in axes.items():
        checks[axis] = {
            kind: coordinate_check(BASE, shapes, text, kind=kind, learning_rate=LEARNING_RATE, steps=STEPS, seeds=SEEDS)
            for kind in KINDS
        }
        for kind, check in checks[axis].items():
            print(axis, kind, {name: round(slope, 2) for name, slope in check.slopes().items()}, flush=True)
    result = {
        "what": __doc__.splitlines()[0],
        "base": asdict(BASE),
        "learning_rate": LEARNING_RATE,
        "steps": STEPS,
        "seeds": SEEDS,
        "checks": {
            axis: {
                kind: {
                    "slopes_of_change": check.slopes(),
                    "slopes_after": check.slopes("after"),
                    "rows": [asdict(row) for row in check.rows],
                }
                for kind, check in kinds.items()
            }
            for axis, kinds in checks.items()
        },
        "bars": bars(checks),
        "cpu_seconds": time.process_time() - start,
        "load": os.getloadavg(),
        "machine": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    draw(checks, out.with_suffix(".png"))
    print(json.dumps(result["bars"], indent=1))


def bars(checks: dict[str, dict[str, CoordinateCheck]]) -> dict[str, dict]:
    """Each bar with what was measured."""
    found: dict[str, dict] = {}
    for axis in ("width", "width, wider heads"):
        for kind in ("mup", "completep"):
            slopes = checks[axis][kind].slopes()
            name, slope = max(((n, s) for n, s in slopes.items() if n != "logits"), key=lambda one: abs(one[1]))
            found[f"{kind} flat over {axis}"] = {"steepest": name, "slope": slope, "holds": abs(slope) < 0.2}
        slope = checks[axis]["standard"].slopes()["stream"]
        found[f"standard grows over {axis}"] = {"steepest": "stream", "slope": slope, "holds": slope > 0.5}
    slope = checks["layers"]["completep"].slopes()["answer"]
    found["completep flat over layers"] = {"steepest": "answer", "slope": slope, "holds": abs(slope) < 0.2}
    return found


def draw(checks: dict[str, dict[str, CoordinateCheck]], path: Path) -> None:
    """Change of three activations by width and by depth, one line a parametrisation."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 6.5), dpi=100, constrained_layout=True)
    for row, axis in enumerate(("width", "layers")):
        for panel, name in zip(panels[row], NAMES, strict=True):
            for kind in KINDS:
                some = [one for one in checks[axis][kind].rows if one.activation == name]
                slope = checks[axis][kind].slopes()[name]
                style = "--" if kind == "completep" else "-"
                panel.plot(
                    [getattr(one, axis) for one in some],
                    [one.change for one in some],
                    style,
                    marker="o",
                    color=COLOURS[kind],
                    label=f"{kind} (slope {slope:+.2f})",
                )
            panel.set_xscale("log", base=2)
            panel.set_yscale("log", base=2)
            panel.set_xlabel("width (channels)" if axis == "width" else "depth (blocks)")
            panel.set_ylabel("root mean square of the change")
            panel.set_title(f"{NAMES[name]}, by {'width' if axis == 'width' else 'depth'}", fontsize=10)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
    figure.suptitle(f"Change of activations in {STEPS} steps at learning rate {LEARNING_RATE}: flat is right")
    figure.savefig(path)


if __name__ == "__main__":
    main()
