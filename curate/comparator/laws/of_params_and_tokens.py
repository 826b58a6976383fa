"""Laws of model size N (`params`) and tokens D: Kaplan, Chinchilla free, tied and pooled, over-training, repeated data.

All but Kaplan and repeated data are sums of power terms and run in the compiled solver. The exponents' starts are the
product of a coarse grid; E, A and B follow from them by non-negative least squares.
"""

import numpy as np

from curate.comparator.laws.law import Array, Inputs, Law, Parameter, Term, amplitude, exponent, offset, register
from curate.comparator.laws.power_sums import pooled, power_sum

CHINCHILLA = register(
    power_sum(
        name="chinchilla",
        formula="L(N, D) = E + A N^-alpha + B D^-beta",
        parameters=(
            offset("E"),
            amplitude("A", "params", "alpha"),
            amplitude("B", "tokens", "beta"),
            exponent("alpha"),
            exponent("beta"),
        ),
        terms=(Term("E"), Term("A", "alpha", "params"), Term("B", "beta", "tokens")),
        source="Hoffmann et al. 2022, arXiv:2203.15556, eq. 2; estimator as in Besiroglu et al. 2024, arXiv:2404.10102",
    )
)
CHINCHILLA_TIED = register(
    power_sum(
        name="chinchilla_tied",
        formula="L(N, D) = E + A N^-alpha + B D^-alpha",
        parameters=(
            offset("E"),
            amplitude("A", "params", "alpha"),
            amplitude("B", "tokens", "alpha"),
            exponent("alpha"),
        ),
        terms=(Term("E"), Term("A", "alpha", "params"), Term("B", "alpha", "tokens")),
        source="Hoffmann et al. 2022, eq. 2 with alpha = beta, as Muennighoff et al. 2023, arXiv:2305.16264, app. A",
    )
)
CHINCHILLA_POOLED = register(pooled(CHINCHILLA, groups=1, shared=("alpha", "beta")))
OVERTRAINING = register(
    power_sum(
        name="overtraining",
        formula="L(N, D) = E + a N^-eta + c 6^(-eta/2) D^-eta",
        parameters=(
            offset("E"),
            amplitude("a", "params", "eta"),
            amplitude("c", "tokens", "eta"),
            exponent("eta"),
        ),
        # c 6^(-eta/2) D^-eta = c (sqrt(6) D)^-eta; with M = D / N and C = 6 N D this is the paper's
        # E + (6^(eta/2) a M^(eta/2) + c M^(-eta/2)) C^(-eta/2)
        terms=(Term("E"), Term("a", "eta", "params"), Term("c", "eta", "tokens", scale=float(np.sqrt(6.0)))),
        source="Gadre et al. 2024, arXiv:2403.08540, eq. 4, in N and D as in their code; their b is -eta",
    )
)


def _kaplan(theta: Array, inputs: Inputs) -> tuple[Array, Array]:
    """The two summands of the bracket, (Nc/N)^(alpha_N/alpha_D) and Dc/D, each (..., n)."""
    ratio = (theta[..., 2] / theta[..., 3])[..., None]
    by_params = np.exp(ratio * (np.log(theta[..., 0, None]) - np.log(inputs["params"])))
    return by_params, theta[..., 1, None] / inputs["tokens"]


def _kaplan_predict(theta: Array, inputs: Inputs) -> Array:
    by_params, by_tokens = _kaplan(theta, inputs)
    return np.exp(theta[..., 3, None] * np.log(by_params + by_tokens))


def _kaplan_jacobian(theta: Array, inputs: Inputs) -> Array:
    critical, _, alpha_n, alpha_d = (theta[..., k, None] for k in range(4))
    by_params, by_tokens = _kaplan(theta, inputs)
    bracket = by_params + by_tokens
    loss = np.exp(alpha_d * np.log(bracket))
    by_bracket = alpha_d * loss / bracket
    distance = np.log(critical) - np.log(inputs["params"])
    columns = [
        by_bracket * by_params * (alpha_n / alpha_d) / critical,
        by_bracket / inputs["tokens"],
        by_bracket * by_params * distance / alpha_d,
        loss * np.log(bracket) - by_bracket * by_params * distance * alpha_n / alpha_d**2,
    ]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


