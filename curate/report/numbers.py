"""Numbers as people read them, the same on the page and on the terminal: counts, bytes, FLOPs, shares, intervals."""

import math
from typing import Any


def count(value: float | None) -> str:
    """`1,234,567`; a dash for nothing."""
    return "–" if value is None or not math.isfinite(value) else f"{round(value):,}"


def compact(value: float | None, figures: int = 3) -> str:
    """`1.23M`: so many digits and a decimal prefix; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    for power, sign in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{digits(value / 10**power, figures)}{sign}"
    if value == round(value):
        return f"{value:.0f}".replace("-", "−")
    return digits(value, figures)


def amount(value: float | None, figures: int = 3) -> str:
    """Parameters or tokens, `1.23B`: a billion is a B where models are named so."""
    return compact(value, figures).replace("G", "B")


def brief(value: float | None, figures: int = 3) -> str:
    """`compact` without idle zeros: `0.65`, `50`, `1k`; for thresholds and ticks."""
    shown = compact(value, figures)
    if "." not in shown or "e" in shown:
        return shown
    digits_alone = shown.rstrip("kMGT")
    return digits_alone.rstrip("0").rstrip(".") + shown[len(digits_alone) :]


def size(value: float | None) -> str:
    """Bytes with a decimal prefix: `12.3 MB`."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = compact(value)
    return f"{shown[:-1]} {shown[-1]}B" if shown[-1:].isalpha() else f"{shown} B"


def digits(value: float | None, figures: int = 4) -> str:
    """`value` with so many significant figures, no exponent between 1e-4 and 1e6; a dash for nan."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        exponent = int(f"{value:.{figures - 1}e}".partition("e")[2])  # of the rounded value: 999.9 has four digits
        places = max(0, figures - 1 - exponent)
        return f"{value:.{places}f}".replace("-", "−")
    return power_of_ten(value, figures)


def power_of_ten(value: float | None, figures: int = 2) -> str:
    """`1.3e14`, `1e14`: compute in FLOPs and other numbers of many decades."""
    if value is None or not math.isfinite(value):
        return "–"
    mantissa, exponent = f"{value:.{max(0, figures - 1)}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def share(part: float, whole: float) -> str:
    """`12.3%` of the whole; a dash where there is no whole."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.1f}%" if percent >= 0.05 or part == 0 else "<0.1%"


def probability(value: float | None) -> str:
    """`.97`, as the verdict prints it; never a bare 1 or 0 that no finite sample can show."""
    if value is None or not math.isfinite(value):
        return "–"
    return ">.99" if value > 0.995 else "<.01" if value < 0.005 else f"{value:.2f}"[1:]


def signed(value: float | None, figures: int = 3) -> str:
    """`+0.0123`, with its sign."""
    shown = digits(value, figures)
    return shown if shown[0] in "−–0" and not shown.startswith("0.") else f"+{shown}"


def interval(low: float | None, high: float | None, figures: int = 3) -> str:
    """`[1.3, 2.1]`."""
    return f"[{digits(low, figures)}, {digits(high, figures)}]"


def estimate(value: Any, figures: int = 3) -> str:
    """An Estimate (value, low, high) as `1.6 [1.3, 2.1]`; a dash for None."""
    return "–" if value is None else f"{digits(value.value, figures)} {interval(value.low, value.high, figures)}"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
