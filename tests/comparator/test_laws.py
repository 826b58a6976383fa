"""Every registered law: its Jacobian, its scaling to and from the fit's coordinates, its limits, and laws of users."""

import numpy as np
import pytest

from curate.comparator.fit import fit, huber, least_squares
from curate.comparator.laws import (
    CHINCHILLA,
    CHINCHILLA_POOLED,
    CHINCHILLA_TIED,
    LAWS,
    M4,
    OVERTRAINING,
    POWER,
    REPEATED,
    SHIFTED_POWER,
    Inputs,
    Law,
    Parameter,
    Term,
    find_law,
    pooled,
    power_sum,
    register,
)
from curate.comparator.laws.law import offset
from curate.errors import MeasurementError

EVERY_LAW = [pytest.param(law, id=name) for name, law in LAWS.items()]
PUBLISHED_FORMS = {
    "power2", "power", "shifted_power", "m3", "m4", "broken_power", "optimum", "kaplan", "chinchilla",
    "chinchilla_tied", "chinchilla_pooled", "overtraining", "repeated", "exponential", "sigmoid", "log_sigmoid",
    "one_step",
}  # fmt: skip


def example(law: Law, seed: int = 0, count: int = 9) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Parameters (4, p) and inputs at which every law is smooth."""
    rng = np.random.default_rng(seed)
    inputs = {name: np.exp(rng.normal(size=count)) for name in law.inputs}
    inputs.update({name: np.zeros(count) for name in law.labels})
    return rng.uniform(0.2, 0.9, size=(4, len(law.parameters))), inputs


def test_all_published_forms_are_registered_with_a_source() -> None:
    assert set(LAWS) >= PUBLISHED_FORMS
    assert all(law.source and law.formula and law.inputs for law in LAWS.values())
    assert find_law("m1") is find_law("power2")
    assert find_law("m2") is find_law("power")
    assert find_law("double_saturation") is SHIFTED_POWER


@pytest.mark.parametrize("law", EVERY_LAW)
def test_jacobians_agree_with_differences(law: Law) -> None:
    theta, inputs = example(law)
    jacobian = law.jacobian(theta, inputs)
    assert jacobian.shape == (4, 9, len(law.parameters))
    for k in range(len(law.parameters)):
        step = np.zeros(len(law.parameters))
        step[k] = 1e-6
        numeric = (law.predict(theta + step, inputs) - law.predict(theta - step, inputs)) / 2e-6
        np.testing.assert_allclose(jacobian[..., k], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("law", EVERY_LAW)
def test_a_batch_equals_its_rows(law: Law) -> None:
    theta, inputs = example(law)
    together = law.predict(theta, inputs)
    assert together.shape == (4, 9)
    for row in range(4):
        np.testing.assert_allclose(law.predict(theta[row], inputs), together[row], rtol=1e-13)
        np.testing.assert_allclose(law.jacobian(theta[row], inputs), law.jacobian(theta, inputs)[row], rtol=1e-12)


@pytest.mark.parametrize("law", [pytest.param(law, id=name) for name, law in LAWS.items() if law.centred])
def test_scaled_parameters_turn_back_into_natural_units(law: Law) -> None:
    theta, inputs = example(law)
    centre = {name: 1.0 if name in law.labels else 3.7 for name in law.inputs}
    scaled = {name: values / centre[name] for name, values in inputs.items()}
    natural = law.restore(theta, centre=centre, loss_unit=2.5)
    np.testing.assert_allclose(law.predict(natural, inputs), 2.5 * law.predict(theta, scaled), rtol=1e-12)
    np.testing.assert_allclose(law.reduce(natural, centre=centre, loss_unit=2.5), theta, rtol=1e-12)


def test_double_saturation_without_a_shift_is_the_power_law() -> None:
    flops = np.geomspace(1e12, 1e16, 7)
    np.testing.assert_allclose(
        SHIFTED_POWER.predict(np.array([300.0, 0.0, 0.2, 1.1]), {"flops": flops}),
        POWER.predict(np.array([300.0, 0.2, 1.1]), {"flops": flops}),
        rtol=1e-13,
    )


def test_m4_solves_the_equation_it_states() -> None:
    beta, c, alpha, floor, height = 300.0, 0.2, 1.4, 1.1, 8.0
    flops = np.geomspace(1e6, 1e20, 40)
    loss = M4.predict(np.array([beta, c, alpha, floor, height]), {"flops": flops})
    left = (loss - floor) / (floor + height - loss) ** alpha
    np.testing.assert_allclose(left, beta * height ** (1 - alpha) * flops**-c, rtol=1e-9)


def test_overtraining_is_the_tied_law_in_another_amplitude() -> None:
    inputs = {"params": np.geomspace(1e7, 1e9, 5), "tokens": np.geomspace(1e9, 1e11, 5)}
    theirs = OVERTRAINING.predict(np.array([1.84, 166.2, 366.7, 0.273]), inputs)
    ours = CHINCHILLA_TIED.predict(np.array([1.84, 166.2, 366.7 * 6 ** (-0.273 / 2), 0.273]), inputs)
    np.testing.assert_allclose(theirs, ours, rtol=1e-13)
    multiplier = inputs["tokens"] / inputs["params"]  # as printed in their paper: in compute and M = D / N
    half, flops = 0.273 / 2, 6 * inputs["params"] * inputs["tokens"]
    printed = 1.84 + (6**half * 166.2 * multiplier**half + 366.7 * multiplier**-half) * flops**-half
    np.testing.assert_allclose(theirs, printed, rtol=1e-13)


def test_one_epoch_of_the_repeated_law_is_chinchilla_where_the_model_is_no_larger_than_best() -> None:
    theta = np.array([1.1, 120.0, 300.0, 0.31, 0.42])
    tokens = np.geomspace(1e10, 1e12, 5)
    inputs = {"params": tokens / 1e3, "tokens": tokens, "unique_tokens": tokens}
    np.testing.assert_allclose(
        REPEATED.predict(np.append(theta, [15.0, 5.0]), inputs), CHINCHILLA.predict(theta, inputs), rtol=1e-12
    )


def test_repeating_many_times_saturates_at_one_plus_r_d_epochs_worth() -> None:
    theta = np.array([1.1, 120.0, 300.0, 0.31, 0.42, 15.0, 5.0])
    unique = np.array([1e10])
    inputs = {"params": unique / 1e3, "tokens": unique * 1e4, "unique_tokens": unique}
    worth = {"params": unique / 1e3, "tokens": unique * 16.0}
    np.testing.assert_allclose(REPEATED.predict(theta, inputs), CHINCHILLA.predict(theta[:5], worth), rtol=1e-9)


def test_a_pooled_law_shares_exponents_and_keeps_own_amplitudes() -> None:
    rng = np.random.default_rng(2)
    params = np.exp(rng.uniform(np.log(1e6), np.log(1e9), 45))
    inputs = {"params": params, "tokens": params * np.exp(rng.uniform(0, 4, 45)), "group": np.arange(45) % 3}
    truth = [(1.1, 120.0, 300.0), (1.2, 110.0, 330.0), (1.05, 125.0, 280.0)]
    losses = np.empty(45)
    for group, (e, a, b) in enumerate(truth):
        rows = inputs["group"] == group
        theta = np.array([e, a, b, 0.31, 0.42])
        losses[rows] = CHINCHILLA.predict(theta, {k: v[rows] for k, v in inputs.items()})
    found = fit(CHINCHILLA_POOLED, inputs, losses)
    assert len(found.theta) == 3 * 3 + 2
    assert found.parameters["alpha"] == pytest.approx(0.31, rel=1e-4)
    assert [found.parameters[f"E_{g}"] for g in range(3)] == pytest.approx([e for e, _, _ in truth], rel=1e-4)
    one_floor = fit(pooled(CHINCHILLA, groups=3, shared=("E", "alpha", "beta")), inputs, losses, estimator=huber(0.01))
    assert len(one_floor.theta) == 1 + 2 * 3 + 2
    assert np.abs(one_floor.residuals).max() > 10 * np.abs(found.residuals).max()


def test_a_pooled_law_refuses_what_it_cannot_do() -> None:
    with pytest.raises(MeasurementError, match="only together with its exponent 'alpha'"):
        pooled(CHINCHILLA, groups=2, shared=("A",))
    with pytest.raises(MeasurementError, match="no parameter 'gamma'"):
        pooled(CHINCHILLA, groups=2, shared=("gamma",))
    with pytest.raises(MeasurementError, match="numbered 0, 1"):
        inputs = {"params": np.ones(6), "tokens": np.ones(6), "group": np.array([0, 0, 0, 2, 2, 2])}
        fit(CHINCHILLA_POOLED, inputs, np.ones(6))


def test_a_parameter_held_at_a_value_stays_there_and_the_others_are_fitted() -> None:
    flops = np.geomspace(1e12, 1e16, 12)
    losses = 300 * flops**-0.2 + 1.1
    held = fit(POWER.fix({"e": 1.3}), {"flops": flops}, losses, estimator=least_squares())
    assert held.parameters["e"] == 1.3
    assert held.certificate.converged
    assert held.certificate.at_bound == ()
    for e in (1.299, 1.301):
        other = fit(POWER.fix({"e": e}), {"flops": flops}, losses, estimator=least_squares())
        assert (other.certificate.objective > held.certificate.objective) == (e > 1.3)
    free = fit(POWER.fix({"b": 0.2}), {"flops": flops}, losses)
    assert free.parameters == pytest.approx({"a": 300.0, "b": 0.2, "e": 1.1}, rel=1e-6)
    with pytest.raises(MeasurementError, match="no parameter 'z'"):
        POWER.fix({"z": 1.0})


def test_a_users_sum_of_powers_takes_ten_lines(tokens_only: Law) -> None:
    tokens = np.geomspace(1e6, 1e9, 9)
    found = fit(find_law("tokens_only"), {"tokens": tokens}, 1.5 + 40 * tokens**-0.28)
    assert found.parameters == pytest.approx({"E": 1.5, "B": 40.0, "beta": 0.28}, rel=1e-6)
    with pytest.raises(MeasurementError, match="registered already"):
        register(Law("tokens_only", "", (), (), tokens_only.predict, tokens_only.jacobian, ""))


def test_a_users_law_of_any_form_takes_ten_lines() -> None:
    def predict(theta: np.ndarray, inputs: Inputs) -> np.ndarray:
        return theta[..., 0, None] - theta[..., 1, None] * np.log(inputs["tokens"])

    def jacobian(theta: np.ndarray, inputs: Inputs) -> np.ndarray:
        ones = np.ones_like(predict(theta, inputs))
        return np.stack([ones, -ones * np.log(inputs["tokens"])], axis=-1)

    parameters = (Parameter("a", 0.0, np.inf), Parameter("b", 0.0, np.inf))
    mine = register(
        Law("logarithm", "L(D) = a - b log D", parameters, ("tokens",), predict, jacobian, "a test", ("a", "b"),
            centred=False)
    )  # fmt: skip
    try:
        tokens = np.geomspace(1e6, 1e9, 9)
        found = fit(mine, {"tokens": tokens}, 5.0 - 0.2 * np.log(tokens))
        assert found.parameters == pytest.approx({"a": 5.0, "b": 0.2}, rel=1e-8)
    finally:
        del LAWS["logarithm"]


def test_terms_must_use_the_declared_parameters() -> None:
    with pytest.raises(MeasurementError, match="declare exactly those"):
        power_sum(name="x", formula="", parameters=(offset("E"),), terms=(Term("A"),), source="")


def test_an_unknown_law_names_the_known_ones_and_the_aliases() -> None:
    with pytest.raises(MeasurementError, match=r"chinchilla.*m1"):
        find_law("kaplan-ish")
