"""What a part asks of the machine that does it: cores, memory, GPUs, a time limit, and a pool of actors.

From the recipe's `resources:`; never in a fingerprint, as where and how a part ran must not change a byte. A stage asks
for the largest of what its steps ask for.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from curate.steps import STEP_CONFIG
from curate.units import Duration, Size

__all__ = ["Duration", "Pool", "Resources", "Size"]


@checked(kw_only=True, config=STEP_CONFIG, frozen=True)
class Pool:
    """Long-lived actors for steps that load a model: once an actor, not once a part."""

    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] | None = None
    """Most actors; null: as many as the cluster has room for."""


@checked(kw_only=True, config=STEP_CONFIG, frozen=True)
class Resources:
    """What one part needs while it runs."""

    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    memory: Size | None = None
    """Bytes that the cluster sets aside (Ray kills no task for using more; its own memory monitor does)."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """GPUs, or a fraction of one that several actors share."""
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Resources that the cluster's nodes declare by name."""
    time_limit: Duration | None = None
    """Seconds after which the part is stopped and recorded as failed; null: none."""
    pool: Pool | None = None
    """Actors instead of tasks; steps that load a model get a pool by themselves."""

    def joined(self, other: "Resources") -> "Resources":
        """What both need at once: the larger of each, also of the time limits that are given."""
        return Resources(
            cpus=max(self.cpus, other.cpus),
            memory=max(self.memory or 0, other.memory or 0) or None,
            gpus=max(self.gpus, other.gpus),
            custom={
                name: max(self.custom.get(name, 0), other.custom.get(name, 0))
                for name in {**self.custom, **other.custom}
            },
            time_limit=max(self.time_limit or 0, other.time_limit or 0) or None,
            pool=other.pool or self.pool,
        )
