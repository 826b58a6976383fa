"""Fitting against scipy's L-BFGS-B with analytic gradients, on the same points in the same run, one thread.

    OMP_NUM_THREADS=1 python benchmarks/comparator/fit.py --out benchmarks/comparator/fit.json

Chinchilla: 240 points of an isoFLOP design, losses drawn from the published law (Besiroglu et al. 2024) with log-normal
noise; the peer is their procedure, Huber(1e-3) summed on log loss in the log-sum-exp form, from the 4,500 starts of
Hoffmann et al. 2022. The peer runs on the objective as published, which default tolerances end early, and rescaled by
delta^-2; the bar is held against the faster, both are stored. Bootstraps: the same 4,000 draws of rows for all, each
started at the optimum; peers that end early have other intervals (as published, a tenth of the width), so the bar is
held against the fastest peer whose intervals are ours to two digits, and every peer is stored. Double saturation: 40
points, least squares, the peer from 3,200 starts. Times are CPU seconds of one process after a first call that
compiles or loads the compiled code; ours the median of some passes, a peer's one pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from curate.comparator.fit import Fit, fit, resample
from curate.comparator.fitting.estimators import huber, least_squares
from curate.comparator.laws import CHINCHILLA, SHIFTED_POWER

Array = np.ndarray
SEED = 20240417
DELTA = 1e-3
LAW = np.array([1.81686, 482.006, 2085.434, 0.34781, 0.36585])
NOISE = 0.007  # of log loss; the published points scatter about as much around their law
POINTS, BOOTSTRAPS = 240, 4000
STARTS = list(product(np.arange(-1, 1.5, 0.5), np.arange(0, 30, 5), np.arange(0, 30, 5), *[np.arange(0, 2.5, 0.5)] * 2))
SATURATION = np.array([40.0, 4e9, 0.2, 0.15])  # a, b, c, d: errors of 1.0 to .25 over 1e8 to 1e12 GFLOPs
SATURATION_POINTS, SATURATION_NOISE = 40, 0.003
SATURATION_STARTS = list(
    product(
        np.linspace(-1, 6, 8), np.linspace(16, 26, 10), np.linspace(0.05, 0.75, 8), np.log([0.01, 0.05, 0.1, 0.2, 0.4])
    )
)
BOOTSTRAP_PEERS: dict[str, tuple[float, dict[str, float]]] = {
    "as published": (1.0, {}),
    "rescaled": (DELTA**2, {}),
    "rescaled, tight tolerances": (DELTA**2, {"ftol": 1e-13, "gtol": 1e-7, "maxiter": 15000, "maxfun": 100000}),
}
BARS = {"chinchilla global": 50, "bootstraps": 20, "double saturation": 200}


def cpu_seconds(work: Callable[[], Any], *, passes: int = 1) -> tuple[float, Any]:
    """Median CPU seconds of some passes, and what the last one gave."""
    taken, found = [], None
    for _ in range(passes):
        began = time.process_time()
        found = work()
        taken.append(time.process_time() - began)
    return float(np.median(taken)), found


def isoflop_points(seed: int) -> tuple[dict[str, Array], Array]:
    """Nine compute budgets, sizes around each one's optimum, losses (240,) of the law with noise."""
    rng = np.random.default_rng(seed)
    budgets = np.repeat(np.geomspace(6e18, 3e21, 9), 27)[:POINTS]
    params = 0.09 * budgets**0.5 * np.exp(rng.uniform(-1.4, 1.4, POINTS))
    inputs = {"params": params, "tokens": budgets / (6 * params)}
    return inputs, CHINCHILLA.predict(LAW, inputs) * np.exp(NOISE * rng.standard_normal(POINTS))


