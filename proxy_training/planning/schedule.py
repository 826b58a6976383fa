"""Learning rate of every step, as pure functions: warm-up, stable and decay with branches; cosine with warm-up.

WSD (Hu et al. 2024; Hägele et al. 2024): a trunk that stays at its peak, from which a branch is cooled down at each
budget over its last part; the branches share all steps before that. Cosine (Loshchilov and Hutter 2017) falls from the
warm-up on, so its branches share nothing: they "start to decay" at step 0 and each is a training of its own.
"""

import math
from typing import Literal

Schedule = Literal["wsd", "cosine"]
DecayShape = Literal["linear", "one_minus_sqrt"]


def decay_start(steps: int, *, schedule: Schedule = "wsd", decay_fraction: float) -> int:
    """First step that a training of `steps` steps does not share with longer ones."""
    return 0 if schedule == "cosine" else steps - max(1, round(decay_fraction * steps))


def scheduled_learning_rate(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    decay: tuple[int, int] | None = None,
    schedule: Schedule = "wsd",
    shape: DecayShape = "linear",
    final: float = 0.0,
) -> float:
    """Learning rate of the step with index `step` (0-based): linear warm-up to `peak`, then by the schedule.

    `decay` is (first step of the cool-down, number of steps of the whole training), or None on the trunk. A decay of n
    steps ends one step before it would reach `final`: its last step still moves the weights. `final` above the peak
    counts as the peak.
    """
    rate = peak * min(1.0, (step + 1) / warmup_steps)
    if decay is None or step < decay[0]:
        return rate
    start, end = decay
    if schedule == "cosine":
        start = max(start, warmup_steps)
        if step < start:
            return rate
    floor = min(final, rate)
    return floor + (rate - floor) * _left((step - start + 1) / (end - start + 1), schedule, shape)


def _left(progress: float, schedule: Schedule, shape: DecayShape) -> float:
    """Part of the way down that is left when `progress` of the decay is done."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - math.sqrt(progress) if shape == "one_minus_sqrt" else 1 - progress
