"""Scaling laws by name: what a law is (`law`), sums of power terms (`power_sums`), and the published forms by what they
are a function of (`of_compute`, `of_params_and_tokens`, `of_loss`).

`find_law(name)` gives a registered one, `register(law)` adds yours. Nothing here fits anything: see fit.py.
"""

from curate.comparator.laws.law import (
    ALIASES,
    LAWS,
    Array,
    Inputs,
    Law,
    Parameter,
    Term,
    find_law,
    register,
)
from curate.comparator.laws.of_compute import BROKEN_POWER, M3, M4, OPTIMUM, POWER, POWER2, SHIFTED_POWER
from curate.comparator.laws.of_loss import EXPONENTIAL, LOG_SIGMOID, ONE_STEP, SIGMOID
from curate.comparator.laws.of_params_and_tokens import (
    CHINCHILLA,
    CHINCHILLA_POOLED,
    CHINCHILLA_TIED,
    KAPLAN,
    OVERTRAINING,
    REPEATED,
)
from curate.comparator.laws.power_sums import pooled, power_sum

__all__ = [
    "ALIASES",
    "BROKEN_POWER",
    "CHINCHILLA",
    "CHINCHILLA_POOLED",
    "CHINCHILLA_TIED",
    "EXPONENTIAL",
    "KAPLAN",
    "LAWS",
    "LOG_SIGMOID",
    "M3",
    "M4",
    "ONE_STEP",
    "OPTIMUM",
    "OVERTRAINING",
    "POWER",
    "POWER2",
    "REPEATED",
    "SHIFTED_POWER",
    "SIGMOID",
    "Array",
    "Inputs",
    "Law",
    "Parameter",
    "Term",
    "find_law",
    "pooled",
    "power_sum",
    "register",
]
