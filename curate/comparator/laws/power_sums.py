"""Laws that are sums of power terms, declared term by term: prediction and Jacobian follow from the declaration.

`power_sum` is the short way to a law: list the terms a (x + s) ** -b, and the compiled solver takes it. The amplitudes
are its linear parameters. `pooled` makes of one such law a law of several datasets that share some of its parameters.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from curate.comparator.laws.law import Array, Inputs, Law, Parameter, Term
from curate.errors import MeasurementError


def power_sum(
    *,
    name: str,
    formula: str,
    parameters: tuple[Parameter, ...],
    terms: tuple[Term, ...],
    source: str,
    labels: tuple[str, ...] = (),
    gives: Literal["metric", "size"] = "metric",
) -> Law:
    """A law from its terms; its inputs are those the terms are of, its linear parameters their amplitudes."""
    index = {p.name: i for i, p in enumerate(parameters)}
    named = {n for t in terms for n in (t.amplitude, t.exponent, t.shift) if n is not None}
    if named != set(index):
        raise MeasurementError(
            f"Law {name!r}: its terms use the parameters {', '.join(sorted(named))}, "
            f"but it declares {', '.join(sorted(index))}; declare exactly those of the terms."
        )
    inputs = tuple(dict.fromkeys(t.of for t in terms if t.of is not None)) + labels
    linear = tuple(p.name for p in parameters if any(t.amplitude == p.name for t in terms))
    predict, jacobian = _functions(terms, index)
    return Law(
        name, formula, parameters, inputs, predict, jacobian, source, linear, terms=terms, labels=labels, gives=gives
    )


def argument(term: Term, inputs: Inputs) -> Array:
    """What a term's power is of, before its shift: scale * x or scale / x, (n,)."""
    assert term.of is not None
    values = inputs[term.of]
    return term.scale / values if term.inverse else term.scale * values


def _functions(
    terms: tuple[Term, ...], index: dict[str, int]
) -> tuple[Callable[[Array, Inputs], Array], Callable[[Array, Inputs], Array]]:
    def pieces(theta: Array, inputs: Inputs, term: Term) -> tuple[Array, Array | None, Array | None]:
        """The power itself (..., n); the log of its argument; the argument where it is shifted."""
        points = next(iter(inputs.values())).shape
        here = np.ones(points) if term.group is None else (inputs["group"] == term.group).astype(float)
        if term.exponent is None:
            return np.broadcast_to(here, theta.shape[:-1] + points), None, None
        shifted = None
        if term.shift is None:
            logs = np.log(argument(term, inputs))
        else:
            shifted = argument(term, inputs) + theta[..., index[term.shift], None]
            logs = np.log(shifted)
        sign = 1.0 if term.rising else -1.0
        return here * np.exp(sign * theta[..., index[term.exponent], None] * logs), logs, shifted

    def predict(theta: Array, inputs: Inputs) -> Array:
        return sum(
            (theta[..., index[t.amplitude], None] * pieces(theta, inputs, t)[0] for t in terms[1:]),
            start=theta[..., index[terms[0].amplitude], None] * pieces(theta, inputs, terms[0])[0],
        )

    def jacobian(theta: Array, inputs: Inputs) -> Array:
        points = next(iter(inputs.values())).shape
        out = np.zeros(theta.shape[:-1] + points + (len(index),))
        for term in terms:
            power, logs, shifted = pieces(theta, inputs, term)
            out[..., index[term.amplitude]] += power
            if term.exponent is None or logs is None:
                continue
            sign = 1.0 if term.rising else -1.0
            value = sign * theta[..., index[term.amplitude], None] * power
            out[..., index[term.exponent]] += value * logs
            if term.shift is not None and shifted is not None:
                out[..., index[term.shift]] += value * theta[..., index[term.exponent], None] / shifted
        return out

    return predict, jacobian


def pooled(law: Law, *, groups: int, shared: tuple[str, ...]) -> Law:
    """`law` on several datasets at once: the parameters in `shared` are one for all, the others are one a dataset,
    named `A_0`, `A_1`, ...; the input `group` numbers each point's dataset from 0.
    """
    if not law.terms or law.labels:
        raise MeasurementError(f"Law {law.name!r} is not a sum of power terms of one dataset and cannot be pooled.")
    if unknown := sorted(set(shared) - set(law.names)):
        raise MeasurementError(f"Law {law.name!r} has no parameter {unknown[0]!r}; it has {', '.join(law.names)}.")
    if groups < 1:
        raise MeasurementError("A pooled law needs at least one dataset.")

    def named(name: str, group: int) -> str:
        return name if name in shared else f"{name}_{group}"

    def own(parameter: Parameter, group: int) -> Parameter:
        of = parameter.of
        if of is not None and isinstance(of[1], str):
            sign, bare = ("-", of[1][1:]) if of[1].startswith("-") else ("", of[1])
            of = (of[0], sign + named(bare, group))
        return replace(parameter, name=named(parameter.name, group), of=of)

    # a shared amplitude of an own exponent has no units of its own: it cannot be turned back from the scaled fit
    for parameter in law.parameters:
        if parameter.name in shared and parameter.of is not None and isinstance(parameter.of[1], str):
            exponent_name = parameter.of[1].lstrip("-")
            if exponent_name not in shared:
                raise MeasurementError(
                    f"Law {law.name!r}: {parameter.name!r} can be shared only together with its exponent "
                    f"{exponent_name!r}."
                )
    parameters = tuple(own(p, g) for p in law.parameters for g in (range(1) if p.name in shared else range(groups)))
    terms = tuple(
        replace(
            t,
            amplitude=named(t.amplitude, g),
            exponent=None if t.exponent is None else named(t.exponent, g),
            shift=None if t.shift is None else named(t.shift, g),
            group=g,
        )
        for t in law.terms
        for g in range(groups)
    )
    made = power_sum(
        name=f"{law.name}_pooled",
        formula=f"{law.formula}, {', '.join(shared) or 'nothing'} shared by {groups} datasets",
        parameters=parameters,
        terms=terms,
        source=law.source,
        labels=("group",),
    )
    return replace(made, by_group=lambda count: pooled(law, groups=count, shared=shared))
