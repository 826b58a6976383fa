"""How initial weights, learning rates and multipliers follow from width and depth: `standard`, `mup`, `completep`.

Everything is a pure function of a parameter's name, so that model and optimiser read the same rule. At the base
width, depth and head width all three are the same training. Optimisers: parameter `name` (as `named_parameters`
names it, of a plain model or a stack) takes rate x `learning_rate_multiplier(name)`, decay x
`weight_decay_multiplier(name, decayed)` (0 for what does not decay) and eps x `adam_eps_multiplier(name)`.
Sources: mup: Yang et al. 2022, Tensor Programs V, table 8; completep: Dey et al. 2025, table 1, alpha = 1.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from curate.proxy_training.network.shape import ModelShape

if TYPE_CHECKING:
    from curate.proxy_training.planning.rules import RuleConstants

Kind = Literal["standard", "mup", "completep"]
Role = Literal["embedding", "hidden", "output", "norm", "bias"]
Decayed = Literal["matrices", "embeddings", "all"]
"""Which weights decay: matrices of blocks and an untied head; also embeddings; also norms and biases."""

INTO_THE_STREAM = ("attention_out.weight", "down.weight")


def role(name: str) -> Role:
    """What the parameter called `name` is; the same for a plain model and a stack."""
    if name.endswith(".bias"):
        return "bias"
    if name.endswith(("norm.weight", "_scale")):
        return "norm"
    if name.endswith("embedding.weight"):
        return "embedding"
    return "output" if name.endswith("head.weight") else "hidden"


@dataclass(frozen=True)
class Parametrisation:
    """A rule at one shape, relative to the shape where its constants were tuned."""

    shape: ModelShape
    """The model."""
    kind: Kind
    """standard: everything at the rate of the procedure; mup: width; completep: width and depth."""
    base_width: int
    """Width at which the learning rate was tuned."""
    base_layers: int
    """Depth at which it was tuned (completep only)."""
    base_head_width: int
    """Channels of a head at which it was tuned: attention's scale is the usual one there."""

    @classmethod
    def of(cls, shape: ModelShape, rules: "RuleConstants") -> "Parametrisation":
        """As a procedure says."""
        return cls(shape, rules.parametrisation, rules.base_width, rules.base_layers, rules.base_head_width)

    @classmethod
    def standard(cls, shape: ModelShape) -> "Parametrisation":
        """Without multipliers."""
        return cls(shape, "standard", shape.width, shape.layers, shape.head_width)

    @property
    def wider(self) -> float:
        """m_N: width over the base's; 1 under `standard`."""
        return 1.0 if self.kind == "standard" else self.shape.width / self.base_width

    @property
    def deeper(self) -> float:
        """m_L: depth over the base's; 1 but under `completep`."""
        return self.shape.layers / self.base_layers if self.kind == "completep" else 1.0

    def initial_std(self, name: str, shape: tuple[int, ...]) -> float:
        """Standard deviation of the initial weights of a matrix of `shape` (rows, columns)."""
        if role(name) in ("embedding", "output"):
            return (shape[-1] / self.wider) ** -0.5
        std = shape[-1] ** -0.5
        if name.endswith(INTO_THE_STREAM):
            std /= math.sqrt(2 * self.shape.layers / self.deeper)
        return std

    def learning_rate_multiplier(self, name: str) -> float:
        """Times the procedure's learning rate."""
        return 1 / self.wider if role(name) == "hidden" else 1.0

    def weight_decay_multiplier(self, name: str, decayed: Decayed = "matrices") -> float:
        """Times the procedure's weight decay; rate x decay does not depend on the width."""
        kind = role(name)
        if kind == "embedding":
            return 0.0 if decayed == "matrices" else 1.0
        if kind in ("norm", "bias"):
            return 1.0 if decayed == "all" else 0.0
        return self.wider if kind == "hidden" else 1.0

    def adam_eps_multiplier(self, name: str) -> float:
        """Times the procedure's eps: gradients shrink with the width, those inside the blocks with the depth too."""
        return 1 / (self.wider * (self.deeper if name.startswith("blocks.") else 1.0))

    @property
    def attention_scale(self) -> float | None:
        """Times query x key; None is 1/sqrt(d_head), else proportional to 1/d_head."""
        return None if self.kind == "standard" else self.base_head_width**0.5 / self.shape.head_width

    @property
    def output_multiplier(self) -> float:
        """Times the logits."""
        return 1 / self.wider

    @property
    def residual_multiplier(self) -> float:
        """Times what each half block adds to the residual stream."""
        return 1 / self.deeper
