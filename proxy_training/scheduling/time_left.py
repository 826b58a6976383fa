"""How long a ladder will still take, learnt from what it has done.

Every group has an estimate in seconds; what its kind (a shape and a number of members) really took for a part of it
corrects the kind, and kinds without news take the mean correction of the others. What is left is laid out over the
workers in the order in which they will take it. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_SECONDS = 3.0
"""Of measurement before a kind is believed: the first seconds load and compile."""


@dataclass
class _Kind:
    seconds: float = 0.0
    """Spent."""
    estimated: float = 0.0
    """What the parts done meanwhile were estimated at."""


class TimeLeft:
    """The estimate; `estimates` are seconds by group, `kinds` its kind, in the order of starting."""

    def __init__(self, estimates: Mapping[str, float], kinds: Mapping[str, str], workers: int) -> None:
        self._estimates, self._kinds, self._workers = dict(estimates), dict(kinds), max(1, workers)
        self._done = dict.fromkeys(estimates, 0.0)
        self._first: dict[str, float] = {}
        self._spent: dict[str, tuple[float, float]] = {}

    def heard(self, group: str, done: float, seconds: float) -> None:
        """`group` has done a part `done` (0 to 1) and its worker has been at it for `seconds`."""
        first = self._first.setdefault(group, min(done, 1.0))  # done before this session
        self._done[group] = min(done, 1.0)
        self._spent[group] = (seconds, (self._done[group] - first) * self._estimates[group])

    def ended(self, group: str) -> None:
        """Nothing is left of `group`."""
        self._done[group] = 1.0

    def alone(self, group: str) -> float:
        """Seconds that `group` itself still takes."""
        return self._rest()[group]

    def left(self, running: Sequence[str]) -> float:
        """Seconds until all is done, with `running` at work now."""
        rest = self._rest()
        loads = [rest[group] for group in running][: self._workers]
        loads += [0.0] * (self._workers - len(loads))
        for group, seconds in rest.items():
            if seconds and group not in running:
                loads[loads.index(min(loads))] += seconds
        return max(loads)

    def _rest(self) -> dict[str, float]:
        """Seconds that each group still takes."""
        correction = self._corrections()
        usual = _mean(correction)
        return {
            group: (1 - self._done[group]) * seconds * correction.get(self._kinds[group], usual)
            for group, seconds in self._estimates.items()
        }

    def _corrections(self) -> dict[str, float]:
        """By kind: seconds that took over seconds that were estimated."""
        heard: dict[str, _Kind] = {}
        for group, (seconds, estimated) in self._spent.items():
            kind = heard.setdefault(self._kinds[group], _Kind())
            kind.seconds += seconds
            kind.estimated += estimated
        return {name: k.seconds / k.estimated for name, k in heard.items() if k.estimated and k.seconds > LEAST_SECONDS}


def _mean(corrections: Mapping[str, float]) -> float:
    """Geometric mean; 1 without news."""
    return math.exp(sum(map(math.log, corrections.values())) / len(corrections)) if corrections else 1.0
