"""Scaling laws as small frozen objects: parameters with bounds, prediction, analytic Jacobian, source, inputs needed.

A law is a function of inputs named as the columns of the measurements table (`flops`, `params`, `tokens`,
`unique_tokens`). `theta` has shape (..., p), every input shape (n,); predictions come out as (..., n) and Jacobians
as (..., n, p), so that many starts or bootstraps are one call. Fits run on inputs divided by their geometric mean and
losses by theirs: a parameter says through `kind` how it is turned back. Register a law of your own with
`register(Law(...))`; tests/comparator has one in ten lines.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from curate.errors import MeasurementError

Array = npt.NDArray[np.float64]
Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Parameter:
    """One parameter. An `offset` is in loss units; an `amplitude` too, and multiplies `of[0] ** -of[1]`; a `plain`
    one has no units.
    """

    name: str
    lower: float
    upper: float
    kind: Literal["offset", "amplitude", "plain"] = "plain"
    of: tuple[str, str] | None = None  # amplitude: (input, exponent parameter)
    grid: tuple[float, ...] = ()  # starts of a parameter that the prediction is not linear in


@dataclass(frozen=True)
class Law:
    """A functional form. `linear` parameters enter the prediction linearly given the others: they are solved for, not
    searched.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    predict: Callable[[Array, Inputs], Array]
    jacobian: Callable[[Array, Inputs], Array]
    source: str
    linear: tuple[str, ...] = ()
    centred: bool = True  # False: fit on inputs as they are (ratios of inputs would not survive the centring)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def lower(self) -> Array:
        return np.array([p.lower for p in self.parameters])

    @property
    def upper(self) -> Array:
        return np.array([p.upper for p in self.parameters])

    def restore(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float) -> Array:
        """Parameters in natural units from those of the centred fit; theta (..., p)."""
        return self._rescale(theta, centre=centre, loss_unit=loss_unit, sign=1.0)

    def reduce(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float) -> Array:
        """Inverse of `restore`."""
        return self._rescale(theta, centre=centre, loss_unit=1.0 / loss_unit, sign=-1.0)

    def _rescale(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float, sign: float) -> Array:
        out = np.array(theta, dtype=float)
        for index, parameter in enumerate(self.parameters):
            if parameter.kind != "plain":
                out[..., index] *= loss_unit
            if parameter.of is not None and self.centred:
                exponent = theta[..., self.names.index(parameter.of[1])]
                out[..., index] *= np.exp(sign * exponent * np.log(centre[parameter.of[0]]))
        return out


EXPONENTS = (0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.75, 1.1)
LOWEST_EXPONENT, HIGHEST_EXPONENT = 0.02, 2.0


def decay(exponent: Array, values: Array) -> Array:
    """values ** -exponent for exponent (...) and values (n,): (..., n)."""
    return np.exp(-exponent[..., None] * np.log(values))


def _power2(theta: Array, inputs: Inputs) -> Array:
    return theta[..., 0, None] * decay(theta[..., 1], inputs["flops"])


def _power2_jacobian(theta: Array, inputs: Inputs) -> Array:
    base = decay(theta[..., 1], inputs["flops"])
    return np.stack([base, -theta[..., 0, None] * base * np.log(inputs["flops"])], axis=-1)


def _power(theta: Array, inputs: Inputs) -> Array:
    return _power2(theta[..., :2], inputs) + theta[..., 2, None]


def _power_jacobian(theta: Array, inputs: Inputs) -> Array:
    inner = _power2_jacobian(theta[..., :2], inputs)
    return np.concatenate([inner, np.ones_like(inner[..., :1])], axis=-1)


def _chinchilla(theta: Array, inputs: Inputs) -> Array:
    of_params = theta[..., 1, None] * decay(theta[..., 3], inputs["params"])
    of_tokens = theta[..., 2, None] * decay(theta[..., 4], inputs["tokens"])
    return theta[..., 0, None] + of_params + of_tokens


def _chinchilla_jacobian(theta: Array, inputs: Inputs) -> Array:
    by_params = decay(theta[..., 3], inputs["params"])
    by_tokens = decay(theta[..., 4], inputs["tokens"])
    columns = [
        np.ones_like(by_params),
        by_params,
        by_tokens,
        -theta[..., 1, None] * by_params * np.log(inputs["params"]),
        -theta[..., 2, None] * by_tokens * np.log(inputs["tokens"]),
    ]
    return np.stack(columns, axis=-1)


def _exponent(name: str) -> Parameter:
    return Parameter(name, LOWEST_EXPONENT, HIGHEST_EXPONENT, grid=EXPONENTS)


POWER = Law(
    name="power",
    formula="L(C) = a C^-b + e",
    parameters=(
        Parameter("a", 0.0, np.inf, "amplitude", ("flops", "b")),
        _exponent("b"),
        Parameter("e", 0.0, np.inf, "offset"),
    ),
    inputs=("flops",),
    predict=_power,
    jacobian=_power_jacobian,
    source="Henighan et al. 2020, arXiv:2010.14701, eq. 1.1 (power law plus constant)",
    linear=("a", "e"),
)
POWER2 = Law(
    name="power2",
    formula="L(C) = a C^-b",
    parameters=(Parameter("a", 0.0, np.inf, "amplitude", ("flops", "b")), _exponent("b")),
    inputs=("flops",),
    predict=_power2,
    jacobian=_power2_jacobian,
    source="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.3",
    linear=("a",),
)
CHINCHILLA = Law(
    name="chinchilla",
    formula="L(N, D) = E + A N^-alpha + B D^-beta",
    parameters=(
        Parameter("E", 0.0, np.inf, "offset"),
        Parameter("A", 0.0, np.inf, "amplitude", ("params", "alpha")),
        Parameter("B", 0.0, np.inf, "amplitude", ("tokens", "beta")),
        _exponent("alpha"),
        _exponent("beta"),
    ),
    inputs=("params", "tokens"),
    predict=_chinchilla,
    jacobian=_chinchilla_jacobian,
    source="Hoffmann et al. 2022, arXiv:2203.15556, eq. 2; estimator as in Besiroglu et al. 2024, arXiv:2404.10102",
    linear=("E", "A", "B"),
)

LAWS: dict[str, Law] = {}


def register(law: Law) -> Law:
    """Make `law` known by its name; a name already taken by another law is refused."""
    if LAWS.get(law.name, law) is not law:
        raise MeasurementError(f"A law named {law.name!r} is registered already; give yours another name.")
    LAWS[law.name] = law
    return law


def find_law(name: str) -> Law:
    """The law registered under `name`; raises MeasurementError listing the known names."""
    if name not in LAWS:
        raise MeasurementError(f"Unknown law {name!r}; known laws: {', '.join(sorted(LAWS))}.")
    return LAWS[name]


for _law in (POWER, POWER2, CHINCHILLA):
    register(_law)
