"""What an estimator's objective is worth as evidence: residuals at any parameters, and the scale of its rises.

An M-estimator's objective is no log-likelihood. Divided by lambda = mean psi^2 / mean psi' of the residuals, twice its
rise from the optimum is chi-squared with as many degrees of freedom as parameters are held (Schrader and
Hettmansperger 1980, Biometrika 67:93); with few points, Student's or Fisher's. With a threshold far below the
residuals psi' is an indicator that hardly any point meets: its mean is then taken from the density at zero within a
kernel's width (Silverman's rule), as for least absolute deviations. Residuals count as independent: replicates and
branches of one run must be averaged first. Weights are taken for precisions, one over a point's variance, known up to
a factor: multiplied all by the same, they change no evidence.
"""

import numpy as np
import numpy.typing as npt

from curate.comparator.fitting.estimators import Estimator
from curate.comparator.laws import Array, Inputs, Law
from curate.errors import MeasurementError


def residuals_at(law: Law, theta: Array, inputs: Inputs, losses: npt.ArrayLike, estimator: Estimator) -> Array:
    """Prediction minus loss (n,) at natural parameters (p,), in the estimator's space; infinite where a logarithm of
    the prediction does not exist.
    """
    prediction = law.predict(np.asarray(theta, dtype=float), inputs)
    values = np.asarray(losses, dtype=float)
    if not estimator.logarithmic:
        return prediction - values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(prediction > 0, np.log(prediction) - np.log(values), np.inf)


def dispersion(residuals: Array, estimator: Estimator, *, free: int, weights: Array | None = None) -> float:
    """lambda: what a rise of the objective is divided by, from the residuals (n,) of a fit with `free` parameters and
    `weights` (n,), of which points of weight 0 do not count.
    """
    share = np.ones(len(residuals)) if weights is None else np.asarray(weights, dtype=float)
    residuals, share = residuals[share > 0], share[share > 0]
    n, delta = len(residuals), estimator.delta
    if n <= free:
        raise MeasurementError(f"Evidence on a parameter needs more points than the {free} free parameters, not {n}.")
    if not np.isfinite(delta):
        return float((share * residuals**2).sum() / (n - free))
    size = np.abs(residuals)
    scale = min(float(residuals.std()), float(np.median(size)) / 0.6745)
    width = max(delta, 1.06 * scale * n**-0.2)
    near = max(float(share[size <= width].sum()), float(share.mean()))
    if delta == 0:
        return float((share**2).sum() * width / near * n / (n - free))
    return float((share**2 * np.minimum(size, delta) ** 2).sum() / (delta / width * near) * n / (n - free))
