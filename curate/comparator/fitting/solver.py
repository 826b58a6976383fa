"""The compiled solver: projected Levenberg-Marquardt on sums of power terms, one start or bootstrap after the other.

The same algorithm as `descent.by_batch`, which takes any law, in numpy; a property test holds the two together. Counted
for Chinchilla on n points, a step costs 2n exponentials and n logarithms (they serve the trial and, once it is taken,
its Jacobian) and 15n multiplications for the normal equations: about 4 us at n = 240, where a batched numpy step
writes and reads some twenty arrays of the size of the batch. Compiled code stays on disk (`cache=True`); the first
call on a machine compiles for some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},  # sums may be reordered; nan and inf stay what they are
}
FLOOR = 1e-12  # of a prediction under a logarithm


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache can be written: each process compiles for itself
        return numba.njit(**OPTIONS)(function)


@compiled
def evaluate(  # type: ignore[no-untyped-def]
    theta, roles, sign, x, logs, present, target, weight, unit, huber, logarithmic, base, arg, prediction, u
):
    """Terms' powers, logs of their arguments, predictions and scaled residuals at `theta`; returns the cost."""
    terms, n = x.shape
    for i in range(n):
        prediction[i] = 0.0
    for t in range(terms):
        amplitude = theta[roles[t, 0]]
        if roles[t, 1] < 0:
            for i in range(n):
                base[t, i] = present[t, i]
                prediction[i] += amplitude * present[t, i]
            continue
        power = sign[t] * theta[roles[t, 1]]
        if roles[t, 2] >= 0:
            shift = theta[roles[t, 2]]
            for i in range(n):
                arg[t, i] = np.log(x[t, i] + shift)
        else:
            for i in range(n):
                arg[t, i] = logs[t, i]
        for i in range(n):
            if present[t, i] > 0.0:
                base[t, i] = np.exp(power * arg[t, i])
                prediction[i] += amplitude * base[t, i]
            else:
                base[t, i] = 0.0
    if logarithmic:
        for i in range(n):
            u[i] = (np.log(max(prediction[i], FLOOR)) - target[i]) / unit
    else:
        for i in range(n):
            u[i] = (prediction[i] - target[i]) / unit
    cost = 0.0
    if huber:
        for i in range(n):
            size = abs(u[i])
            cost += weight[i] * (0.5 * size * size if size <= 1.0 else size - 0.5)
    else:
        for i in range(n):
            cost += weight[i] * 0.5 * u[i] * u[i]
    return cost


@compiled
def normal_equations(  # type: ignore[no-untyped-def]
    theta, roles, sign, x, weight, unit, huber, logarithmic, base, arg, prediction, u, jacobian, gradient, hessian,
    diagonal, factor, inside
):  # fmt: skip
    """Gradient, Gauss-Newton curvature and the diagonal of the reweighted majorant from what `evaluate` left."""
    terms, n = x.shape
    p = len(theta)
    for i in range(n):
        factor[i] = 1.0 / (max(prediction[i], FLOOR) * unit) if logarithmic else 1.0 / unit
    jacobian[:] = 0.0
    for t in range(terms):
        a, e, s = roles[t, 0], roles[t, 1], roles[t, 2]
        for i in range(n):
            jacobian[a, i] += base[t, i] * factor[i]
        if e < 0:
            continue
        scale = sign[t] * theta[a]
        for i in range(n):
            jacobian[e, i] += scale * base[t, i] * arg[t, i] * factor[i]
        if s >= 0:
            shift = theta[s]
            scale *= theta[e]
            for i in range(n):
                jacobian[s, i] += scale * base[t, i] / (x[t, i] + shift) * factor[i]
    for i in range(n):
        size = abs(u[i])
        inside[i] = weight[i] if size <= 1.0 or not huber else 0.0
    for k in range(p):
        slope, major = 0.0, 0.0
        if huber:
            for i in range(n):
                slope += weight[i] * min(max(u[i], -1.0), 1.0) * jacobian[k, i]
                major += weight[i] * jacobian[k, i] * jacobian[k, i] / max(abs(u[i]), 1.0)
        else:
            for i in range(n):
                slope += weight[i] * u[i] * jacobian[k, i]
                major += weight[i] * jacobian[k, i] * jacobian[k, i]
        gradient[k], diagonal[k] = slope, major + 1e-12
        for i in range(n):
            factor[i] = inside[i] * jacobian[k, i]
        for m in range(k + 1):
            total = 0.0
            for i in range(n):
                total += factor[i] * jacobian[m, i]
            hessian[k, m] = total
            hessian[m, k] = total


