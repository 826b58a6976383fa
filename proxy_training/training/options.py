"""How a run is trained, never what it learns: memory, checkpoints, logs. Nothing here is part of a fingerprint.

Two trainings under different options give the same losses, up to the rounding of sums where the micro batch differs.
No torch here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Logger = Literal["tensorboard", "wandb"]
KEPT_BYTES = 64_000_000
"""Of the weights of all budgets of a run, float32, that are kept unasked."""


class TrainingOptions(BaseModel):
    """What a study may set under `training`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch_sequences: int | None = Field(None, gt=0)
    """Sequences of one run that one process holds at once, rounded down to a divisor of its batch; None: what the
    rung's `launch` says, else all of them. Halved, with a note, when memory runs out."""
    recompute: bool = False
    """Keep only what enters each block and compute the rest again in the backward pass: a third more work, far less
    memory for large models."""
    checkpoint_seconds: float | None = Field(30.0, ge=0)
    """Time between checkpoints; None: by steps only."""
    checkpoint_steps: int | None = Field(None, gt=0)
    """Steps between checkpoints; None: by time only."""
    keep_checkpoints: int = Field(2, ge=2)
    """Newest checkpoints kept of the trunk and of each branch while the run lasts: with two, one may be damaged."""
    keep: Literal["auto", "longest", "all"] = "auto"
    """Whose cooled-down weights stay, to be measured on something else later: of the longest branch, of all
    (`points/<tokens>.safetensors`), or of all where those of a run are KEPT_BYTES at most."""
    log: tuple[Logger, ...] = ()
    """Where the curve goes besides `curve.jsonl`."""
    deterministic: bool | None = None
    """torch's deterministic algorithms: None takes them on a CPU, where they cost nothing; on a GPU they cost speed."""
