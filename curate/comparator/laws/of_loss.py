"""From loss to a downstream metric (input `loss`), and the metric from N and D in one step.

Metrics are shares of tasks (errors or accuracies): they are fitted as they are, by `least_squares()` or
`huber(..., space="linear")`, and the linear parameters may be negative where the metric falls. Starts of a location or
a rate follow the range of the losses at hand.
"""

from collections.abc import Callable, Sequence

import numpy as np

from curate.comparator.laws.law import Array, Inputs, Law, Parameter, exponent, register


def _over_the_range(shares: Sequence[float]) -> Callable[[Inputs], Sequence[float]]:
    """Starts at these shares of the way from the lowest to the highest loss."""

    def grid(inputs: Inputs) -> Sequence[float]:
        low, high = float(inputs["loss"].min()), float(inputs["loss"].max())
        return [low + share * (high - low) for share in shares]

    return grid


def _per_range(rates: Sequence[float]) -> Callable[[Inputs], Sequence[float]]:
    """Starts at these rates over the whole range of losses."""

    def grid(inputs: Inputs) -> Sequence[float]:
        return [rate / max(float(np.ptp(inputs["loss"])), 1e-9) for rate in rates]

    return grid


def _exponential_predict(theta: Array, inputs: Inputs) -> Array:
    return theta[..., 0, None] - theta[..., 1, None] * np.exp(-theta[..., 2, None] * inputs["loss"])


def _exponential_jacobian(theta: Array, inputs: Inputs) -> Array:
    fall = np.exp(-theta[..., 2, None] * inputs["loss"])
    return np.stack([np.ones_like(fall), -fall, theta[..., 1, None] * fall * inputs["loss"]], axis=-1)


EXPONENTIAL = register(
    Law(
        name="exponential",
        formula="error(L) = eps - k exp(-gamma L)",
        parameters=(
            Parameter("eps", 0.0, np.inf),
            Parameter("k", 0.0, np.inf),
            Parameter("gamma", 1e-3, 1e3, grid=_per_range((0.1, 0.3, 1.0, 2.0, 4.0, 8.0))),
        ),
        inputs=("loss",),
        predict=_exponential_predict,
        jacobian=_exponential_jacobian,
        source="Gadre et al. 2024, arXiv:2403.08540, eq. 5",
        linear=("eps", "k"),
        centred=False,
    )
)


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -z))


def _sigmoid_predict(theta: Array, inputs: Inputs) -> Array:
    share = _sigmoid(theta[..., 2, None] * (inputs["loss"] - theta[..., 1, None]))
    return theta[..., 0, None] * share + theta[..., 3, None]


def _sigmoid_jacobian(theta: Array, inputs: Inputs) -> Array:
    rate, distance = theta[..., 2, None], inputs["loss"] - theta[..., 1, None]
    share = _sigmoid(rate * distance)
    slope = theta[..., 0, None] * share * (1.0 - share)
    return np.stack([share, -slope * rate, slope * distance, np.ones_like(share)], axis=-1)


_CENTRE = Parameter("x0", -np.inf, np.inf, grid=_over_the_range((-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)))
_RATE = Parameter("k", 1e-3, 1e3, grid=_per_range((1.0, 3.0, 8.0, 20.0)))
SIGMOID = register(
    Law(
        name="sigmoid",
        formula="metric(L) = a / (1 + exp(-k (L - x0))) + b",
        parameters=(Parameter("a", -np.inf, np.inf), _CENTRE, _RATE, Parameter("b", -np.inf, np.inf)),
        inputs=("loss",),
        predict=_sigmoid_predict,
        jacobian=_sigmoid_jacobian,
        source="Bhagia et al. 2024, arXiv:2412.04403, eq. 2",
        linear=("a", "b"),
        centred=False,
    )
)


def _log_sigmoid_predict(theta: Array, inputs: Inputs) -> Array:
    soft = np.logaddexp(0.0, theta[..., 2, None] * (inputs["loss"] - theta[..., 1, None]))
    return 1.0 + theta[..., 0, None] * soft


def _log_sigmoid_jacobian(theta: Array, inputs: Inputs) -> Array:
    rate, distance = theta[..., 2, None], inputs["loss"] - theta[..., 1, None]
    share = theta[..., 0, None] * _sigmoid(rate * distance)
    return np.stack([np.logaddexp(0.0, rate * distance), -share * rate, share * distance], axis=-1)


LOG_SIGMOID = register(
    Law(
        name="log_sigmoid",
        formula="metric(L) = 1 - a log(1 - 1 / (1 + exp(-k (L - x0))))",
        parameters=(Parameter("a", -np.inf, np.inf), _CENTRE, _RATE),
        inputs=("loss",),
        predict=_log_sigmoid_predict,
        jacobian=_log_sigmoid_jacobian,
        source="Bhagia et al. 2024, arXiv:2412.04403, and their code: a logarithm of the sigmoid, one at no loss",
        linear=("a",),
        centred=False,
    )
)


def _one_step_parts(theta: Array, inputs: Inputs) -> tuple[Array, Array, Array]:
    by_params = np.exp(-theta[..., 5, None] * np.log(inputs["params"]))
    by_tokens = np.exp(-theta[..., 6, None] * np.log(inputs["tokens"]))
    inner = theta[..., 2, None] + theta[..., 3, None] * by_params + theta[..., 4, None] * by_tokens
    return by_params, by_tokens, _sigmoid(inner)


def _one_step_predict(theta: Array, inputs: Inputs) -> Array:
    return theta[..., 0, None] * _one_step_parts(theta, inputs)[2] + theta[..., 1, None]


def _one_step_jacobian(theta: Array, inputs: Inputs) -> Array:
    by_params, by_tokens, share = _one_step_parts(theta, inputs)
    slope = theta[..., 0, None] * share * (1.0 - share)
    columns = [
        share,
        np.ones_like(share),
        slope,
        slope * by_params,
        slope * by_tokens,
        -slope * theta[..., 3, None] * by_params * np.log(inputs["params"]),
        -slope * theta[..., 4, None] * by_tokens * np.log(inputs["tokens"]),
    ]
    return np.stack(columns, axis=-1)


ONE_STEP = register(
    Law(
        name="one_step",
        formula="metric(N, D) = a / (1 + exp(-(E + A N^-alpha + B D^-beta))) + b",
        parameters=(
            Parameter("a", -np.inf, np.inf, "amplitude"),
            Parameter("b", -np.inf, np.inf, "offset"),
            Parameter("E", -np.inf, np.inf, grid=(-4.0, -1.0)),
            Parameter("A", 0.0, np.inf, of=("params", "alpha"), grid=(0.5, 2.0)),
            Parameter("B", 0.0, np.inf, of=("tokens", "beta"), grid=(0.5, 2.0)),
            exponent("alpha", (0.15, 0.5)),
            exponent("beta", (0.15, 0.5)),
        ),
        inputs=("params", "tokens"),
        predict=_one_step_predict,
        jacobian=_one_step_jacobian,
        source="Bhagia et al. 2024, arXiv:2412.04403, app. (both steps as one)",
        linear=("a", "b"),
    )
)
