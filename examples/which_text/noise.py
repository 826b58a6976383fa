"""How far apart two seeds are at each rung, and the smallest difference of two datasets that they let through.

    python examples/which_text/noise.py MEASUREMENTS.parquet

The standard deviation over seeds at a budget, pooled over datasets (degrees of freedom in brackets), for the mean of
the held-out sets. Two datasets of n seeds each are told apart (two-sided, 5%) at one point of the ladder when their
means differ by more than t x sd x sqrt(2 / n), t of the pooled degrees of freedom. What all rungs resolve together
stands in the report's verdict.
"""

import json
import sys
from collections import defaultdict
from math import sqrt
from statistics import fmean, variance

import pyarrow.parquet as pq
from scipy.stats import t as student

Point = tuple[float, str, float]
"""Parameters, rung, tokens."""


def main() -> None:
    values: dict[Point, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(sys.argv[1]).to_pylist():
        tuned = json.loads(row["hyperparameters"]).get("learning_rate_factor", 1) == 1
        if row["metric"] == "bits_per_byte" and tuned:
            values[row["params"], row["scale"], row["tokens"]][row["dataset"]].append(row["value"])
    print("| rung | tokens | seeds | sd, bits per byte | share | smallest difference | best to worst dataset |")
    print("|---|---|---|---|---|---|---|")
    for (_, scale, tokens), by_dataset in sorted(values.items()):
        means = [fmean(some) for some in by_dataset.values()]
        seeds = min(map(len, by_dataset.values()))
        freedom = sum(len(some) - 1 for some in by_dataset.values())
        noise = ["-"] * 3
        if freedom:
            squares = sum((len(some) - 1) * variance(some) for some in by_dataset.values() if len(some) > 1)
            sd = sqrt(squares / freedom)
            least = student.ppf(0.975, freedom) * sd * sqrt(2 / seeds)
            noise = [f"{sd:.4f} ({freedom})", f"{100 * sd / fmean(means):.2f}%", f"{least:.3f}"]
        cells = [scale, f"{tokens / 1e6:.2f}M", str(seeds), *noise, f"{min(means):.3f} to {max(means):.3f}"]
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
