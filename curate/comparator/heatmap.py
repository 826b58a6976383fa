"""Tasks x datasets at one compute: where does each dataset stand out, in standard deviations of one run of the task.

A cell is decided when zero lies outside its interval for all cells together (Bonferroni; normal, from the width of the
bootstrap interval).
"""

from collections.abc import Sequence

from scipy import stats

from curate.comparator.verdict import Estimate, Heatmap, Ranking, TaskCell

UNIT = "standard deviations of one run, over the mean of all datasets; positive is better"


def heatmap(tasks: Sequence[tuple[str, Ranking, float]], *, confidence: float) -> Heatmap | None:
    """From (task, its ranking, the noise of one run) of two tasks or more on the same datasets."""
    tasks = [task for task in tasks if task[2] > 0]
    if len(tasks) < 2:
        return None
    datasets = tuple(r.dataset for r in tasks[0][1].order)
    cells = len(tasks) * len(datasets)
    # so many half-widths of the interval stand for the simultaneous one
    stretch = float(stats.norm.isf((1 - confidence) / (2 * cells)) / stats.norm.isf((1 - confidence) / 2))
    found = []
    for name, ranking, noise in tasks:
        advantage = {r.dataset: r.advantage for r in ranking.order}
        for dataset in datasets:
            a = advantage[dataset]
            half = 0.5 * (a.high - a.low)
            scaled = Estimate(a.value / noise, a.low / noise, a.high / noise)
            found.append(TaskCell(name, dataset, scaled, abs(a.value) > stretch * half))
    return Heatmap(tasks[0][1].at, tuple(t[0] for t in tasks), datasets, tuple(found), UNIT)
