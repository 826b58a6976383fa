"""Laws of training compute C (`flops`): power laws with two, three and four parameters, a broken one, the optimum.

M1 to M4 are the forms of Alabdulmohsin et al. 2022 (arXiv:2209.06640, sec. 3); there x is the number of examples seen,
here it is compute. Their M1 is `power2` and their M2 is `power`: aliases, not copies. M4 gives the loss implicitly
and costs some thirty Newton steps a point, about twenty times a power law.
"""

import numpy as np

from curate.comparator.laws.law import (
    ALIASES,
    Array,
    Inputs,
    Law,
    Parameter,
    Term,
    amplitude,
    exponent,
    offset,
    register,
)
from curate.comparator.laws.power_sums import power_sum

POWER2 = register(
    power_sum(
        name="power2",
        formula="L(C) = a C^-b",
        parameters=(amplitude("a", "flops", "b"), exponent("b")),
        terms=(Term("a", "b", "flops"),),
        source="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.3",
    )
)
POWER = register(
    power_sum(
        name="power",
        formula="L(C) = a C^-b + e",
        parameters=(amplitude("a", "flops", "b"), exponent("b"), offset("e")),
        terms=(Term("a", "b", "flops"), Term("e")),
        source="Henighan et al. 2020, arXiv:2010.14701, eq. 1.1 (power law plus constant)",
    )
)
SHIFTED_POWER = register(
    power_sum(
        name="shifted_power",
        formula="L(C) = a (C + b)^-c + d",
        parameters=(
            amplitude("a", "flops", "c"),
            Parameter("b", 0.0, np.inf, of=("flops", 1.0), grid=(0.0, 1e-3, 0.01, 0.05, 0.2, 1.0, 5.0)),
            exponent("c"),
            offset("d"),
        ),
        terms=(Term("a", "c", "flops", shift="b"), Term("d")),
        source="Zhai et al. 2022, arXiv:2106.04560, eq. 1 (double saturation)",
    )
)
M3 = register(
    power_sum(
        name="m3",
        formula="L(C) = beta (1/C + gamma)^c",
        parameters=(
            amplitude("beta", "flops", "c"),
            Parameter("gamma", 0.0, np.inf, of=("flops", -1.0), grid=(0.0, 1e-3, 0.01, 0.05, 0.2, 1.0, 5.0)),
            exponent("c"),
        ),
        terms=(Term("beta", "c", "flops", shift="gamma", rising=True, inverse=True),),
        source="Alabdulmohsin et al. 2022, arXiv:2209.06640, sec. 3, M3 (as in their code: without a floor)",
    )
)
OPTIMUM = register(
    power_sum(
        name="optimum",
        formula="X*(C) = G C^a",
        parameters=(amplitude("G", "flops", "-a"), exponent("a", (0.3, 0.5, 0.8))),
        terms=(Term("G", "a", "flops", rising=True),),
        source="Hoffmann et al. 2022, arXiv:2203.15556, eq. 4: optimal params or tokens at a compute",
        gives="size",
    )
)
ALIASES.update({"m1": "power2", "m2": "power", "double_saturation": "shifted_power"})


def _broken(theta: Array, inputs: Inputs) -> tuple[Array, Array, Array, Array]:
    """The broken power over its amplitude (..., n), log C, the distance from the break and its softplus."""
    logs = np.log(inputs["flops"])
    width = theta[..., 5, None]
    z = (logs - np.log(theta[..., 4, None])) / width
    soft = np.logaddexp(0.0, z)
    power = np.exp(-theta[..., 2, None] * logs - theta[..., 3, None] * width * soft)
    return power, logs, z, soft


def _broken_predict(theta: Array, inputs: Inputs) -> Array:
    return theta[..., 0, None] + theta[..., 1, None] * _broken(theta, inputs)[0]


