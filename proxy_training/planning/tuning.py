"""Finds the constants of a ladder's rule: sweeps of rate and batch on its smallest rungs, on a neutral mixture.

On each rung the learning rate goes up and down by factors of two from what the rule says, further while the best lies
at an edge, each rate with several seeds; a parabola gives the optimum and its error (valley.py). Batches go up and
down by factors of two, too, as long as the loss falls by more than its noise. The law then keeps the rule's exponents
and moves its base constants; a bound for the smallest rungs and, from three rungs on, the exponent of N move where they
explain what was found. What is found is a ladder file with `tuned:`, and `tuning.json` with every training. Cost: about
12 trainings a rung, 30 with batches, which stack.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml

from curate.errors import RecipeError, TrainingError
from curate.fingerprints import write_json
from curate.progress import Progress
from curate.proxy_training.evaluate import evaluation_fingerprint
from curate.proxy_training.ladder import Ready
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.planning.ladder_file import Ladder
from curate.proxy_training.planning.rules import Size
from curate.proxy_training.planning.valley import Point, Valley, find_valley
from curate.proxy_training.procedure import Procedure, Rules, Tuned
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.mixture import neutral_mixture
from curate.proxy_training.training.run_folders import divergence, point_file, run_folder

STEP = 2.0
"""Between two rates, and between two batches."""
WIDENINGS = 6
"""How often a sweep goes on beyond its edge; past that the optimum is taken to be where it stopped, and said so."""
SURE = 0.1
"""Smallest error of a log rate that weighs in the law: no sweep of ours knows its optimum better than 10%."""

Train = Callable[[Sequence[Run]], Sequence[float]]
"""Runs to their losses (mean bits per byte at the longest budget); infinite for one that diverged."""


@dataclass(frozen=True)
class Rung:
    """What was found at one scale."""

    scale: str
    """Its name."""
    size: Size
    """What the rule is asked about."""
    rule_rate: float
    """What the rule said before, at its batch."""
    rule_batch: int
    """What the rule said before, in tokens."""
    batch: int
    """The best batch, in tokens."""
    valley: Valley
    """Learning rates at the best batch."""
    given_up: float
    """Part of the best loss that the rule gave up, rate and batch together."""


@dataclass(frozen=True)
class Tuning:
    """The result of `tune_ladder`."""

    ladder: Ladder
    """With the constants found and `tuned` set."""
    rungs: tuple[Rung, ...]
    """What the sweeps said."""
    changed: dict[str, float]
    """Constants that moved."""
    given_up_after: tuple[float, ...]
    """Part of the best loss that the tuned rule gives up, by rung."""
    path: Path
    """The tuned ladder's file."""

    def sentences(self) -> list[str]:
        """What a person should know, a line each."""
        lines = []
        for rung, after in zip(self.rungs, self.given_up_after, strict=True):
            valley = rung.valley
            known = math.isfinite(valley.log_error)
            error = f"x/ {math.exp(valley.log_error):.2f}" if known else "its error is not known: more seeds tell it"
            lines.append(
                f"{rung.scale}: best rate {valley.learning_rate:.3g} ({error}) at batches of {rung.batch} tokens, loss "
                f"{valley.loss:.4f}; the rule said {rung.rule_rate:.3g} at {rung.rule_batch} and gave up "
                f"{rung.given_up:.2%}, tuned it gives up {after:.2%}"
            )
            if valley.edge:
                lines.append(f"{rung.scale}: the best rate lies at the edge of the sweep; sweep this rung by hand")
        moved = ", ".join(f"{name} {value:.4g}" for name, value in self.changed.items())
        return [*lines, f"constants: {moved or 'none moved'}; {self.path}"]


