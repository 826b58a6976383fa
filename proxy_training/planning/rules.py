"""Named rules for learning rate, batch, warm-up and weight decay: each a row of constants of one family of power laws.

    B(N, D)        base_batch_tokens (N / base_params)^batch_exponent (D / base_tokens)^batch_data_exponent
    batch          B(N, D) within [batch_tokens_min, batch_tokens_max], in whole sequences
    learning rate  base_learning_rate (N / base_params)^learning_rate_exponent
                   x (D / base_tokens)^learning_rate_data_exponent x (batch / B(N, D))^batch_carry_over,
                   at most learning_rate_max

N is blocks + norms + V d, or without V d where a rule's authors counted so; D is the longest budget of the scale, since
the branches of a run share one trunk and so one learning rate. Under `mup` and `completep` the law is flat in N, and
what changes with width and depth is each weight's share of the rate (parametrisation.py). Pure; no torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curate.errors import RecipeError
from curate.proxy_training.network.parametrisation import Decayed

DEFAULT_RULE = "mup"
"""Of the rules that were measured at the sizes of a laptop it gives up least (docs/procedure.md)."""
NO_BOUND = 2**40
"""A batch, in tokens, that no rule reaches."""

NOT_OF_RATE_AND_BATCH = {
    *("warmup_tokens_per_param", "fixed_warmup_steps", "warmup_fraction"),
    *("weight_decay", "weight_decay_on", "final_learning_rate"),
}
"""Constants of a rule that move neither learning rate nor batch."""


@dataclass(frozen=True)
class Size:
    """What a rule is asked about."""

    params: int
    """N = blocks + norms + V d."""
    params_non_embedding: int
    """Blocks and norms."""
    budgets_tokens: tuple[int, ...]
    """Budgets of the scale, rising."""

    @property
    def tokens(self) -> int:
        """D: the longest budget, whose trunk all others branch from."""
        return self.budgets_tokens[-1]


@dataclass(frozen=True)
class Rule:
    """A named set of constants: what differs from the defaults of RuleConstants, where it is from, where it holds."""

    name: str
    """What a ladder file calls it."""
    summary: str
    """One sentence."""
    source: str
    """Publication or measurement."""
    params_range: tuple[float, float]
    """Smallest and largest N (as the rule counts it) that it was found on."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RuleConstants."""

    def outside(self, size: Size) -> str | None:
        """A sentence if `size` lies outside what the rule was found on, else None."""
        non_embedding = self.constants.get("model_size") == "non_embedding"
        params = size.params_non_embedding if non_embedding else size.params
        low, high = self.params_range
        if low <= params <= high:
            return None
        kind = "non-embedding parameters" if non_embedding else "parameters"
        return (
            f"rule {self.name!r} was found on {low / 1e6:g}M to {high / 1e6:g}M {kind}; {params / 1e6:.3g}M is "
            "outside: tune it (`curate train tune`) before you trust it."
        )


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "measured",
            "DataDecide's laws with batches bounded for small budgets, the rate carried over by the root of the batch.",
            "Magnusson et al. 2025 (arXiv 2504.11393); bounds and carry-over measured here, docs/procedure.md",
            (0.05e6, 1.2e9),
        ),
        Rule(
            "datadecide",
            "Rate .0047 (N/108M)^(-1/3), batch 160 (N/108M)^(2/3) sequences of 2,048, warm-up N tokens.",
            "Magnusson et al. 2025 (arXiv 2504.11393), after Porian et al. 2024; 100 tokens a parameter",
            (3.7e6, 1.2e9),
            {
                "learning_rate_max": 1.0,
                "batch_tokens_min": 1,
                "batch_tokens_max": NO_BOUND,
                "batch_carry_over": 0.0,
                "warmup_fraction": 0.5,
            },
        ),
        Rule(
            "steplaw",
            "Rate 1.79 N^-.713 D^.307, batch .58 D^.571 tokens; N without embeddings, D the longest budget.",
            "Li et al. 2025 (arXiv 2503.04715 v7; v1 printed 1.78 and .712); cosine to 1e-5, warm-up 2,000 steps",
            (60e6, 1.1e9),
            {
                "model_size": "non_embedding",
                "base_params": 1.0,
                "base_tokens": 1.0,
                "base_learning_rate": 1.79,
                "learning_rate_exponent": -0.713,
                "learning_rate_data_exponent": 0.307,
                "learning_rate_max": 1.0,
                "base_batch_tokens": 0.58,
                "batch_exponent": 0.0,
                "batch_data_exponent": 0.571,
                "batch_tokens_min": 1,
                "batch_tokens_max": NO_BOUND,
                "batch_carry_over": 0.0,
                "fixed_warmup_steps": 2000,
                "weight_decay": 0.1,
                "final_learning_rate": 1e-5,
            },
        ),
        Rule(
            "open_sci_ref",
            "Rate 4e-3, batch 4.19M tokens at every size; warm-up 1,000 steps (25,000 in its 300B and 1T rows).",
            "Nezhurina et al. 2025 (open-sci-ref 0.01), tuned once at 1.3B parameters and 50B tokens",
            (0.13e9, 1.71e9),
            {
                "base_learning_rate": 4e-3,
                "learning_rate_exponent": 0.0,
                "learning_rate_max": 1.0,
                "base_batch_tokens": 2.0**22,
                "batch_exponent": 0.0,
                "batch_tokens_min": 1,
                "batch_tokens_max": NO_BOUND,
                "batch_carry_over": 0.0,
                "fixed_warmup_steps": 1000,
                "warmup_fraction": 0.5,
            },
        ),
        Rule(
            "mup",
            "One base rate, found at base_width; matrices get base_width / width of it (maximal update).",
            "Yang et al. 2022 (arXiv 2203.03466); base constants measured here, docs/procedure.md",
            (0.02e6, 4.3e6),
            {
                "parametrisation": "mup",
                "base_learning_rate": 0.035,
                "learning_rate_exponent": 0.0,
                "learning_rate_max": 1.0,
                "base_batch_tokens": 1024.0,
                "batch_exponent": 0.0,
                "batch_tokens_min": 1,
            },
        ),
        Rule(
            "completep",
            "As mup in width; in depth, residual branches and rates by base_layers / layers.",
            "Dey et al. 2025 (arXiv 2505.01618); base constants measured here, docs/procedure.md",
            (0.02e6, 4.3e6),
            {
                "parametrisation": "completep",
                "base_learning_rate": 0.05,
                "learning_rate_exponent": 0.0,
                "learning_rate_max": 1.0,
                "base_batch_tokens": 1024.0,
                "batch_exponent": 0.0,
                "batch_tokens_min": 1,
            },
        ),
    )
}


