"""A scaling law as a small frozen object: parameters with bounds and transforms, prediction, analytic Jacobian, source.

A law is a function of inputs named as the columns of the measurements table (`flops`, `params`, `tokens`,
`unique_tokens`, `loss`). `theta` has shape (..., p), every input (n,); predictions come out as (..., n) and Jacobians
as (..., n, p), so that many starts or bootstraps are one call. Fits run on inputs divided by their geometric mean and
losses by theirs: a parameter says through `kind`, `of` and `loss_power` how it is turned back. Register a law of your
own with `register(power_sum(...))` or `register(Law(...))`; tests/comparator has both, in ten lines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from curate.errors import MeasurementError

Array = npt.NDArray[np.float64]
Inputs = Mapping[str, Array]
Value = TypeVar("Value", Array, float)


@dataclass(frozen=True)
class Parameter:
    """One parameter, with its bounds, its starts and its units.

    An `offset` or an `amplitude` is in loss units, a `plain` one has none, unless `loss_power` gives the power of the
    loss unit as a function of the parameters. `of` names the input in which it has units, and their power: a number,
    an exponent parameter ("b"), or minus one ("-b"); an amplitude of x ** -b has ("x", "b").
    """

    name: str
    lower: float
    upper: float
    kind: Literal["offset", "amplitude", "plain"] = "plain"
    of: tuple[str, str | float] | None = None
    grid: Sequence[float] | Callable[[Inputs], Sequence[float]] = ()  # starts, where the prediction is not linear in it
    loss_power: Callable[[Mapping[str, Array]], Array] | None = None

    def starts(self, inputs: Inputs) -> tuple[float, ...]:
        """Where the search for it begins, in the fit's scaled coordinates."""
        return tuple(self.grid(inputs) if callable(self.grid) else self.grid)


@dataclass(frozen=True)
class Term:
    """amplitude * (scale * x + shift) ** -exponent, the exponent's sign turned where it is `rising`; constant without
    an exponent; zero for the points of other groups.
    """

    amplitude: str
    exponent: str | None = None
    of: str | None = None  # the input x
    shift: str | None = None
    scale: float = 1.0
    rising: bool = False
    inverse: bool = False  # of 1 / x instead of x
    group: int | None = None


@dataclass(frozen=True)
class Law:
    """A functional form. `linear` parameters enter the prediction linearly given the others: they are solved for, not
    searched. A law that is a sum of power `terms` runs in the compiled solver.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    predict: Callable[[Array, Inputs], Array]
    jacobian: Callable[[Array, Inputs], Array]
    source: str
    linear: tuple[str, ...] = ()
    centred: bool = True  # False: fit on inputs and losses as they are
    terms: tuple[Term, ...] = ()
    labels: tuple[str, ...] = ()  # inputs that number a group: never scaled
    by_group: Callable[[int], "Law"] | None = None  # the same law with its own parameters for each of so many groups
    gives: Literal["metric", "size"] = "metric"  # "size": an optimal number of parameters or tokens

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def lower(self) -> Array:
        return np.array([p.lower for p in self.parameters])

    @property
    def upper(self) -> Array:
        return np.array([p.upper for p in self.parameters])

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """(p,): False for parameters held by `fix`."""
        return self.lower < self.upper

    def fix(self, values: Mapping[str, float]) -> "Law":
        """The same law with some parameters held at known values (natural units); then nothing is scaled."""
        unknown = sorted(set(values) - set(self.names))
        if unknown:
            raise MeasurementError(
                f"Law {self.name!r} has no parameter {unknown[0]!r}; it has {', '.join(self.names)}."
            )
        held = tuple(
            replace(p, lower=float(values[p.name]), upper=float(values[p.name]), grid=(float(values[p.name]),))
            if p.name in values
            else p
            for p in self.parameters
        )
        linear = tuple(name for name in self.linear if name not in values)
        return replace(self, parameters=held, linear=linear, centred=False)

    def restore(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float) -> Array:
        """Parameters in natural units from those of the centred fit; theta (..., p)."""
        return self._rescale(theta, centre=centre, loss_unit=loss_unit, sign=1.0)

    def reduce(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float) -> Array:
        """Inverse of `restore`."""
        return self._rescale(theta, centre=centre, loss_unit=loss_unit, sign=-1.0)

    def _rescale(self, theta: Array, *, centre: Mapping[str, float], loss_unit: float, sign: float) -> Array:
        if not self.centred:
            return np.array(theta, dtype=float)
        out = np.array(theta, dtype=float)
        by_name = {name: theta[..., index] for index, name in enumerate(self.names)}
        for index, parameter in enumerate(self.parameters):
            if parameter.loss_power is not None:
                out[..., index] *= np.exp(sign * np.log(loss_unit) * parameter.loss_power(by_name))
            elif parameter.kind != "plain":
                out[..., index] *= loss_unit**sign
            if parameter.of is not None:
                power = power_of(parameter.of[1], by_name)
                out[..., index] *= np.exp(sign * np.log(centre[parameter.of[0]]) * power)
        return out


def power_of(power: str | float, by_name: Mapping[str, Value]) -> Value | float:
    """The power of an input's units (`Parameter.of`) at these parameters."""
    if isinstance(power, str):
        return -by_name[power[1:]] if power.startswith("-") else by_name[power]
    return power


EXPONENTS = (0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.75, 1.1)
LOWEST_EXPONENT, HIGHEST_EXPONENT = 0.02, 2.0


def exponent(name: str, grid: Sequence[float] = EXPONENTS) -> Parameter:
    """An exponent of a falling power law."""
    return Parameter(name, LOWEST_EXPONENT, HIGHEST_EXPONENT, grid=tuple(grid))


def amplitude(name: str, of: str, power: str | float) -> Parameter:
    """A factor of x ** -power, in loss units times units of x ** power; at least 0."""
    return Parameter(name, 0.0, np.inf, "amplitude", (of, power))


def offset(name: str, lower: float = 0.0) -> Parameter:
    """An additive constant in loss units."""
    return Parameter(name, lower, np.inf, "offset")


LAWS: dict[str, Law] = {}
ALIASES: dict[str, str] = {}


def register(law: Law) -> Law:
    """Make `law` known by its name; a name already taken by another law is refused."""
    if law.name in ALIASES or LAWS.get(law.name, law) is not law:
        raise MeasurementError(f"A law named {law.name!r} is registered already; give yours another name.")
    LAWS[law.name] = law
    return law


def find_law(name: str) -> Law:
    """The law registered under `name` or under the name that it is an alias of; raises MeasurementError listing the
    known names.
    """
    name = ALIASES.get(name, name)
    if name not in LAWS:
        raise MeasurementError(f"Unknown law {name!r}; known laws: {', '.join(sorted({*LAWS, *ALIASES}))}.")
    return LAWS[name]