def _broken_jacobian(theta: Array, inputs: Inputs) -> Array:
    power, logs, z, soft = _broken(theta, inputs)
    share = np.exp(z - soft)  # sigmoid
    value = theta[..., 1, None] * power
    steeper, at, width = (theta[..., k, None] for k in (3, 4, 5))
    columns = [
        np.ones_like(power),
        power,
        -value * logs,
        -value * width * soft,
        value * steeper * share / at,
        -value * steeper * (soft - z * share),
    ]
    return np.stack(columns, axis=-1)


BROKEN_POWER = register(
    Law(
        name="broken_power",
        formula="L(C) = a + b C^-c0 (1 + (C/d)^(1/f))^(-c1 f)",
        parameters=(
            offset("a"),
            amplitude("b", "flops", "c0"),
            Parameter("c0", -1.0, 2.0, grid=(0.03, 0.1, 0.3)),
            Parameter("c1", -2.0, 2.0, grid=(-0.1, 0.1, 0.4)),
            Parameter("d", 1e-9, 1e9, of=("flops", 1.0), grid=(0.1, 1.0, 10.0)),
            Parameter("f", 0.02, 5.0, grid=(0.1, 0.5)),
        ),
        inputs=("flops",),
        predict=_broken_predict,
        jacobian=_broken_jacobian,
        source="Caballero et al. 2022, arXiv:2210.14891, eq. 1 with one break",
        linear=("a", "b"),
    )
)

NEWTON_STEPS = 50


def _m4_share(theta: Array, inputs: Inputs) -> tuple[Array, Array]:
    """Where between floor and ceiling the loss lies, s (..., n), and its log-odds t.

    The law reads log s - alpha log(1 - s) = v, that is t + (alpha - 1) softplus(t) = v: rising, and convex or concave
    throughout, so that Newton converges from anywhere, in some five steps from the asymptotes.
    """
    alpha = theta[..., 2, None]
    v = np.log(theta[..., 0, None]) - theta[..., 1, None] * np.log(inputs["flops"])
    t = np.where(v < 0, v, v / alpha)
    for _ in range(NEWTON_STEPS):
        small = np.exp(-np.abs(t))
        share = np.where(t < 0, small, 1.0) / (1.0 + small)
        soft = np.maximum(t, 0.0) + np.log1p(small)
        step = (t + (alpha - 1.0) * soft - v) / (1.0 + (alpha - 1.0) * share)
        t = t - step
        if not (np.abs(step) > 1e-9 * (1.0 + np.abs(t))).any():  # the error left is the square of that
            break
    small = np.exp(-np.abs(t))
    return np.where(t < 0, small, 1.0) / (1.0 + small), t


def _m4_predict(theta: Array, inputs: Inputs) -> Array:
    return theta[..., 3, None] + theta[..., 4, None] * _m4_share(theta, inputs)[0]


def _m4_jacobian(theta: Array, inputs: Inputs) -> Array:
    beta, _, alpha, _, height = (theta[..., k, None] for k in range(5))
    share, t = _m4_share(theta, inputs)
    by_v = height * share * (1.0 - share) / (1.0 + (alpha - 1.0) * share)  # of the loss by v
    columns = [
        by_v / beta,
        -by_v * np.log(inputs["flops"]),
        -by_v * np.logaddexp(0.0, t),
        np.ones_like(share),
        share,
    ]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


M4 = register(
    Law(
        name="m4",
        formula="L(C) = e + r s; s / (1 - s)^alpha = beta C^-c",
        # with e0 = e + r theirs is (L - e) / (e0 - L)^alpha = (beta r^(1 - alpha)) C^-c: here L is linear in e and r
        parameters=(
            Parameter("beta", 1e-9, np.inf, of=("flops", "c"), grid=(0.03, 0.3, 3.0)),
            exponent("c", (0.1, 0.25, 0.5, 1.0)),
            Parameter("alpha", 0.05, 5.0, grid=(0.5, 1.0, 2.0)),
            offset("e"),
            offset("r"),
        ),
        inputs=("flops",),
        predict=_m4_predict,
        jacobian=_m4_jacobian,
        source="Alabdulmohsin et al. 2022, arXiv:2209.06640, eq. 3, M4, in s = (L - e) / (e0 - e)",
        linear=("e", "r"),
    )
)
