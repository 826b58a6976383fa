"""Where jobs run. An executor knows nothing of recipes: it maps a function over picklable jobs, as they complete.

`executor_for(workers, ray)` gives local processes, or Ray tasks. Neither changes a byte of the output.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class Executor(Protocol):
    """Runs jobs; results come as they complete, with the job's place in `jobs`."""

    workers: int

    def run(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Apply `function` to each job. Raises StageError when a worker is lost for good."""
        ...

    def close(self) -> None:
        """End the workers that this executor started."""
        ...


def executor_for(workers: int, ray: str | None = None) -> Executor:
    """Local processes, or Ray: `ray` is an address, or "local" for a cluster of `workers` CPUs on this machine."""
    if ray is not None:
        from curate.engine.executors.ray import RayExecutor

        return RayExecutor(address=ray, workers=workers)
    from curate.engine.executors.local import LocalExecutor

    return LocalExecutor(workers)
