"""Ladders as data: a YAML file of scales (shape, token budgets, seeds) and of what one procedure may set.

A ladder ships in `scales/` and is named without its ending, or is a path of the user's own. It is validated by
pydantic; an error names file, line and field.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curate.errors import RecipeError
from curate.proxy_training.procedure import Rules
from curate.proxy_training.tokenizer import SMALLEST_VOCABULARY
from curate.yamlfile import load_yaml

SHIPPED = Path(__file__).parent / "scales"


class Scale(BaseModel):
    """A model shape with its token budgets; learning rate and batch follow the procedure's rules unless given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w.\-]+$")
    """What the measurements call it, e.g. "0.2M"."""
    width: int = Field(gt=0)
    """Size of the residual stream."""
    layers: int = Field(gt=0)
    """Blocks."""
    heads: int = Field(gt=0)
    """Attention heads."""
    ffn: int = Field(gt=0)
    """Hidden size of the SwiGLU."""
    budgets_tokens: tuple[int, ...] = Field(min_length=1)
    """Training tokens at which a branch is cooled down and measured, rising."""
    seeds: int = Field(1, gt=0)
    """Runs for each dataset, with seeds 0, 1, ..."""
    learning_rate: float | None = Field(None, gt=0)
    """Instead of the procedure's rule."""
    batch_sequences: int | None = Field(None, gt=0)
    """Instead of the procedure's rule."""

    @field_validator("budgets_tokens")
    @classmethod
    def _rising(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if budgets[0] <= 0 or any(b <= a for a, b in pairwise(budgets)):
            raise ValueError("budgets must be positive and rise")
        return budgets

    @model_validator(mode="after")
    def _turnable(self) -> "Scale":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads ({self.heads}): rotary positions turn pairs"
            )
        return self


class EvaluationSize(BaseModel):
    """How much of each held-out set is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes_per_set: int = Field(default=60_000, gt=0)
    """UTF-8 bytes of text of each held-out set, at most."""
    bytes_per_document: int = Field(default=1_000, gt=0)
    """Bytes read from the start of one document: many short excerpts have a smaller error than few long ones."""


class Ladder(BaseModel):
    """Scales and what their one procedure may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What reports call it."""
    description: str = ""
    """Where its numbers come from, what it costs."""
    vocab_size: int = Field(ge=SMALLEST_VOCABULARY)
    """Entries of the tokenizer that the study trains for it."""
    sequence_length: int = Field(gt=1)
    """Positions of a training sequence."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Matrix products in training; `auto` settles by the processor."""
    compile: Literal["auto", "eager", "blocks"] = "eager"
    """`blocks` compiles the transformer blocks (needs a C++ compiler); `auto` falls back to eager with a note."""
    evaluation: EvaluationSize = Field(default_factory=EvaluationSize)
    """How much of each held-out set is read."""
    procedure: Rules = Field(default_factory=Rules)
    """Rules that hold for all scales."""
    scales: tuple[Scale, ...] = Field(min_length=1)
    """From small to large."""

    @field_validator("scales")
    @classmethod
    def _distinct(cls, scales: tuple[Scale, ...]) -> tuple[Scale, ...]:
        names = [scale.name for scale in scales]
        if len(set(names)) < len(names):
            raise ValueError(f"two scales have the same name: {', '.join(names)}")
        return scales

    @property
    def largest_budget_tokens(self) -> int:
        """Tokens of the longest training: a dataset that holds fewer is repeated."""
        return max(scale.budgets_tokens[-1] for scale in self.scales)

    def with_seeds(self, seeds: int) -> "Ladder":
        """The same ladder with `seeds` runs of each scale for each dataset."""
        if seeds < 1:
            raise RecipeError(f"seeds is {seeds}; a scale needs at least one.")
        return self.model_copy(
            update={"scales": tuple(scale.model_copy(update={"seeds": seeds}) for scale in self.scales)}
        )


def load_ladder(name_or_path: str | Path) -> Ladder:
    """Read a shipped ladder by name or a file by path; raises RecipeError naming file, line and field."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED / f"{name_or_path}.yaml"
        if not path.exists():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
            raise RecipeError(
                f"No ladder is called {str(name_or_path)!r}: take {shipped}, or the path of a .yaml file."
            )
    file = load_yaml(path)
    return file.parse(Ladder, file.data)