def log_sum_exp(log_n: Array, log_d: Array, log_l: Array, weights: Array, unit: float) -> Callable[[Array], Any]:
    """Huber objective over `unit` and its gradient at x = (e, a, b, alpha, beta)."""

    def objective(x: Array) -> tuple[float, Array]:
        of_n, of_d, floor = np.exp(x[1] - x[3] * log_n), np.exp(x[2] - x[4] * log_d), np.exp(x[0])
        total = floor + of_n + of_d
        residual = np.log(total) - log_l
        size = np.abs(residual)
        value = weights @ np.where(size <= DELTA, 0.5 * size * size, DELTA * (size - 0.5 * DELTA))
        slope = weights * np.clip(residual, -DELTA, DELTA) / total
        by_n, by_d = slope * of_n, slope * of_d
        gradient = np.array([slope.sum() * floor, by_n.sum(), by_d.sum(), -by_n @ log_n, -by_d @ log_d])
        return value / unit, gradient / unit

    return objective


def peer_grid(inputs: dict[str, Array], losses: Array, unit: float) -> tuple[float, Array]:
    """Best objective (as published) and parameters (e, a, b, alpha, beta) over the 4,500 starts."""
    logs = np.log(inputs["params"]), np.log(inputs["tokens"]), np.log(losses)
    objective = log_sum_exp(*logs, np.ones(len(losses)), unit)
    found = [minimize(objective, np.array(start), jac=True, method="L-BFGS-B") for start in STARTS]
    best = min(found, key=lambda f: f.fun if np.isfinite(f.fun) else np.inf)
    return float(best.fun) * unit, best.x


def outcome(found: Fit) -> dict[str, Any]:
    """What our fit came to, as stored."""
    certificate = found.certificate
    return {
        "objective": certificate.objective,
        "parameters": found.parameters,
        "converged": certificate.converged,
        "scaled gradient norm": certificate.gradient_norm,
        "starts": certificate.starts,
        "starts that agree": certificate.agreeing_starts,
    }


def chinchilla(result: dict[str, Any]) -> None:
    inputs, losses = isoflop_points(SEED)
    began = time.process_time()
    fit(CHINCHILLA, inputs, losses)
    result["first call, compiling or loading compiled code, s"] = round(time.process_time() - began, 2)
    ours, found = cpu_seconds(lambda: fit(CHINCHILLA, inputs, losses, estimator=huber(DELTA)), passes=5)
    lowest = found.certificate.objective
    peers: dict[str, dict[str, float]] = {}
    for name, unit in (("as published", 1.0), ("rescaled", DELTA**2)):
        seconds, (objective, _) = cpu_seconds(partial(peer_grid, inputs, losses, unit))
        peers[name] = {"s": seconds, "objective": objective, "excess over ours": objective / lowest - 1}
    fastest = min(p["s"] for p in peers.values())
    result["chinchilla global"] = {
        "points": POINTS,
        "ours, s": ours,
        "ours": outcome(found) | {"distinct optima": found.certificate.distinct_optima},
        "peer starts": len(STARTS),
        "peers": peers,
        "ratio": fastest / ours,
        "holds": bool(all(p["excess over ours"] >= -1e-9 for p in peers.values())),
    }

    counts = np.random.default_rng(SEED + 1).multinomial(POINTS, np.full(POINTS, 1 / POINTS), size=BOOTSTRAPS)
    weights = counts.astype(float)
    seconds, drawn = cpu_seconds(lambda: resample(found, inputs, losses, weights=weights), passes=3)
    mine = np.column_stack([np.log(drawn[:, :3]), drawn[:, 3:]])
    start = np.concatenate([np.log(found.theta[:3]), found.theta[3:]])
    logs = np.log(inputs["params"]), np.log(inputs["tokens"]), np.log(losses)

    def peer(unit: float, options: dict[str, float]) -> Array:
        made = [log_sum_exp(*logs, row, unit) for row in weights]
        return np.array([minimize(f, start, jac=True, method="L-BFGS-B", options=options).x for f in made])

    def objectives(ends: Array) -> Array:
        return np.array([log_sum_exp(*logs, row, DELTA**2)(x)[0] for row, x in zip(weights, ends, strict=True)])

    lowest_drawn = objectives(mine)
    stored: dict[str, Any] = {}
    for name, (unit, options) in BOOTSTRAP_PEERS.items():
        taken, theirs = cpu_seconds(partial(peer, unit, options))
        excess = objectives(theirs) / lowest_drawn - 1
        stored[name] = {
            "s": taken,
            "ratio": taken / seconds,
            **compare_intervals(mine, theirs),
            "objectives over ours, median and extremes": [float(np.quantile(excess, q)) for q in (0.5, 0.0, 1.0)],
        }
    agreeing = [p for p in stored.values() if p["same to two digits"]]
    result["bootstraps"] = {
        "draws": BOOTSTRAPS,
        "ours, s": seconds,
        "peers": stored,
        "ratio": min(p["ratio"] for p in agreeing) if agreeing else 0.0,  # to the fastest peer with the same intervals
        "holds": bool(agreeing),
    }


