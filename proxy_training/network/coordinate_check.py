"""Whether a parametrisation does what it says: sizes of activations and logits after a few steps, over width or depth.

The check of Tensor Programs V (Yang et al. 2022, appendix D.1): models that differ by their width alone take the same
few AdamW steps on the same batch; the root mean square of what an activation *changed* by must not depend on the width.
Under `mup` the slope of log change by log width is about 0; under `standard`, one learning rate for all, it is about 1.
Logits fall towards their limit, since the random head's part of them goes with the root of the width (as the random
blocks' part of the stream goes with that of the depth under `completep`); `answer`, what was learnt of them, is flat.
Seeds are the members of one stack. Widths 32 to 512, 4 seeds: half a minute of one core.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from curate.errors import RecipeError
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.optimiser import AdamSettings, make_optimiser, tensor_rules
from curate.proxy_training.network.parametrisation import Kind, Parametrisation
from curate.proxy_training.network.shape import ModelShape

SETTINGS = AdamSettings(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, clip_norm=math.inf)
Grow = Literal["heads", "head_width"]


@dataclass(frozen=True)
class ActivationSize:
    """One activation of one shape; root mean squares over entries and seeds."""

    activation: str
    """embedding, "attention 0", "swiglu 0", "stream 0", ..., stream (of the last block), logits, answer."""
    width: int
    """d."""
    layers: int
    """L."""
    before: float
    """At the start."""
    after: float
    """After the steps."""
    change: float
    """Of the difference."""


@dataclass(frozen=True)
class CoordinateCheck:
    """The table of a check, and its slopes."""

    kind: Kind
    """Parametrisation."""
    rows: tuple[ActivationSize, ...]
    """Shapes x activations."""

    def slopes(self, column: Literal["before", "after", "change"] = "change") -> dict[str, float]:
        """Slope of the log of `column` by log width, or by log depth if that is what changes; 0 is flat. Of the
        activations that all shapes have."""
        shapes = dict.fromkeys((row.width, row.layers) for row in self.rows)
        axis = "width" if len({width for width, _ in shapes}) > 1 else "layers"
        slopes = {}
        for name in dict.fromkeys(row.activation for row in self.rows):
            some = [row for row in self.rows if row.activation == name]
            if len(some) == len(shapes):
                sizes = np.log([getattr(row, column) for row in some])
                slopes[name] = float(np.polyfit(np.log([getattr(row, axis) for row in some]), sizes, 1)[0])
        return slopes


def coordinate_check(
    base: ModelShape,
    shapes: Sequence[ModelShape],
    sequences: Tensor,
    *,
    kind: Kind,
    learning_rate: float,
    steps: int = 10,
    seeds: Sequence[int] = (0, 1, 2, 3),
) -> CoordinateCheck:
    """Train each of `shapes` for `steps` steps on `sequences` (B, T+1), and measure its activations there before and
    after; `base` is where the learning rate holds."""
    rows: list[ActivationSize] = []
    for shape in shapes:
        rule = Parametrisation(
            shape, kind, base_width=base.width, base_layers=base.layers, base_head_width=base.head_width
        )
        model = Proxy(shape, members=len(seeds), parametrisation=rule).initialise(seeds)
        stacked = sequences.expand(len(seeds), *sequences.shape)
        optimiser = make_optimiser(model, SETTINGS, tensor_rules(model, rule), members=len(seeds))
        before = activations(model, stacked)
        for _ in range(steps):
            model(stacked)[0].sum().backward()
            optimiser.step([learning_rate] * len(seeds))
        after = activations(model, stacked)
        for name, start in before.items():
            sizes = map(root_mean_square, (start, after[name], after[name] - start))
            rows.append(ActivationSize(name, shape.width, shape.layers, *sizes))
    return CoordinateCheck(kind, tuple(rows))


def at_width(base: ModelShape, width: int, *, grow: Grow = "heads") -> ModelShape:
    """`base` at another width: SwiGLU in proportion, heads more or wider."""
    if width * base.ffn % base.width or (grow == "heads" and width % base.head_width):
        raise RecipeError(f"width {width} is not one that {base} can grow to: heads of {base.head_width}.")
    ffn = width * base.ffn // base.width
    if grow == "head_width":
        return replace(base, width=width, ffn=ffn)
    heads = width // base.head_width
    return replace(base, width=width, ffn=ffn, heads=heads, kv_heads=heads * base.groups // base.heads)


def activations(model: Proxy, sequences: Tensor) -> dict[str, Tensor]:
    """What each part of `model` says on `sequences` (..., T+1), by name, without gradients; `answer` is the logit of
    the right token over the mean logit, averaged over positions."""
    caught: dict[str, Tensor] = {}
    parts: list[tuple[str, nn.Module]] = [("embedding", model.embedding)]
    for layer, block in enumerate(model.blocks):
        children = dict(block.named_children())
        parts += [(f"attention {layer}", children["attention_out"]), (f"swiglu {layer}", children["down"])]
        parts += [(f"stream {layer}", block)]

    def catch(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            caught[name] = output.detach().clone()

        return hook

    hooks = [part.register_forward_hook(catch(name)) for name, part in parts]
    try:
        with torch.no_grad():
            logits = model.logits(sequences[..., :-1])
    finally:
        for hook in hooks:
            hook.remove()
    right = logits.gather(-1, sequences[..., 1:, None]).squeeze(-1)
    answer = (right - logits.mean(-1)).mean((-2, -1))
    last = caught[f"stream {len(model.blocks) - 1}"]
    return {name: caught[name] for name, _ in parts} | {"stream": last, "logits": logits, "answer": answer}


def root_mean_square(x: Tensor) -> float:
    """Of all entries."""
    return float(x.double().square().mean().sqrt())
