"""What filters share: rules that are switched off, parameters that contradict each other, ratios without a base."""

from dataclasses import fields
from typing import Any

import numpy as np

from curate.steps import Rule


def switched_on(*rules: Rule) -> tuple[Rule, ...]:
    """The rules that have a threshold: `null` in a recipe switches one off."""
    return tuple(rule for rule in rules if rule.at_least is not None or rule.at_most is not None)


def check_bounds(step: Any) -> None:
    """Raise ValueError if a `min_x` of a step (a dataclass) is above its `max_x`: every document would be dropped."""
    for field in fields(step):
        low, most = getattr(step, field.name), f"max_{field.name.removeprefix('min_')}"
        high = getattr(step, most, None) if field.name.startswith("min_") else None
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"{field.name} ({low:g}) is above {most} ({high:g}): no document could stay; null switches a bound off"
            )


def check_stop_words(asked: int | None, there: int) -> None:
    """Raise ValueError if a text would need more stop words (`min_stop_words`) than `stop_words` can give."""
    if asked is not None and asked > there:
        raise ValueError(
            f"min_stop_words ({asked}) is more than the {there} of stop_words: no document could stay; "
            "min_stop_words: null switches the rule off"
        )


def where_defined(values: np.ndarray, base: np.ndarray) -> np.ndarray:
    """A ratio as float64, NaN where its base is 0: a rule cannot fail on what does not exist."""
    return np.where(base > 0, values.astype(np.float64), np.nan)