def tune(
    ready: Ready,
    *,
    mixture: Mapping[str, TokenizedDataset] | None = None,
    rungs: int = 2,
    seeds: int = 2,
    batches: bool = True,
    workers: int = 2,
    progress: Progress | None = None,
) -> Tuning:
    """`tune_ladder` as `curate train tune` does it: the trainings of `ready`'s ladder, in `<out>/tuning`, resumable.

    The neutral mixture is of all contestants, unless `mixture` names what it is made of.
    """
    out = ready.out / "tuning"
    contestants = {run.dataset.name: run.dataset for run in ready.runs}
    return tune_ladder(
        ready.ladder,
        procedure=ready.runs[0].procedure,
        datasets=mixture or contestants,
        evaluation=evaluation_fingerprint(ready.heldout),
        train=trainings(replace(ready, tasks={}, out=out), workers=workers, progress=progress or Progress()),
        out=out,
        rungs=rungs,
        seeds=seeds,
        batches=batches,
    )


def trainings(ready: Ready, *, workers: int, progress: Progress) -> Train:
    """Train runs as a ladder does; a run that diverged has an infinite loss, anything else that fails is raised."""

    def train(runs: Sequence[Run]) -> list[float]:
        replace(ready, runs=tuple(runs)).train(workers=workers, progress=progress)
        return [_loss(run, run_folder(ready.out, run.fingerprint)) for run in runs]

    return train


def _loss(run: Run, folder: Path) -> float:
    """Mean bits per byte at the longest budget; infinite for a run that diverged."""
    if divergence(folder, run.evaluation):
        return math.inf
    path = point_file(folder, run.longest_tokens, run.evaluation)
    values = json.loads(path.read_text())["bits_per_byte"].values()
    return sum(values) / len(values)


def tune_ladder(
    ladder: Ladder,
    *,
    procedure: Procedure,
    datasets: Mapping[str, TokenizedDataset],
    evaluation: str,
    train: Train,
    out: Path,
    rungs: int = 2,
    seeds: int = 2,
    batches: bool = True,
) -> Tuning:
    """Tune the rule of `ladder` on its `rungs` smallest scales with `seeds` seeds; writes `<name>-tuned.yaml` in `out`.

    `procedure` is the ladder's, settled for this machine; `datasets` are the contestants (or one named corpus); `train`
    trains runs whose held-out sets have the fingerprint `evaluation`. Trainings that `train` remembers are not done
    again. Raises TrainingError where a rung diverges at all rates.
    """
    scales = ladder.by_size()[:rungs]
    for one in scales:
        if one.learning_rate or one.batch_sequences:
            raise RecipeError(
                f"Ladder {ladder.name!r}: scale {one.name!r} sets its own learning rate or batch; tuning finds the "
                "constants of a rule, so take them out first."
            )
    longest = max(one.budgets_tokens[-1] for one in scales)
    mixture = neutral_mixture(datasets, tokens=longest, out=out / "mixture")
    points: list[dict] = []

    def losses(runs: Sequence[Run]) -> list[Point]:
        found = [Point(run.learning_rate, run.seed, loss) for run, loss in zip(runs, train(runs), strict=True)]
        points.extend(
            {"scale": run.scale.name, "batch_tokens": run.batch_tokens, "run_id": run.fingerprint, **asdict(point)}
            for run, point in zip(runs, found, strict=True)
        )
        return found

    tuned_rungs = tuple(
        _tune_rung(Run(mixture, one, 0, procedure, evaluation), losses, seeds, batches) for one in scales
    )
    changed = fit_constants(ladder.procedure, tuned_rungs)
    tuned = Tuned(
        ladder=ladder.name,
        rungs=tuple(one.name for one in scales),
        seeds=tuple(range(seeds)),
        mixture=mixture.fingerprint,
        evaluation=evaluation,
        procedure=procedure.fingerprint(),
        date=datetime.now(UTC).date().isoformat(),
    )
    rules = Rules.model_validate(ladder.procedure.model_dump() | changed | {"tuned": tuned.model_dump()})
    made = ladder.model_copy(update={"name": f"{ladder.name}-tuned", "procedure": rules})
    path = out / f"{made.name}.yaml"
    after = tuple(rung.valley.given_up(rules.learning_rate(rung.size, batch_tokens=rung.batch)) for rung in tuned_rungs)
    tuning = Tuning(made, tuned_rungs, changed, after, path)
    path.write_text(_as_yaml(tuning))
    write_json(
        out / "tuning.json",
        {"tuned": tuned.model_dump(mode="json"), "changed": changed, "said": tuning.sentences(), "points": points},
    )
    return tuning


