"""A large study from table to page: 25 datasets x 14 sizes x 3 seeds, all 300 pairs, 1,000 bootstraps by run.

    OMP_NUM_THREADS=1 python -m benchmarks.comparator.study --out benchmarks/comparator/study.json

The ladder has DataDecide's shape (4M to 1B parameters, 100 tokens a parameter); laws and noise are drawn (see `table`).
Seconds of wall clock and of CPU of one process after the comparator's import, and the process's peak
resident memory.
"""

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.comparator.worlds import Rung, Source, ladder

SIZES = tuple(np.geomspace(4e6, 1e9, 14).tolist())
BAR_SECONDS, BAR_BYTES = 60.0, 2e9


def table(datasets: int, *, seed: int) -> pa.Table:
    """Floors with an sd of .03, data amplitudes of 2%, seed noise of .01."""
    rng = np.random.default_rng(seed)
    laws = {
        f"dataset-{i:02d}": Source(
            E=1.8 + 0.03 * rng.standard_normal(),
            A=0.6,
            B=0.5 * float(np.exp(0.02 * rng.standard_normal())),
            alpha=0.34,
            beta=0.28,
            n=1e8,
            d=1e10,
        )
        for i in range(datasets)
    }
    return ladder(laws, rng=rng, rungs=tuple(Rung(n, (100 * n,), 3) for n in SIZES), noise=0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--datasets", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    measurements = table(chosen.datasets, seed=chosen.seed)
    marks = [("start", time.perf_counter(), time.process_time())]
    from curate.comparator import compare
    from curate.report.page import write_comparison

    marks.append(("import", time.perf_counter(), time.process_time()))
    verdict = compare(measurements, bootstraps=1000, seed=chosen.seed)
    marks.append(("compare", time.perf_counter(), time.process_time()))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        write_comparison(verdict, measurements, page)
        size = page.stat().st_size
    marks.append(("page", time.perf_counter(), time.process_time()))
    wall = {name: round(b - a, 2) for (_, a, _), (name, b, _) in itertools.pairwise(marks)}
    cpu = {name: round(b - a, 2) for (_, _, a), (name, _, b) in itertools.pairwise(marks)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {
        "what": __doc__.split("\n")[0],
        "rows": measurements.num_rows,
        "pairs": len(verdict.headline.pairs),
        "bootstraps": verdict.bootstraps,
        "seed": chosen.seed,
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "wall_seconds": wall | {"all": round(sum(wall.values()), 2)},
        "cpu_seconds": cpu | {"all": round(sum(cpu.values()), 2)},
        "peak_bytes": peak,
        "page_bytes": size,
        "bars": {"wall_seconds": BAR_SECONDS, "peak_bytes": BAR_BYTES},
        "holds": sum(wall.values()) <= BAR_SECONDS and peak <= BAR_BYTES,
    }
    print(json.dumps(result, indent=1))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