@compiled
def solve_step(system, gradient, step):  # type: ignore[no-untyped-def]
    """step = -system^-1 gradient by Cholesky, in place; False where the system is not positive definite."""
    p = len(gradient)
    for k in range(p):
        for m in range(k + 1):
            total = system[k, m]
            for j in range(m):
                total -= system[k, j] * system[m, j]
            if k == m:
                if not total > 0.0:
                    return False
                system[k, k] = np.sqrt(total)
            else:
                system[k, m] = total / system[m, m]
    for k in range(p):
        total = -gradient[k]
        for j in range(k):
            total -= system[k, j] * step[j]
        step[k] = total / system[k, k]
    for k in range(p - 1, -1, -1):
        total = step[k]
        for j in range(k + 1, p):
            total -= system[j, k] * step[j]
        step[k] = total / system[k, k]
    return True


@compiled
def polish(  # type: ignore[no-untyped-def]
    roles, sign, x, logs, present, targets, weights, starts, lower, upper, unit, huber, logarithmic, iterations,
    tolerance
):  # fmt: skip
    """Minimise from every start (B, p); targets and weights (B, n) or (1, n); x, logs, present (terms, n).

    `roles` (terms, 3) holds the places of amplitude, exponent and shift in theta, -1 for none. Returns parameters
    (B, p), objectives, scaled projected gradient norms, whether converged (B,), as `descent.by_batch`.
    """
    count, p = starts.shape
    terms, n = x.shape
    found = starts.copy()
    objectives = np.empty(count)
    norms = np.full(count, np.inf)
    converged = np.zeros(count, np.bool_)
    base, arg = np.empty((2, terms, n)), np.empty((2, terms, n))
    prediction, u = np.empty((2, n)), np.empty((2, n))
    jacobian, gradient, hessian = np.empty((p, n)), np.empty(p), np.empty((p, p))
    diagonal, factor, inside = np.empty(p), np.empty(n), np.empty(n)
    system, step, proposal = np.empty((p, p)), np.empty(p), np.empty(p)
    blocked = np.zeros(p, np.bool_)
    for b in range(count):
        target = targets[b if len(targets) > 1 else 0]
        weight = weights[b if len(weights) > 1 else 0]
        theta = found[b]
        proposal[:] = theta
        damping, objective, predicted = 1e-3 / 0.2, np.inf, np.inf
        now, solved = 0, True
        for step_number in range(iterations + 1):
            trial = np.inf
            if solved:
                trial = evaluate(
                    proposal, roles, sign, x, logs, present, target, weight, unit, huber, logarithmic,
                    base[1 - now], arg[1 - now], prediction[1 - now], u[1 - now],
                )  # fmt: skip
            improved = trial < objective
            decrease, limit = objective - trial, tolerance * (1.0 + objective)
            if improved:
                theta[:] = proposal
                objective = trial
                now = 1 - now
                damping = max(damping * 0.2, 1e-12)
            else:
                damping = min(damping * 6.0, 1e12)
            if step_number == 0 and not improved:
                break  # nothing finite at the start
            if step_number > 0:
                # no predicted decrease left: at the optimum; a huge damping with none either means rounding is the
                # limit
                if predicted <= limit and (not improved or decrease <= limit):
                    converged[b] = True
                    break
                if not improved and damping >= 1e12:
                    converged[b] = norms[b] < 1e-3
                    break
            if improved:
                normal_equations(
                    theta, roles, sign, x, weight, unit, huber, logarithmic,
                    base[now], arg[now], prediction[now], u[now], jacobian, gradient, hessian, diagonal, factor, inside,
                )  # fmt: skip
                norms[b] = 0.0
                for k in range(p):
                    low, high = theta[k] <= lower[k], theta[k] >= upper[k]
                    blocked[k] = (low and gradient[k] > 0) or (high and gradient[k] < 0)
                    if blocked[k]:
                        gradient[k] = 0.0
                    norms[b] = max(norms[b], abs(gradient[k]) / np.sqrt(diagonal[k]))
            for k in range(p):
                for m in range(p):
                    system[k, m] = 0.0 if blocked[k] or blocked[m] else hessian[k, m]
                system[k, k] += damping * diagonal[k] + (1.0 if blocked[k] else 0.0) + 1e-12
            solved = solve_step(system, gradient, step)
            predicted = 0.0
            for k in range(p):
                proposal[k] = min(max(theta[k] + step[k], lower[k]), upper[k])
                predicted += (theta[k] - proposal[k]) * gradient[k]
            predicted = abs(predicted) if solved else np.inf
        objectives[b] = objective
    return found, objectives, norms, converged
