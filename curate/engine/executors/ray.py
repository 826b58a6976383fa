"""Ray tasks: one a job on a cluster, a bounded number in flight, lost workers tried again a stated number of times.

A task is a plain remote function (no actor, no placement group), so an empty part costs milliseconds. Errors of the
work come back as values and are never tried again. All nodes must see the work folder (a shared file system).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from curate.errors import StageError

RETRIES = 3
"""How often a job is tried again when its worker or node is lost."""


class RayExecutor:
    """Ray at `address` ("local" starts a cluster on this machine and ends it with the executor)."""

    def __init__(self, *, address: str, workers: int) -> None:
        import ray

        self._ray = ray
        self._started = False
        if not ray.is_initialized():
            options: dict[str, Any] = {"num_cpus": workers} if address == "local" else {}
            try:
                ray.init(
                    address="local" if address == "local" else address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="error",
                    **options,
                )
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                raise StageError(f"No Ray cluster answers at {address!r}: {error}") from None
            self._started = True
        self.workers = max(1, math.floor(ray.cluster_resources().get("CPU", 0)))
        self._remote: dict[Callable[[Any], Any], Any] = {}

    def run(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, resources: Any = None, listener: Any = None
    ) -> Iterator[tuple[int, Any]]:
        """Apply `function` to each job as a Ray task; two jobs a CPU are in flight at most."""
        ray = self._ray
        if function not in self._remote:
            self._remote[function] = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(function)
        remote = self._remote[function]
        pending: dict[Any, int] = {}
        waiting = iter(enumerate(jobs))
        try:
            while True:
                while len(pending) < 2 * self.workers and (following := next(waiting, None)):
                    number, job = following
                    pending[remote.remote(job)] = number
                if not pending:
                    return
                done, _ = ray.wait(list(pending), num_returns=1)
                for reference in done:
                    number = pending[reference]
                    result = ray.get(reference)
                    del pending[reference]
                    yield number, result
        except ray.exceptions.RayError as error:
            held = ", ".join(f"{jobs[number].stage} part {jobs[number].part}" for number in sorted(pending.values()))
            raise StageError(
                f"Ray lost a worker for good (tried {RETRIES + 1} times) while these were in flight: {held}. "
                f"Finished parts are kept, run the same command again to go on. Ray says: {str(error).splitlines()[0]}"
            ) from None
        finally:
            for reference in pending:
                ray.cancel(reference, force=False)

    def close(self) -> None:
        """End the cluster if this executor started it."""
        if self._started:
            self._ray.shutdown()
            self._started = False
