"""Axes of charts: where a value lies between two ends, linear or logarithmic, and which values get ticks and labels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from curate.report.numbers import brief

Number = float | int | None

LARGEST = 1e100
"""Beyond that (and on log axes below its inverse) values are not drawn: a fit ran away, or the data is broken."""
FINEST = 1e-6
"""Smallest range of an axis, as a share of its values: labels of less would be all the same."""


@dataclass(frozen=True)
class Axis:
    """A range of data values; `log` needs low > 0."""

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks_wanted: int = 6
    counts: bool = False
    """Things that are counted: plain labels (1, 10, 1k), no ticks below 1."""

    def place(self, value: Number) -> float | None:
        """Where `value` lies, 0 at low and 1 at high; None if it cannot be drawn."""
        if not drawable(value, log=self.log):
            return None
        assert value is not None
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Values with their labels: powers of ten over many decades, round numbers else."""
        if self.log and self.high / self.low >= 30:
            return self._decades()
        values = round_values(self.low, self.high, self.ticks_wanted)
        step = values[1] - values[0] if len(values) > 1 else self.high - self.low
        largest = max(abs(value) for value in (self.low, self.high))
        finest = math.floor(math.log10(step) + 1e-9)
        if largest >= 1e4 or finest < -5:
            figures = max(3, math.floor(math.log10(largest)) - finest + 1)
            return [(value, brief(value, figures)) for value in values]
        return [(value, f"{value:.{max(0, -finest)}f}".replace("-", "−")) for value in values]

    def _decades(self) -> list[tuple[float, str]]:
        low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        every = max(1, math.ceil((high - low + 1) / self.ticks_wanted))
        if self.counts:
            return [(10.0**power, brief(10**power)) for power in range(max(0, low), high + 1, every)]
        ticks = [(10.0**power, _power(power)) for power in range(low, high + 1, every)]
        if high - low < 3:
            for power in range(low - 1, high + 1):
                ticks += [(m * 10.0**power, f"{m}·{_power(power)}") for m in (2, 5)]
        return sorted(tick for tick in ticks if self.low * 0.999 <= tick[0] <= self.high * 1.001)


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def round_values(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if not low < high:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_over(
    values: Iterable[Number], label: str, *, log: bool = False, margin: float = 0.05, ticks_wanted: int = 6
) -> Axis:
    """An axis that holds all finite values with a margin (a share of the range); linear where a log axis cannot be."""
    finite = [float(value) for value in values if value is not None and drawable(value)]
    log = log and all(drawable(value, log=True) for value in finite)
    if not finite:
        return Axis(1.0, 10.0, label, log, ticks_wanted)
    low, high = min(finite), max(finite)
    if log:
        pad = max((high / low) ** margin, 1 + FINEST) if high > low else 1.1
        return Axis(low / pad, high * pad, label, True, ticks_wanted)
    pad = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
    pad = max(pad, FINEST * max(abs(low), abs(high)), 1 / LARGEST)
    return Axis(low - pad, high + pad, label, False, ticks_wanted)


def drawable(value: Number, *, log: bool = False) -> bool:
    """Whether `value` has a place on an axis."""
    if value is None or not math.isfinite(value) or abs(value) > LARGEST:
        return False
    return value >= 1 / LARGEST if log else True