# scaled to a typical loss of one, the bracket is one at the centre of the points
_CRITICAL = (0.02, 0.3, 0.8)
KAPLAN = register(
    Law(
        name="kaplan",
        formula="L(N, D) = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D",
        parameters=(
            Parameter(
                "Nc",
                1e-9,
                np.inf,
                of=("params", 1.0),
                grid=_CRITICAL,
                loss_power=lambda values: 1.0 / values["alpha_N"],
            ),
            Parameter(
                "Dc",
                1e-9,
                np.inf,
                of=("tokens", 1.0),
                grid=_CRITICAL,
                loss_power=lambda values: 1.0 / values["alpha_D"],
            ),
            exponent("alpha_N", (0.05, 0.12, 0.3)),
            exponent("alpha_D", (0.05, 0.12, 0.3)),
        ),
        inputs=("params", "tokens"),
        predict=_kaplan_predict,
        jacobian=_kaplan_jacobian,
        source="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5",
    )
)


def _repeated(theta: Array, inputs: Inputs) -> dict[str, Array]:
    """Effective size and tokens of a model trained for several epochs, and what their derivatives need, (..., n)."""
    _, a, b, alpha, beta, rd, rn = (theta[..., k, None] for k in range(7))
    unique, params = inputs["unique_tokens"], inputs["params"]
    epochs = np.maximum(inputs["tokens"] / unique - 1.0, 0.0)
    seen = np.minimum(unique, inputs["tokens"])  # a run shorter than one epoch sees that much
    # the size that `seen` tokens are best for, by the law without repetition
    log_seen = np.log(seen)
    log_best = (beta / alpha) * log_seen + (np.log(alpha * a) - np.log(beta * b)) / alpha
    best = np.exp(np.clip(log_best, -300.0, 300.0))
    useful = np.minimum(best, params)
    excess = params / useful - 1.0
    kept_d, kept_n = np.exp(-epochs / rd), np.exp(-excess / rn)
    return {
        "tokens": seen * (1.0 + rd * (1.0 - kept_d)),
        "params": useful * (1.0 + rn * (1.0 - kept_n)),
        "tokens_by_rd": seen * (1.0 - kept_d * (1.0 + epochs / rd)),
        "params_by_rn": useful * (1.0 - kept_n * (1.0 + excess / rn)),
        "params_by_log_useful": np.where(best < params, useful * (1.0 + rn * (1.0 - kept_n)) - kept_n * params, 0.0),
        "log_seen": log_seen,
    }


def _repeated_predict(theta: Array, inputs: Inputs) -> Array:
    effective = _repeated(theta, inputs)
    e, a, b, alpha, beta = (theta[..., k, None] for k in range(5))
    return e + a * effective["params"] ** -alpha + b * effective["tokens"] ** -beta


def _repeated_jacobian(theta: Array, inputs: Inputs) -> Array:
    effective = _repeated(theta, inputs)
    _, a, b, alpha, beta = (theta[..., k, None] for k in range(5))
    power_n, power_d = effective["params"] ** -alpha, effective["tokens"] ** -beta
    by_params = -alpha * a * power_n / effective["params"]
    by_tokens = -beta * b * power_d / effective["tokens"]
    by_log_useful = by_params * effective["params_by_log_useful"]
    log_ratio = np.log(alpha * a) - np.log(beta * b)
    by_alpha = (-beta * effective["log_seen"] - log_ratio + 1.0) / alpha**2
    by_beta = (effective["log_seen"] - 1.0 / beta) / alpha
    columns = [
        np.ones_like(power_n),
        power_n + by_log_useful / (alpha * a),
        power_d - by_log_useful / (alpha * b),
        -a * power_n * np.log(effective["params"]) + by_log_useful * by_alpha,
        -b * power_d * np.log(effective["tokens"]) + by_log_useful * by_beta,
        by_tokens * effective["tokens_by_rd"],
        by_params * effective["params_by_rn"],
    ]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


REPEATED = register(
    Law(
        name="repeated",
        formula="L(N, D, U) = E + A N'^-alpha + B D'^-beta; D' = U (1 + R_D (1 - exp((1 - D/U)/R_D))), N' alike in R_N",
        parameters=(
            offset("E"),
            Parameter("A", 1e-12, np.inf, "amplitude", ("params", "alpha")),
            Parameter("B", 1e-12, np.inf, "amplitude", ("tokens", "beta")),
            exponent("alpha", (0.15, 0.35, 0.7)),
            exponent("beta", (0.15, 0.35, 0.7)),
            Parameter("R_D", 1e-2, 1e4, grid=(3.0, 15.0, 60.0)),
            Parameter("R_N", 1e-2, 1e4, grid=(1.0, 5.0, 30.0)),
        ),
        inputs=("params", "tokens", "unique_tokens"),
        predict=_repeated_predict,
        jacobian=_repeated_jacobian,
        source="Muennighoff et al. 2023, arXiv:2305.16264, eqs. 5 to 7",
        linear=("E", "A", "B"),
    )
)