def _tune_rung(run: Run, losses: Callable[[Sequence[Run]], list[Point]], seeds: int, batches: bool) -> Rung:
    """Sweep the rate at the rule's batch; then other batches, as long as one is better by more than the noise."""
    rate, batch = run.learning_rate, run.batch_sequences
    ruled = best = sweep(run, losses, seeds=seeds, rate=rate, batch=batch)
    best_batch = batch
    for direction in (1 / STEP, STEP) if batches else ():
        while (other := round(best_batch * direction)) >= 1 and other != best_batch:
            # Adam's rates go with the root of the batch (Malladi et al. 2022): the next optimum is sought there
            start = best.learning_rate * (other / best_batch) ** 0.5
            valley = sweep(run, losses, seeds=seeds, rate=float(f"{start:.3g}"), batch=other)
            noise = 0.0 if math.isnan(valley.sigma) else 2 * valley.sigma * math.sqrt(2 / seeds)
            if not valley.loss < best.loss - noise:
                break
            best, best_batch = valley, other
        if best_batch != batch:
            break
    kept = ruled.loss * (1 + ruled.given_up(rate))
    return Rung(
        scale=run.scale.name,
        size=run.size,
        rule_rate=rate,
        rule_batch=run.batch_tokens,
        batch=best_batch * run.procedure.sequence_length,
        valley=best,
        given_up=kept / best.loss - 1,
    )


def sweep(run: Run, losses: Callable[[Sequence[Run]], list[Point]], *, seeds: int, rate: float, batch: int) -> Valley:
    """Rates by factors of STEP around `rate`, wider while the best mean lies at an edge.

    The run's longest budget alone, with the warm-up that its branches share.
    """
    batch_tokens = batch * run.procedure.sequence_length
    warmup = run.scale.warmup_steps or run.procedure.warmup_steps(run.size, batch_tokens=batch_tokens)

    own = {"batch_sequences": batch, "budgets_tokens": run.scale.budgets_tokens[-1:], "warmup_steps": warmup}

    def trained(rates: Sequence[float]) -> list[Point]:
        scales = [run.scale.model_copy(update={**own, "learning_rate": one}) for one in rates]
        return losses([replace(run, scale=scale, seed=seed) for scale in scales for seed in range(seeds)])

    points = trained([rate * STEP**power for power in (-2, -1, 0, 1, 2)])
    for _ in range(WIDENINGS):
        if _finite_rates(points) < 2:
            points += trained([min(point.learning_rate for point in points) / STEP**power for power in (1, 2)])
            continue
        valley = find_valley(points)
        if valley.edge == 0:
            return valley
        outermost = valley.rates[0] if valley.edge < 0 else valley.rates[-1]
        points += trained([outermost * STEP ** (valley.edge * power) for power in (1, 2)])
    if _finite_rates(points) < 2:
        lowest = min(point.learning_rate for point in points)
        raise TrainingError(f"{run.scale.name} diverges at every learning rate down to {lowest:.3g}; look at its data.")
    return find_valley(points)


def _finite_rates(points: Sequence[Point]) -> int:
    """Rates at which no seed diverged."""
    rates, bad = ({p.learning_rate for p in points if math.isfinite(p.loss) is finite} for finite in (True, False))
    return len(rates - bad)


