"""Fitting: estimators by name, weights, bootstraps, certificates; the compiled and the batched solver agree."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from curate.comparator.fit import Fit, fit, for_groups, objective_as_published, refit, resample, scale
from curate.comparator.fitting.descent import Problem, Scale, by_batch, by_terms, cost, gradient_norm
from curate.comparator.fitting.estimators import Estimator, huber, least_absolute, least_squares, log_least_squares
from curate.comparator.fitting.starts import bounded_least_squares, separable_starts
from curate.comparator.laws import CHINCHILLA, LAWS, POWER, SHIFTED_POWER, find_law
from curate.errors import MeasurementError

ESTIMATORS = {
    "huber": huber,
    "log_least_squares": log_least_squares,
    "least_squares": least_squares,
    "least_absolute": least_absolute,
}
TRUTH = {
    "power2": (60.0, 0.11),
    "power": (300.0, 0.2, 1.1),
    "shifted_power": (300.0, 3e12, 0.2, 1.1),
    "m3": (300.0, 1e-16, 0.15),
    "optimum": (0.3, 0.5),
    "broken_power": (1.1, 60.0, 0.1, 0.15, 1e15, 0.3),
    "m4": (300.0, 0.2, 1.2, 1.1, 8.0),
    "chinchilla": (1.1, 120.0, 300.0, 0.31, 0.42),
    "chinchilla_tied": (1.1, 120.0, 300.0, 0.33),
    "chinchilla_pooled": (1.1, 1.3, 120.0, 110.0, 300.0, 280.0, 0.31, 0.42),
    "overtraining": (1.8, 166.0, 366.0, 0.27),
    "kaplan": (8.8e9, 5.4e10, 0.076, 0.095),
    "repeated": (1.1, 120.0, 300.0, 0.31, 0.42, 12.0, 4.0),
    "exponential": (0.85, 2.2, 0.71),
    "sigmoid": (-0.6, 1.1, 6.0, 0.85),
    "log_sigmoid": (-0.12, 0.9, 3.0),
    "one_step": (-0.7, 0.95, -3.0, 60.0, 130.0, 0.25, 0.3),
}


def ladder(count: int, seed: int) -> dict[str, np.ndarray]:
    """Every input that a law may need, on a design of three decades of size."""
    rng = np.random.default_rng(seed)
    params = np.exp(rng.uniform(np.log(1e6), np.log(1e9), count))
    tokens = params * np.exp(rng.uniform(0, 4, count))
    return {
        "params": params,
        "tokens": tokens,
        "flops": 6 * params * tokens,
        "unique_tokens": tokens / np.exp(rng.uniform(0, 3, count)),
        "loss": rng.uniform(1.0, 3.0, count),
        "group": (np.arange(count) % 2).astype(float),
    }


@pytest.mark.parametrize("law", ["power", "power2", "chinchilla"])
def test_the_law_that_made_the_losses_is_found_whatever_the_units(law: str) -> None:
    truth = {"power": (300.0, 0.2, 1.1), "power2": (60.0, 0.11), "chinchilla": (1.1, 120.0, 300.0, 0.31, 0.42)}[law]
    form = find_law(law)
    rng = np.random.default_rng(1)
    params = np.exp(rng.uniform(np.log(1e5), np.log(1e9), 30))
    tokens = params * np.exp(rng.uniform(0, 4, 30))
    inputs = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    losses = form.predict(np.array(truth), inputs)
    for unit in (1.0, 1e-3, 1e4):
        found = fit(form, inputs, losses * unit, estimator=Estimator(delta=0.01))
        np.testing.assert_allclose(form.predict(found.theta, inputs), losses * unit, rtol=1e-5)
        assert found.certificate.converged
    np.testing.assert_allclose(fit(form, inputs, losses).theta, truth, rtol=2e-3)


def test_an_outlier_moves_the_huber_fit_less_than_least_squares() -> None:
    flops = np.geomspace(1e12, 1e14, 12)
    losses = 300 * flops**-0.2 + 1.1
    spoilt = losses * np.where(np.arange(12) == 5, 1.3, 1.0)
    shift = []
    for delta in (1e-3, np.inf):
        found = fit(POWER, {"flops": flops}, spoilt, estimator=Estimator(delta))
        shift.append(np.abs(found.predict({"flops": flops}) / losses - 1).max())
    assert shift[0] < 0.002 < shift[1]


def test_batched_bootstraps_equal_fits_one_by_one() -> None:
    rng = np.random.default_rng(3)
    flops = np.geomspace(1e12, 1e14, 14)
    losses = 300 * flops**-0.2 + 1.1
    samples = losses * np.exp(rng.normal(0, 0.01, (40, 14)))
    found = fit(POWER, {"flops": flops}, losses * np.exp(rng.normal(0, 0.01, 14)), estimator=Estimator(0.02))
    batched = POWER.predict(refit(found, {"flops": flops}, samples), {"flops": flops})
    alone = np.array(
        [fit(POWER, {"flops": flops}, s, estimator=Estimator(0.02)).predict({"flops": flops}) for s in samples]
    )
    assert np.quantile(np.abs(batched / alone - 1).max(axis=1), 0.95) < 1e-3


def test_losses_that_rise_with_compute_end_at_a_bound() -> None:
    flops = np.geomspace(1e12, 1e14, 8)
    found = fit(POWER, {"flops": flops}, 2.0 * (flops / 1e12) ** 0.02, estimator=Estimator(0.01))
    assert "a" in found.certificate.at_bound


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_every_law_finds_the_parameters_that_made_exact_losses(name: str) -> None:
    inputs = ladder(60, seed=1)
    form = for_groups(LAWS[name], inputs)
    losses = form.predict(np.array(TRUTH[name]), inputs)
    found = fit(form, inputs, losses, estimator=least_squares())
    assert found.certificate.converged
    np.testing.assert_allclose(found.predict(inputs), losses, rtol=1e-6)
    np.testing.assert_allclose(found.theta, TRUTH[name], rtol=1e-3)


def test_all_registered_laws_are_tried() -> None:
    assert set(TRUTH) == set(LAWS)


@pytest.mark.parametrize("estimator", [make() for make in ESTIMATORS.values()], ids=list(ESTIMATORS))
def test_no_truth_and_no_descent_of_scipy_lies_below_the_optimum_found(estimator: Estimator) -> None:
    inputs = ladder(80, seed=2)
    truth = np.array(TRUTH["chinchilla"])
    rng = np.random.default_rng(3)
    losses = CHINCHILLA.predict(truth, inputs) * np.exp(0.01 * rng.standard_normal(80))
    found = fit(CHINCHILLA, inputs, losses, estimator=estimator)
    assert found.certificate.converged
    assert found.certificate.gradient_norm < (1e-3 if estimator.delta > 0 else 1e-2)

    def objective(x: np.ndarray) -> float:
        theta = np.array([np.exp(x[0]), np.exp(x[1]), np.exp(x[2]), x[3], x[4]])
        prediction = CHINCHILLA.predict(theta, inputs)
        residuals = np.log(prediction / losses) if estimator.logarithmic else prediction - losses
        return objective_as_published(residuals, np.ones(80), estimator)

    starts = [[np.log(truth[0]), np.log(truth[1]), np.log(truth[2]), *truth[3:]]]
    starts += [[e, a, b, al, be] for e, a, b, al, be in product([0.0], [3.0, 7.0], [3.0, 7.0], [0.2, 0.6], [0.2, 0.6])]
    theirs = min(minimize(objective, x, method="Nelder-Mead", options={"maxfev": 2000}).fun for x in starts)
    assert found.certificate.objective <= theirs * (1 + 1e-6)


def test_the_name_of_the_estimator_says_what_was_made_small() -> None:
    assert [make().name for make in ESTIMATORS.values()] == [
        "Huber(0.001) on log loss",
        "least squares on log loss",
        "least squares",
        "least absolute deviation on log loss",
    ]
    assert Estimator(delta=0.02) == huber(0.02)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(MeasurementError, match="at least 0"):
            Estimator(wrong)
    with pytest.raises(MeasurementError, match="'log' or 'linear'"):
        Estimator(1.0, "squares")  # type: ignore[arg-type]


def test_least_absolute_deviation_is_the_linear_programme_where_the_law_is_linear() -> None:
    rng = np.random.default_rng(5)
    flops = np.geomspace(1e12, 1e16, 25)
    losses = 300 * flops**-0.2 + 1.1 + 0.05 * rng.standard_t(2, 25)
    law = POWER.fix({"b": 0.2})
    found = fit(law, {"flops": flops}, losses, estimator=least_absolute(space="linear"))
    basis = np.column_stack([flops**-0.2 * 100, np.ones(25)])  # minimise the sum of t, -t <= basis x - losses <= t
    slack = np.eye(25)
    programme = linprog(
        np.concatenate([np.zeros(2), np.ones(25)]),
        A_ub=np.block([[basis, -slack], [-basis, -slack]]),
        b_ub=np.concatenate([losses, -losses]),
    )
    assert found.certificate.objective == pytest.approx(programme.fun, rel=1e-6)
    assert np.sort(np.abs(found.residuals))[1] < 1e-6  # it passes through as many points as it has parameters


def test_least_absolute_deviation_ignores_a_third_of_wrong_points() -> None:
    flops = np.geomspace(1e12, 1e16, 15)
    losses = 300 * flops**-0.2 + 1.1
    wrong = losses * np.where(np.arange(15) % 3 == 1, 1.5, 1.0)
    found = fit(POWER, {"flops": flops}, wrong, estimator=least_absolute())
    np.testing.assert_allclose(found.predict({"flops": flops}), losses, rtol=1e-5)


def test_a_weight_counts_a_point_that_often_and_zero_leaves_it_out() -> None:
    rng = np.random.default_rng(6)
    inputs = {"flops": np.geomspace(1e12, 1e14, 12)}
    losses = (300 * inputs["flops"] ** -0.2 + 1.1) * np.exp(0.01 * rng.standard_normal(12))
    counts = np.array([2, 0, 1, 3, 1, 0, 1, 2, 1, 1, 4, 1])
    rows = np.repeat(np.arange(12), counts)
    for make in ESTIMATORS.values():
        weighted = fit(POWER, inputs, losses, estimator=make(), weights=counts)
        repeated = fit(POWER, {"flops": inputs["flops"][rows]}, losses[rows], estimator=make())
        assert weighted.certificate.objective == pytest.approx(repeated.certificate.objective, rel=1e-6)
        np.testing.assert_allclose(weighted.predict(inputs), repeated.predict(inputs), rtol=1e-4)


@pytest.mark.parametrize("weights", [[1.0] * 11, [-1.0] + [1.0] * 11, [np.nan] * 12, [0.0] * 12])
def test_weights_that_cannot_be_used_are_refused(weights: list[float]) -> None:
    with pytest.raises(MeasurementError, match="Weights must be 12 finite numbers"):
        fit(POWER, {"flops": np.geomspace(1e12, 1e14, 12)}, np.ones(12), weights=weights)


@pytest.mark.parametrize("law", [POWER, find_law("kaplan")], ids=lambda law: law.name)
def test_a_case_bootstrap_by_weights_equals_fits_of_the_drawn_rows(law: object) -> None:
    form = find_law(law.name)  # type: ignore[attr-defined]
    inputs = {name: values for name, values in ladder(30, seed=7).items() if name in form.inputs}
    rng = np.random.default_rng(8)
    losses = form.predict(np.array(TRUTH[form.name]), inputs) * np.exp(0.01 * rng.standard_normal(30))
    found = fit(form, inputs, losses, estimator=huber(0.02))
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=6).astype(float)
    together = form.predict(resample(found, inputs, losses, weights=counts), inputs)
    for row, count in zip(together, counts.astype(int), strict=True):
        drawn = np.repeat(np.arange(30), count)
        alone = fit(form, {k: v[drawn] for k, v in inputs.items()}, losses[drawn], estimator=huber(0.02))
        np.testing.assert_allclose(row, alone.predict(inputs), rtol=2e-3)


def random_problem(name: str, seed: int, *, logarithmic: bool) -> tuple[Problem, np.ndarray]:
    """A noisy problem of one law in scaled coordinates, several targets and weights, with its starts."""
    inputs = ladder(25, seed)
    form = for_groups(LAWS[name], inputs)
    rng = np.random.default_rng(seed)
    truth = np.array(TRUTH[name]) * np.exp(0.1 * rng.standard_normal(len(TRUTH[name])))
    losses = form.predict(truth, inputs) * np.exp(0.02 * rng.standard_normal(25))
    scaled = scale(form, inputs, losses)
    relative = losses / scaled.loss_unit
    starts = separable_starts(form, scaled.inputs, relative, weights=np.ones(25), logarithmic=logarithmic)
    starts = starts[rng.permutation(len(starts))[:6]]
    several = relative * np.exp(0.01 * rng.standard_normal((len(starts), 25)))
    targets = np.log(several) if logarithmic else several
    return Problem(
        form, scaled.inputs, targets, rng.integers(0, 3, (len(starts), 25)).astype(float), logarithmic
    ), starts


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(name for name, law in LAWS.items() if law.terms)),
    seed=st.integers(0, 10_000),
    unit=st.sampled_from([1e-3, 0.02, 1.0]),
    is_huber=st.booleans(),
    logarithmic=st.booleans(),
)
def test_the_compiled_solver_takes_the_same_steps_as_the_batched_one(
    name: str, seed: int, unit: float, is_huber: bool, logarithmic: bool
) -> None:
    problem, starts = random_problem(name, seed, logarithmic=logarithmic)
    for iterations in (1, 3):
        compiled, batched = (
            solver(problem, starts, Scale(unit, is_huber), iterations=iterations, tolerance=1e-12)
            for solver in (by_terms, by_batch)
        )
        np.testing.assert_allclose(compiled.objective, batched.objective, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(compiled.theta, batched.theta, rtol=1e-4, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["power", "chinchilla", "chinchilla_tied", "shifted_power", "overtraining"]),
    seed=st.integers(0, 10_000),
    is_huber=st.booleans(),
)
def test_where_the_compiled_solver_converges_nothing_near_is_lower(name: str, seed: int, is_huber: bool) -> None:
    problem, starts = random_problem(name, seed, logarithmic=True)
    unit = Scale(0.02, is_huber)
    found = by_terms(problem, starts, unit, iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(found.objective, cost(problem, found.theta, unit), rtol=1e-9)
    np.testing.assert_allclose(found.gradient_norm, gradient_norm(problem, found.theta, unit), rtol=1e-3, atol=1e-5)
    rng = np.random.default_rng(seed)
    for size in (1e-2, 1e-4):
        near = found.theta * (1 + size * rng.standard_normal(found.theta.shape))
        near = np.clip(near, problem.law.lower, problem.law.upper)
        lower = cost(problem, near, unit) < found.objective * (1 - 1e-7) - 1e-9
        assert not (lower & found.converged).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_linear_parameters_are_solved_under_their_signs(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    basis, target = rng.uniform(0, 1, (3, 12, k)), rng.uniform(0, 1, (3, 12))
    signed = rng.integers(0, 2, k).astype(bool)
    found = bounded_least_squares(basis, target, signed=signed)
    assert (found[:, ~signed] >= 0).all()
    error = ((np.einsum("snk,sk->sn", basis, found) - target) ** 2).sum(axis=1)
    free = np.array(
        [np.linalg.lstsq(b, t, rcond=None)[1].sum() if k < 12 else 0.0 for b, t in zip(basis, target, strict=True)]
    )
    assert (error >= free - 1e-9).all()
    assert (error <= (target**2).sum(axis=1) + 1e-9).all()


def test_double_saturation_is_below_every_point_of_a_dense_grid() -> None:
    rng = np.random.default_rng(11)
    flops = np.geomspace(1e8, 1e12, 40)
    losses = (40 * (flops + 4e9) ** -0.2 + 0.15) * np.exp(0.004 * rng.standard_normal(40))
    found = fit(SHIFTED_POWER, {"flops": flops}, losses, estimator=least_squares())
    assert found.certificate.converged
    lowest = np.inf
    for b, c in product(np.geomspace(1e8, 1e11, 40), np.linspace(0.05, 0.6, 56)):
        basis = np.column_stack([(flops + b) ** -c, np.ones(40)])
        solution = np.linalg.lstsq(basis / np.abs(basis).max(axis=0), losses, rcond=None)[0]
        if (solution >= 0).all():
            lowest = min(lowest, 0.5 * float(((basis / np.abs(basis).max(axis=0) @ solution - losses) ** 2).sum()))
    assert found.certificate.objective <= lowest
    assert found.parameters["b"] == pytest.approx(4e9, rel=0.5)


def pure_power(e: float, count: int = 10) -> Fit:
    rng = np.random.default_rng(12)
    flops = np.geomspace(1e12, 2e13, count)
    losses = (60 * flops**-0.11 + e) * np.exp(0.01 * rng.standard_normal(count))
    return fit(POWER, {"flops": flops}, losses, estimator=huber(0.02))


def test_a_floor_that_a_short_span_cannot_see_is_called_unidentified() -> None:
    assert "e" in pure_power(0.5).certificate.unidentified
    flops = np.geomspace(1e8, 1e18, 60)
    rng = np.random.default_rng(13)
    clear = fit(POWER, {"flops": flops}, (60 * flops**-0.11 + 2.0) * np.exp(0.003 * rng.standard_normal(60)))
    assert clear.certificate.unidentified == ()


def test_the_certificate_lists_the_optima_and_how_many_starts_agree() -> None:
    inputs = ladder(60, seed=14)
    form = find_law("broken_power")
    rng = np.random.default_rng(15)
    losses = form.predict(np.array(TRUTH["broken_power"]), inputs) * np.exp(0.01 * rng.standard_normal(60))
    certificate = fit(form, inputs, losses).certificate
    assert certificate.distinct_optima > 1
    assert certificate.optima[0] == pytest.approx(certificate.objective, rel=1e-9)
    assert list(certificate.optima) == sorted(certificate.optima)
    assert 1 <= certificate.agreeing_starts < certificate.starts


@pytest.mark.parametrize("make", [log_least_squares, least_squares])
def test_fewer_points_than_parameters_are_refused(make: Callable[[], Estimator]) -> None:
    with pytest.raises(MeasurementError, match="5 parameters and 4 points"):
        fit(CHINCHILLA, {"params": np.arange(1.0, 5.0), "tokens": np.ones(4)}, np.ones(4), estimator=make())


def test_a_score_below_zero_can_be_fitted_as_it_is_but_not_as_a_log() -> None:
    loss = np.linspace(1.0, 3.0, 12)
    score = find_law("sigmoid").predict(np.array([-0.8, 2.0, 4.0, 0.6]), {"loss": loss})
    assert score.min() < 0
    found = fit(find_law("sigmoid"), {"loss": loss}, score, estimator=least_squares())
    np.testing.assert_allclose(found.predict({"loss": loss}), score, atol=1e-8)
    with pytest.raises(MeasurementError, match="every value must be positive"):
        fit(find_law("sigmoid"), {"loss": loss}, score)


def test_inputs_of_another_length_are_refused() -> None:
    with pytest.raises(MeasurementError, match="'tokens' has 8 values and the loss 9"):
        fit(CHINCHILLA, {"params": np.ones(9), "tokens": np.ones(8)}, np.ones(9))


def test_a_law_without_its_input_says_so() -> None:
    with pytest.raises(MeasurementError, match="'tokens'"):
        fit(CHINCHILLA, {"params": np.ones(9)}, np.ones(9))