def compare_intervals(ours: Array, theirs: Array) -> dict[str, Any]:
    """95% percentile intervals of E, A, B, alpha, beta; the largest difference of an edge, and whether all edges round
    to the same two digits or differ by less than half a unit of the second.
    """
    names = ("E", "A", "B", "alpha", "beta")
    mine, peer = (np.quantile(values, [0.025, 0.975], axis=0) for values in (ours, theirs))
    for edges in (mine, peer):
        edges[:, :3] = np.exp(edges[:, :3])
    unit = 10.0 ** (np.floor(np.log10(np.abs(peer))) - 1)
    return {
        "intervals, ours": {n: mine[:, i].round(5).tolist() for i, n in enumerate(names)},
        "intervals, theirs": {n: peer[:, i].round(5).tolist() for i, n in enumerate(names)},
        "largest relative difference": float(np.abs(mine / peer - 1).max()),
        "same to two digits": bool((np.abs(mine - peer) <= 0.5 * unit).all()),
    }


def double_saturation(result: dict[str, Any]) -> None:
    rng = np.random.default_rng(SEED + 2)
    flops = np.geomspace(1e8, 1e12, SATURATION_POINTS)
    errors = SHIFTED_POWER.predict(SATURATION, {"flops": flops}) + SATURATION_NOISE * rng.standard_normal(len(flops))
    fit(SHIFTED_POWER, {"flops": flops}, errors, estimator=least_squares())
    ours, found = cpu_seconds(lambda: fit(SHIFTED_POWER, {"flops": flops}, errors, estimator=least_squares()), passes=5)
    lowest = found.certificate.objective

    def objective(x: Array, unit: float) -> tuple[float, Array]:
        """Half squares over `unit` and their gradient at x = (log a, log b, c, log d)."""
        shift, floor = np.exp(x[1]), np.exp(x[3])
        logs = np.log(flops + shift)
        power = np.exp(x[0] - x[2] * logs)
        residual = power + floor - errors
        weighted = residual * power
        gradient = np.array(
            [
                weighted.sum(),
                -x[2] * shift * (weighted / (flops + shift)).sum(),
                -weighted @ logs,
                residual.sum() * floor,
            ]
        )
        return 0.5 * residual @ residual / unit, gradient / unit

    peers: dict[str, dict[str, float]] = {}
    for name, unit in (("as it is", 1.0), ("rescaled", SATURATION_NOISE**2)):

        def search(unit: float = unit) -> float:
            found = [
                minimize(objective, np.array(s), args=(unit,), jac=True, method="L-BFGS-B").fun
                for s in SATURATION_STARTS
            ]
            return float(np.nanmin(found)) * unit

        seconds, best = cpu_seconds(search)
        peers[name] = {"s": seconds, "objective": best, "excess over ours": best / lowest - 1}
    result["double saturation"] = {
        "points": SATURATION_POINTS,
        "ours, s": ours,
        "ours": outcome(found),
        "peer starts": len(SATURATION_STARTS),
        "peers": peers,
        "ratio": min(p["s"] for p in peers.values()) / ours,
        "holds": bool(all(p["excess over ours"] >= -1e-9 for p in peers.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "load_average": round(os.getloadavg()[0], 1),
            "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        },
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")},
        "seed": SEED,
    }
    chinchilla(result)
    double_saturation(result)
    result["bars"] = {
        name: {"wanted": bar, "measured": round(result[name]["ratio"], 1), "met": bool(result[name]["ratio"] >= bar)}
        for name, bar in BARS.items()
    }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
