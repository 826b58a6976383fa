"""The verdict as frozen values: what was compared, what came out, how sure. They print themselves and turn into plain
JSON.

Numbers are in the metric's units, compute in FLOPs. An `Estimate` carries its interval at the verdict's confidence;
`infinity` and `nan` become null in JSON. Signs: a gap or an advantage is positive where the dataset named first is
better, whatever the metric's direction.
"""

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

VERDICT_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A best value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Span:
    """A range of compute in FLOPs."""

    low: float
    high: float

    @property
    def decades(self) -> float:
        return math.log10(self.high / self.low) if 0 < self.low <= self.high else 0.0

    def extrapolation(self, flops: float) -> float:
        """1 inside; else the factor by which `flops` lies outside."""
        return max(1.0, flops / self.high, self.low / flops)


@dataclass(frozen=True)
class Check:
    """A warning: what is wrong, how bad, what to do. A severe one stands in the verdict's first line."""

    name: str
    severity: Literal["severe", "warning", "note"]
    message: str
    remedy: str


@dataclass(frozen=True)
class Point:
    """One measured value that entered the comparison."""

    dataset: str
    run_id: str
    scale: str | None
    params: float
    tokens: float
    flops: float
    seed: int | None
    value: float


@dataclass(frozen=True)
class Noise:
    """The fitted noise of one metric: standard deviation over seeds, and the share that branches of a run have in
    common.
    """

    run_sd: Estimate
    branch_correlation: float
    misfit_sd: float
    degrees_of_freedom: int
    replicated_runs: int
    source: str


@dataclass(frozen=True)
class Curve:
    """Median and band over compute (FLOPs); four sequences of one length."""

    flops: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class CellGap:
    """Difference first - second, in the metric's own sign, on one cell (N, D) that both datasets have."""

    scale: str | None
    params: float
    tokens: float
    flops: float
    runs_first: int
    runs_second: int
    gap: Estimate


@dataclass(frozen=True)
class Certificate:
    """What the optimiser can show for its result; `moved` is in the fit's scaled coordinates, `objective` as papers
    print it.
    """

    converged: bool
    gradient_norm: float
    moved: float
    at_bound: tuple[str, ...]
    distinct_optima: int
    condition: float
    starts: int
    objective: float


@dataclass(frozen=True)
class LawFit:
    """A law fitted to one dataset, its parameters with bootstrap intervals and its curve along the ladder's own
    trajectory.
    """

    dataset: str
    law: str
    estimator: str
    formula: str
    source: str
    parameters: dict[str, Estimate]
    certificate: Certificate
    loss_curve: Curve
    residual_sd: float


@dataclass(frozen=True)
class Ranked:
    """A dataset's place: 1 + the number of datasets decidedly better; `advantage` over the mean of all, positive =
    better.
    """

    dataset: str
    rank: int
    tied_with: tuple[str, ...]
    p_best: float
    advantage: Estimate


@dataclass(frozen=True)
class Ranking:
    """The order at one compute, best first; extrapolation is 1 inside the common span."""

    at: float
    extrapolation: float
    order: tuple[Ranked, ...]


@dataclass(frozen=True)
class MoreRuns:
    """How many more runs (both datasets together) at one rung would decide, if the gap is what it looks like."""

    runs: int
    scale: str
    flops: float
    message: str


@dataclass(frozen=True)
class Comparison:
    """A pair at one compute. `multiplier`: the better dataset's compute is worth that many times the worse one's."""

    at: float
    extrapolation: float
    better: str
    worse: str
    p_better: float
    decided: bool
    gap: Estimate
    multiplier: Estimate | None
    more_runs: MoreRuns | None


@dataclass(frozen=True)
class Crossing:
    """Where the lead changes inside the pair's span: compute given that it does, and the probability that it does
    not.
    """

    at: Estimate | None
    p_none: float
    below: str | None
    above: str | None


@dataclass(frozen=True)
class Pair:
    """Two datasets: by paired cells where they share any, else by the difference of their laws."""

    first: str
    second: str
    method: Literal["paired", "laws"]
    span: Span
    comparisons: tuple[Comparison, ...]
    crossing: Crossing
    cells: tuple[CellGap, ...]
    gap_curve: Curve


@dataclass(frozen=True)
class LearningRate:
    """The order of the datasets at one scale when the learning rate is multiplied by `factor`, against factor 1."""

    factor: float
    scale: str
    order: tuple[str, ...]
    reference_order: tuple[str, ...]
    flips: tuple[tuple[str, str], ...]
    within_noise: bool

    @property
    def changed(self) -> bool:
        return bool(self.flips)


@dataclass(frozen=True)
class MetricResult:
    """Everything about one metric."""

    metric: str
    lower_is_better: bool
    datasets: tuple[str, ...]
    span: Span
    noise: Noise
    points: tuple[Point, ...]
    pairs: tuple[Pair, ...]
    rankings: tuple[Ranking, ...]
    fits: tuple[LawFit, ...]

    def pair(self, first: str, second: str) -> Pair:
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair
        raise KeyError(f"no pair {first!r}, {second!r} in {self.metric}")


@dataclass(frozen=True)
class Verdict:
    """Which dataset is better, at which compute, with which probability, and the checks that the claim passed or
    failed.
    """

    metric: str
    law: str
    confidence: float
    seed: int
    bootstraps: int
    at: tuple[float, ...]
    headline: MetricResult
    others: tuple[MetricResult, ...]
    checks: tuple[Check, ...]
    learning_rate: tuple[LearningRate, ...]
    notes: tuple[str, ...]
    rule: str
    version: int = VERDICT_VERSION

    @property
    def datasets(self) -> tuple[str, ...]:
        return self.headline.datasets

    @property
    def span(self) -> Span:
        return self.headline.span

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return self.headline.pairs

    @property
    def ranking(self) -> Ranking:
        """The ranking at the first compute asked for."""
        return self.headline.rankings[0]

    @property
    def fits(self) -> tuple[LawFit, ...]:
        return self.headline.fits

    @property
    def points(self) -> tuple[Point, ...]:
        return self.headline.points

    @property
    def lines(self) -> tuple[str, ...]:
        from curate.comparator.wording import verdict_lines  # the words live apart from the values

        return verdict_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def result(self, metric: str | None = None) -> MetricResult:
        """The result of one metric, by default the headline; KeyError for an unknown one."""
        for found in (self.headline, *self.others):
            if metric is None or found.metric == metric:
                return found
        raise KeyError(f"no metric {metric!r} in this verdict")

    def curve(self, dataset: str, law: str | None = None, metric: str | None = None) -> Curve:
        """Loss over compute for one dataset, with its band, by `law` (default: the verdict's)."""
        for found in self.result(metric).fits:
            if found.dataset == dataset and found.law == (law or self.law):
                return found.loss_curve
        raise KeyError(
            f"no fit of {law or self.law!r} for {dataset!r}; fits: {[(f.dataset, f.law) for f in self.fits]}"
        )

    def pair(self, first: str, second: str, metric: str | None = None) -> Pair:
        return self.result(metric).pair(first, second)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and finite numbers, with the printed lines under `lines`."""
        plain: dict[str, Any] = to_plain(self)
        plain["lines"] = list(self.lines)
        return plain

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON knows them; what is not finite becomes None. Properties `decades`,
    `changed` come along.
    """
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        for name in ("decades", "changed"):
            if isinstance(getattr(type(value), name, None), property):
                plain[name] = to_plain(getattr(value, name))
        return plain
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