def fit_constants(rules: Rules, rungs: Sequence[Rung]) -> dict[str, float]:
    """The constants of `rules` that the rungs move, by weighted least squares in log rate.

    The base always follows; the bound, and from three rungs on the exponent of N, where each takes 4 off chi squared (2
    standard errors). Under the bound lie the rungs of the highest law rates, never all of them.
    """
    changed: dict[str, float] = {}
    _fit_batch(rules, rungs, changed)
    unbounded = rules.model_copy(update=changed | {"learning_rate_max": math.inf})
    laws = np.array([unbounded.learning_rate(rung.size, batch_tokens=rung.batch) for rung in rungs])
    order = np.argsort(-laws)
    found = np.log([rungs[i].valley.learning_rate for i in order])
    logs = np.log(laws[order])
    off = found - logs
    sizes = np.log([unbounded.model_params(rungs[i].size) / rules.base_params for i in order])
    weights = np.array([max(SURE, min(math.log(STEP), rungs[i].valley.log_error)) ** -2.0 for i in order])
    candidates = []
    for bound in range(len(rungs)):
        free = slice(bound, None)
        for bends in (False, True) if len(rungs) - bound >= 3 and rules.parametrisation == "standard" else (False,):
            slope = _slope(sizes[free], off[free], weights[free]) if bends else 0.0
            slope = min(slope, -rules.learning_rate_exponent)  # rates never rise with N
            base = float(np.average(off[free] - slope * sizes[free], weights=weights[free]))
            highest = float(np.average(found[:bound], weights=weights[:bound])) if bound else math.inf
            misfit = np.minimum(highest, logs + base + slope * sizes) - found
            candidates.append((float(weights @ misfit**2) + 4 * (bool(bound) + bends), bound, base, slope, highest))
    _, bound, base, slope, highest = min(candidates)
    changed["base_learning_rate"] = _rounded(rules.base_learning_rate * math.exp(base))
    if slope:
        changed["learning_rate_exponent"] = round(rules.learning_rate_exponent + slope, 3)
    reached = _rounded(math.exp(float(max(logs + base + slope * sizes))))
    changed["learning_rate_max"] = _rounded(math.exp(highest)) if bound else max(rules.learning_rate_max, reached)
    return {name: value for name, value in changed.items() if value != getattr(rules, name)}


def _slope(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    centred = x - np.average(x, weights=weights)
    return float(weights @ (centred * y)) / float(weights @ centred**2)


def _fit_batch(rules: Rules, rungs: Sequence[Rung], changed: dict[str, float]) -> None:
    """Move the batch's base, or the bound that holds, where a rung wants another batch than the rule's."""
    if all(rung.batch == rung.rule_batch for rung in rungs):
        return
    free = [rung for rung in rungs if rules.batch_tokens_min < rules.batch_law(rung.size) < rules.batch_tokens_max]
    low = [rung for rung in rungs if rules.batch_law(rung.size) <= rules.batch_tokens_min]
    high = [rung for rung in rungs if rules.batch_law(rung.size) >= rules.batch_tokens_max]
    if free:
        changed["base_batch_tokens"] = _rounded(
            rules.base_batch_tokens * _geometric_mean([rung.batch / rung.rule_batch for rung in free])
        )
    if low:
        changed["batch_tokens_min"] = round(_geometric_mean([rung.batch for rung in low]))
    if high:
        changed["batch_tokens_max"] = round(_geometric_mean([rung.batch for rung in high]))
    least = changed.get("batch_tokens_min", rules.batch_tokens_min)
    most = changed.get("batch_tokens_max", rules.batch_tokens_max)
    if least > most:
        changed["batch_tokens_min" if high else "batch_tokens_max"] = most if high else least


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _as_yaml(tuning: Tuning) -> str:
    """The tuned ladder as a file that `load_ladder` reads, with what was found above it."""
    ladder = tuning.ladder
    data = ladder.model_dump(mode="json", exclude_defaults=True)
    shipped = Rules(rule=ladder.procedure.rule).model_dump(mode="json")
    rules = ladder.procedure.model_dump(mode="json")
    data["procedure"] = {k: v for k, v in rules.items() if k == "rule" or v != shipped[k]}
    said = "".join(f"# {line}\n" for line in tuning.sentences())
    return f"# Made by `curate train tune`.\n{said}{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}"
