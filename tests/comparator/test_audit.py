"""An audit finds each way in which a published fit has gone wrong, and is silent on a sound one."""

import numpy as np
import pytest

from curate.comparator.audit import audit
from curate.comparator.fit import fit
from curate.comparator.fitting.estimators import huber, log_least_squares
from curate.comparator.laws import Inputs, Law, Parameter, find_law
from curate.errors import MeasurementError

LAW = find_law("power")
INPUTS = {"flops": np.geomspace(1e17, 1e21, 24)}
TRUTH = np.array([300.0, 0.1, 1.2])
LOSSES = LAW.predict(TRUTH, INPUTS) * np.exp(0.01 * np.random.default_rng(0).standard_normal(24))
BEST = fit(LAW, INPUTS, LOSSES, estimator=huber(1e-3))
START = {"a": 1.0, "b": 0.3, "e": 1.0}


def names(**how: object) -> set[str]:
    claim = how.pop("claim", BEST.parameters)
    found = audit(LAW, INPUTS, LOSSES, claim, estimator=huber(1e-3), **how)  # type: ignore[arg-type]
    assert found.sound == (not found.checks)
    return {c.name for c in found.checks}


def test_the_optimum_itself_is_sound() -> None:
    found = audit(LAW, INPUTS, LOSSES, BEST.parameters, estimator=huber(1e-3), start=START)
    assert found.sound, str(found)
    assert found.excess == pytest.approx(0, abs=1e-9)
    assert found.gradient_norm < 1e-3 < found.moved  # type: ignore[operator]


def test_a_claim_that_is_the_start_is_called_unmoved() -> None:
    assert names(claim=START, start=START) == {"unmoved_start", "not_the_optimum"}
    assert names(claim=START) == {"not_the_optimum"}


def test_a_claim_near_the_optimum_is_a_warning_and_one_far_away_is_severe() -> None:
    near = {k: v * (1.0003 if k == "b" else 1.0) for k, v in BEST.parameters.items()}
    far = {k: v * (1.02 if k == "b" else 1.0) for k, v in BEST.parameters.items()}
    found = [audit(LAW, INPUTS, LOSSES, c, estimator=huber(1e-3)) for c in (near, far)]
    assert [f.checks[0].name for f in found] == ["not_the_optimum"] * 2
    assert [f.checks[0].severity for f in found] == ["warning", "severe"]
    assert found[0].rise < 3 < found[1].rise
    assert "hardly tell the two apart" in str(found[0]) and "outside" in str(found[1])


def test_weights_that_grow_with_the_error_are_called_inverted_and_others_are_not() -> None:
    errors = np.linspace(0.01, 0.05, 24)
    assert names(weights=errors**2, errors=errors) == {"inverted_weights"}
    right = fit(LAW, INPUTS, LOSSES, estimator=huber(1e-3), weights=errors**-2.0 / (errors**-2.0).mean())
    found = audit(
        LAW, INPUTS, LOSSES, right.parameters,
        estimator=huber(1e-3), weights=errors**-2.0 / (errors**-2.0).mean(), errors=errors,
    )  # fmt: skip
    assert found.sound, str(found)
    assert names(weights=np.ones(24), errors=errors) == set()


def test_a_parameter_at_a_bound_is_named() -> None:
    falling = 60.0 * INPUTS["flops"] ** -0.07
    found = audit(LAW, INPUTS, falling, {"a": 60.0, "b": 0.07, "e": 0.0}, estimator=log_least_squares())
    assert "at_bound" in {c.name for c in found.checks}


def test_only_free_parameters_have_to_be_claimed() -> None:
    law = LAW.fix({"e": 1.2})
    best = fit(law, INPUTS, LOSSES, estimator=huber(1e-3)).parameters
    found = audit(law, INPUTS, LOSSES, {"a": best["a"], "b": best["b"]}, estimator=huber(1e-3))
    assert found.sound and found.claimed["e"] == 1.2


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [({"a": 1.0, "b": 0.1}, "lacks e"), ({"a": 1.0, "b": 0.1, "e": 1.0, "z": 0.0}, "names 'z'")],
)
def test_a_claim_that_does_not_fit_the_law_is_one_sentence(claim: dict[str, float], sentence: str) -> None:
    with pytest.raises(MeasurementError, match=sentence):
        audit(LAW, INPUTS, LOSSES, claim)


def test_points_that_lie_on_the_law_leave_rounding_and_no_complaint() -> None:
    exact = LAW.predict(TRUTH, INPUTS)
    best = fit(LAW, INPUTS, exact, estimator=huber(1e-3)).parameters
    for claim in (best, dict(zip(LAW.names, TRUTH.tolist(), strict=True))):
        assert audit(LAW, INPUTS, exact, claim, estimator=huber(1e-3)).sound
    assert not audit(LAW, INPUTS, exact, {**best, "b": 0.1001}, estimator=huber(1e-3)).sound


def test_a_factor_of_all_weights_changes_no_judgement() -> None:
    claim = {k: v * (1.0003 if k == "b" else 1.0) for k, v in BEST.parameters.items()}
    rises = [
        audit(LAW, INPUTS, LOSSES, claim, estimator=huber(1e-3), weights=np.full(24, factor)).rise
        for factor in (1.0, 100.0, 0.01)
    ]
    assert rises == pytest.approx([rises[0]] * 3, rel=1e-4)


def test_a_claim_better_than_all_starts_lead_to_is_the_one_to_beat() -> None:
    """A wave with one start in the wrong valley: the audit finds the claim's valley by beginning there."""

    def predict(theta: np.ndarray, inputs: Inputs) -> np.ndarray:
        return 2.0 + np.cos(theta[..., 0, None] * inputs["flops"])

    def jacobian(theta: np.ndarray, inputs: Inputs) -> np.ndarray:
        return (-inputs["flops"] * np.sin(theta[..., 0, None] * inputs["flops"]))[..., None]

    parameters = (Parameter("k", 0.0, 20.0, grid=(0.5,)),)
    wave = Law("wave", "2 + cos kC", parameters, ("flops",), predict, jacobian, "a test", centred=False)
    x = {"flops": np.linspace(0.1, 3.0, 40)}
    values = predict(np.array([7.0]), x) * np.exp(0.01 * np.random.default_rng(1).standard_normal(40))
    stuck = fit(wave, x, values, estimator=log_least_squares())
    found = audit(wave, x, values, {"k": 7.0}, estimator=log_least_squares())
    assert stuck.certificate.objective > 100 * found.best.certificate.objective
    assert found.best.parameters["k"] == pytest.approx(7.0, abs=0.01)
    assert 0 <= found.excess < 1


def test_a_printed_objective_is_held_to_the_weights_that_made_it() -> None:
    errors = np.linspace(0.01, 0.05, 24)
    theirs = errors**2
    claim = fit(LAW, INPUTS, LOSSES, estimator=huber(1e-3), weights=theirs)
    found = audit(
        LAW, INPUTS, LOSSES, claim.parameters,
        estimator=huber(1e-3), weights=theirs, errors=errors, printed_objective=claim.certificate.objective,
    )  # fmt: skip
    assert "inverted_weights" in {c.name for c in found.checks}
    assert "another_objective" not in {c.name for c in found.checks}


def test_errors_that_are_not_the_points_get_one_sentence() -> None:
    with pytest.raises(MeasurementError, match="24 finite numbers"):
        audit(LAW, INPUTS, LOSSES, BEST.parameters, weights=np.ones(24), errors=np.ones(23))
