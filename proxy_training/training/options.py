"""How a run is trained, never what it learns: memory, checkpoints, logs. Nothing here is part of a fingerprint.

Two trainings under different options give the same losses, up to the rounding of sums where the micro batch differs.
No torch here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingOptions(BaseModel):
    """What a ladder or a study may set under `training`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch_sequences: int | None = Field(None, gt=0)
    """Sequences of one run that one process holds at once, rounded down to a divisor of its batch; None: all of them.
    Halved, with a note, when memory runs out."""
    recompute: bool = False
    """Keep only what enters each block and compute the rest again in the backward pass: a third more work, far less
    memory for large models."""
    checkpoint_seconds: float | None = Field(30.0, ge=0)
    """Time between checkpoints; None: by steps only."""
    checkpoint_steps: int | None = Field(None, gt=0)
    """Steps between checkpoints; None: by time only."""
    keep_checkpoints: int = Field(2, ge=2)
    """Newest checkpoints kept of the trunk and of each branch while the run lasts: with two, one may be damaged."""
    keep: Literal["longest", "all"] = "longest"
    """Whose cooled-down weights stay: of the longest branch, or of all (`points/<tokens>.safetensors`)."""
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the curve goes besides `curve.jsonl`."""
    deterministic: bool | None = None
    """torch's deterministic algorithms: None takes them on a CPU, where they cost nothing; on a GPU they cost speed."""
