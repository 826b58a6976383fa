"""What a part costs when it holds nothing: our executors against datatrove's Ray executor, in one run.

    python benchmarks/engine/empty_parts.py [--parts 64] [--ranks 4] [--workers 2]

Writes empty_parts.json beside itself. A part is a JSONL file without a line, read, passed through one filter, written
with its ledger and manifest; a rank of datatrove is an empty reader and the same filter.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = 'name: empty\nsource: {jsonl: "empty/*.jsonl"}\nsteps:\n  - gopher_quality\n'


def ours(folder: Path, parts: int, workers: int, ray: str | None) -> float:
    """Milliseconds a part, workers already warm."""
    from curate.engine.executors import executor_for
    from curate.engine.recipe import load_recipe
    from curate.engine.run import Engine

    executor = executor_for(workers, ray)
    for name, count in (("warm", 2 * workers), ("timed", parts)):
        inputs = folder / name / "empty"
        inputs.mkdir(parents=True)
        for number in range(count):
            (inputs / f"{number:04d}.jsonl").touch()
        (folder / name / "recipe.yaml").write_text(RECIPE)
        recipe = load_recipe(folder / name / "recipe.yaml")
        began = time.perf_counter()
        Engine(folder / name / "work", executor).run(recipe)
        seconds = time.perf_counter() - began
    executor.close()
    return 1000 * seconds / parts


def datatrove_ray(folder: Path, ranks: int, workers: int) -> float:
    """Milliseconds a rank of datatrove's RayPipelineExecutor on the same kind of cluster."""
    import ray
    from datatrove.executor import RayPipelineExecutor
    from datatrove.pipeline.filters import GopherQualityFilter
    from datatrove.pipeline.readers import JsonlReader

    inputs = folder / "empty"
    inputs.mkdir()
    for number in range(ranks):
        (inputs / f"{number:04d}.jsonl").touch()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    executor = RayPipelineExecutor(
        pipeline=[JsonlReader(str(inputs)), GopherQualityFilter()],
        tasks=ranks,
        workers=workers,
        logging_dir=str(folder / "logs"),
        cpus_per_task=1,
        mem_per_cpu_gb=0.5,
    )
    began = time.perf_counter()
    executor.run()
    seconds = time.perf_counter() - began
    ray.shutdown()
    return 1000 * seconds / ranks


def main() -> None:
    """Measure all in one run, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    result: dict[str, Any] = {"parts": options.parts, "ranks": options.ranks, "workers": options.workers}
    result["processor"] = platform.processor() or platform.machine()
    with tempfile.TemporaryDirectory() as name:
        for label, workers, ray in (
            ("one process", 1, None),
            ("local", options.workers, None),
            ("ray", options.workers, "local"),
        ):
            folder = Path(name) / label.replace(" ", "-")
            result[f"{label}, ms a part"] = round(ours(folder, options.parts, workers, ray), 2)
        folder = Path(name) / "datatrove"
        folder.mkdir()
        result["datatrove ray, ms a rank"] = round(datatrove_ray(folder, options.ranks, options.workers), 1)
    result["datatrove / ours on ray"] = round(result["datatrove ray, ms a rank"] / result["ray, ms a part"], 1)
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