class RuleConstants(BaseModel):
    """The constants of a rule, flat, as a ladder file sets them; what is not given comes from the named rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: str = DEFAULT_RULE
    """Name in RULES."""
    parametrisation: Literal["standard", "mup", "completep"] = "standard"
    """How initialisation and rates of a weight follow width and depth."""
    base_width: int = Field(16, gt=0)
    """Width at which `mup` and `completep` are the standard parametrisation."""
    base_layers: int = Field(2, gt=0)
    """Depth at which `completep` is."""
    base_head_width: int = Field(16, gt=0)
    """Channels of a head at which they scale attention by the usual 1/sqrt."""
    model_size: Literal["params", "non_embedding"] = "params"
    """N of the laws: blocks + norms + V d, or without V d."""
    base_params: float = Field(108e6, gt=0)
    """N at which the base constants hold."""
    base_tokens: float = Field(1.0, gt=0)
    """D at which the base constants hold."""
    base_learning_rate: float = Field(0.0047, gt=0)
    """Peak learning rate at the base."""
    learning_rate_exponent: float = Field(-1 / 3, le=0)
    """Power of N in the learning rate."""
    learning_rate_data_exponent: float = 0.0
    """Power of D in the learning rate."""
    learning_rate_max: float = Field(0.02, gt=0)
    """Bound of the learning rate for the smallest models."""
    base_batch_tokens: float = Field(160.0 * 2048, gt=0)
    """Batch at the base, in tokens."""
    batch_exponent: float = Field(2 / 3, ge=0)
    """Power of N in the batch."""
    batch_data_exponent: float = Field(0.0, ge=0)
    """Power of D in the batch."""
    batch_tokens_min: int = Field(1024, gt=0)
    """Smallest batch, in tokens."""
    batch_tokens_max: int = Field(2**22, gt=0)
    """Largest batch, in tokens."""
    batch_carry_over: float = Field(0.5, ge=0)
    """Power of (batch / the law's batch) by which a bounded or given batch changes the learning rate."""
    warmup_tokens_per_param: float = Field(1.0, ge=0)
    """Warm-up lasts this times N (blocks + norms + V d) tokens."""
    fixed_warmup_steps: int = Field(0, ge=0)
    """Above zero: warm-up lasts so many steps instead."""
    warmup_fraction: float = Field(0.1, ge=0, le=0.5)
    """Warm-up is at most this part of the smallest budget of the scale."""
    weight_decay: float = Field(0.05, ge=0)
    """AdamW's decoupled decay."""
    weight_decay_on: Decayed = "matrices"
    """What decays: the matrices of the blocks and an untied head; also embeddings; also norms and biases."""
    final_learning_rate: float = Field(0.0, ge=0)
    """What the cool-down falls towards."""

    @model_validator(mode="before")
    @classmethod
    def _from_the_rule(cls, given: Any) -> Any:
        named = RULES.get(given.get("rule", DEFAULT_RULE)) if isinstance(given, dict) else None
        return {**named.constants, **given} if named else given

    @field_validator("rule")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RULES:
            raise ValueError(f"no rule is called {name!r}: take {', '.join(RULES)}")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> "RuleConstants":
        if self.batch_tokens_min > self.batch_tokens_max:
            raise ValueError(
                f"batch_tokens_min {self.batch_tokens_min} is above batch_tokens_max {self.batch_tokens_max}"
            )
        if self.parametrisation != "standard" and self.learning_rate_exponent:
            raise ValueError(
                f"parametrisation {self.parametrisation!r} already lowers rates with width; learning_rate_exponent "
                f"must be 0 (take rule {self.parametrisation!r})"
            )
        return self

    def learning_rate(self, size: Size, *, batch_tokens: int) -> float:
        """Peak learning rate of a training with batches of `batch_tokens`."""
        law = _law(
            "learning rate",
            self.base_learning_rate,
            (self.model_params(size) / self.base_params, self.learning_rate_exponent),
            (size.tokens / self.base_tokens, self.learning_rate_data_exponent),
        )
        carried = _law("learning rate", law, (batch_tokens / self.batch_law(size), self.batch_carry_over))
        return min(self.learning_rate_max, carried)

    def batch_law(self, size: Size) -> float:
        """Batch in tokens before bounds and rounding."""
        return _law(
            "batch",
            self.base_batch_tokens,
            (self.model_params(size) / self.base_params, self.batch_exponent),
            (size.tokens / self.base_tokens, self.batch_data_exponent),
        )

    def batch_tokens(self, size: Size) -> float:
        """Batch in tokens within its bounds, before it is rounded to sequences."""
        return min(self.batch_tokens_max, max(self.batch_tokens_min, self.batch_law(size)))

    def warmup_steps(self, size: Size, *, batch_tokens: int) -> int:
        """Steps of linear warm-up, shared by all branches; at least one."""
        wanted = self.fixed_warmup_steps or self.warmup_tokens_per_param * size.params / batch_tokens
        return max(1, round(min(wanted, self.warmup_fraction * size.budgets_tokens[0] / batch_tokens)))

    @property
    def is_the_rules_own(self) -> bool:
        """Whether all that rate and batch follow from is as the named rule has it."""
        rule = RuleConstants(rule=self.rule)
        fields = set(RuleConstants.model_fields) - NOT_OF_RATE_AND_BATCH
        return all(getattr(self, name) == getattr(rule, name) for name in fields)

    def model_params(self, size: Size) -> int:
        """N as this rule counts it."""
        return size.params_non_embedding if self.model_size == "non_embedding" else size.params


def _law(what: str, base: float, *powers: tuple[float, float]) -> float:
    """`base` times each number to its power. Raises RecipeError where that is no positive number."""
    try:
        value = math.prod((base, *(number**power for number, power in powers)))
    except OverflowError:
        value = math.inf
    if not 0 < value < math.inf:
        raise RecipeError(f"The constants of the procedure give a {what} of {value:g}; look at their exponents.")
    return value
