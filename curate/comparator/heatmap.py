"""Tasks x datasets at one compute: where does each dataset stand out, in standard deviations of one run of the task.

A cell is decided when zero lies outside its interval for all cells together: Bonferroni, with Student's quantiles at
the noise's degrees of freedom. Normal ones, which know no such thing as three degrees of freedom, decided some cell of
equal datasets in 12 to 22% of worlds with one seed (2 or 3 datasets, 3 or 4 sizes, 8 tasks), these in 2 to 7%.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from curate.comparator.verdict import Estimate, Heatmap, Ranking, TaskCell

UNIT = "standard deviations of one run, over the mean of all datasets; positive is better"


class TaskRanking(NamedTuple):
    """A task's ranking, the noise of one of its runs, and how well that is known."""

    name: str
    ranking: Ranking
    noise_sd: float
    degrees_of_freedom: int


def heatmap(tasks: Sequence[TaskRanking], *, confidence: float) -> Heatmap | None:
    """Of two tasks or more on the same datasets."""
    tasks = [task for task in tasks if task.noise_sd > 0]
    if len(tasks) < 2:
        return None
    datasets = tuple(r.dataset for r in tasks[0].ranking.order)
    cells = len(tasks) * len(datasets)
    tail = (1 - confidence) / 2
    found = []
    for name, ranking, noise, freedom in tasks:
        # so many half-widths of the interval stand for the simultaneous one
        stretch = float(stats.t.isf(tail / cells, freedom) / stats.t.isf(tail, freedom))
        advantage = {r.dataset: r.advantage for r in ranking.order}
        for dataset in datasets:
            a = advantage[dataset]
            half = 0.5 * (a.high - a.low)
            scaled = Estimate(a.value / noise, a.low / noise, a.high / noise)
            found.append(TaskCell(name, dataset, scaled, abs(a.value) > stretch * half))
    return Heatmap(tasks[0].ranking.at, tuple(t.name for t in tasks), datasets, tuple(found), UNIT)
