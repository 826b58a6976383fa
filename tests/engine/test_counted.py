"""Every document once: batches done in halves, executors that forget or repeat a part; and what a part may cost."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.documents import Batch
from curate.engine.executors import NOBODY, ONE_CORE, Listener, Results, Work
from curate.engine.executors.local import LocalExecutor
from curate.engine.halving import halving
from curate.engine.jobs import Job
from curate.engine.recipe import load_recipe
from curate.engine.resources import Resources
from curate.engine.run import Engine
from curate.errors import ReconciliationError
from curate.steps import LEFT_SCHEMA, Outcome

Write = Callable[..., Path]


def judged(batch: Batch) -> Outcome:
    """What the ids say: documents that leave in each way, that are edited, that have a signal or none."""
    names = batch.ids.to_pylist()
    stay = np.array([name.startswith(("kept", "edited")) for name in names], dtype=bool)
    edited = np.array([3 if name.startswith("edited") else 0 for name in names], dtype=np.int64)[stay]
    lengths = np.array([len(name) if len(name) % 5 else np.nan for name in names], dtype=np.float64)
    left = [
        {"row": row, "fate": name.split("-")[0], "rule": "own.rule", "value": len(name), "survivor": name}
        for row, name in enumerate(names)
        if not stay[row]
    ]
    return Outcome(
        batch.with_column("length", pa.array(lengths, from_pandas=True)).filter(stay),
        pa.RecordBatch.from_pylist(left, schema=LEFT_SCHEMA),
        edited if edited.any() else None,
        {"own.length": lengths},
    )


@given(
    ways=st.lists(st.sampled_from(("kept", "edited", "dropped", "duplicate", "failed")), min_size=1, max_size=40),
    fits=st.integers(1, 40),
)
def test_a_batch_done_in_halves_is_the_whole_batch(ways: list[str], fits: int) -> None:
    ids = [f"{way}-{'x' * (row % 7)}{row}" for row, way in enumerate(ways)]
    batch = Batch(pa.RecordBatch.from_pydict({"id": ids, "text": [f"text of {name}" for name in ids]}))
    sizes: list[int] = []

    def short_of_memory(some: Batch) -> Outcome:
        sizes.append(len(some))
        if len(some) > fits:
            raise MemoryError
        return judged(some)

    whole, halves = judged(batch), halving(short_of_memory, batch)
    assert max(sizes) == len(batch) and sum(size for size in sizes if size <= fits) == len(batch)
    assert halves.batch.data.equals(whole.batch.data)
    assert halves.left.equals(whole.left)
    nothing = np.zeros(len(whole.batch), dtype=np.int64)
    edited = (nothing if one.edited is None else one.edited for one in (whole, halves))
    assert np.array_equal(*edited)
    assert whole.signals.keys() == halves.signals.keys()
    assert np.array_equal(whole.signals["own.length"], halves.signals["own.length"], equal_nan=True)


class Careless(LocalExecutor):
    """Forgets the last result, or gives one twice."""

    def __init__(self, how: str) -> None:
        super().__init__(1)
        self.how = how

    def run(
        self, work: Work, jobs: Sequence[Job], *, resources: Resources = ONE_CORE, listener: Listener = NOBODY
    ) -> Results:
        for place, result in super().run(work, jobs, resources=resources, listener=listener):
            if self.how == "twice" or place < len(jobs) - 1:
                yield place, result
            if self.how == "twice":
                yield place, result


@pytest.mark.parametrize(
    ("how", "said"), [("forgets", "without a result for 1 of 6 parts, the first of them part 5"), ("twice", "twice")]
)
def test_an_executor_that_forgets_or_repeats_a_part_makes_no_dataset(
    recipe: Write, tmp_path: Path, how: str, said: str
) -> None:
    with pytest.raises(ReconciliationError, match=said):
        Engine(tmp_path / "work", Careless(how)).run(load_recipe(recipe("own_steps.MinChars")))
    assert not list((tmp_path / "work" / "stages").rglob("manifest.json"))
    again = Engine(tmp_path / "work", LocalExecutor(1)).run(load_recipe(recipe("own_steps.MinChars")))
    assert again.stages[0].manifest["records_in"] == 240


class Told(LocalExecutor):
    """Gives the manifests of work that nobody does: what is left is what the engine holds."""

    def run(self, work: Work, jobs: Sequence[Job], **_: Any) -> Results:
        yield from self._manifests(jobs)

    def _manifests(self, jobs: Sequence[Job]) -> Iterator[tuple[int, dict[str, Any]]]:
        row = {"step": "read", "in": 3, "in_bytes": 9, "out": 3, "out_bytes": 9, "edited": 0, "edited_bytes": 0}
        for place, job in enumerate(jobs):
            sample = {"key": f"{place:x}", "id": "x" * 200, "text": "y" * 400}
            yield (
                place,
                {
                    "part": job.part,
                    "pieces": [["a" * 100, 0, None]],
                    "files": {
                        name: {"name": f"{name}-{job.part:05d}.parquet", "bytes": job.part, "rows": 3, "hash": "0" * 32}
                        for name in ("ledger", "part")
                    },
                    "records_in": 3,
                    "records_out": 3,
                    "fates": {"kept": 3, "edited": 0},
                    "ignored": {},
                    "funnel": [row | {"fates": {}, "rules": {"some": 1}}],
                    "histograms": {"some": {"counts": [1] * 50}},
                    "samples": {"some": [sample] * 4},
                    "seconds": {"read": 1.0},
                    "wall_seconds": 1.0,
                    "worker": f"host:{place}",
                },
            )


def test_the_driver_holds_little_of_a_part(recipe: Write, tmp_path: Path) -> None:
    path = recipe("gopher_quality", "materialise", "gopher_quality")
    source, many = tmp_path / "many", 1000
    source.mkdir()
    for number in range(many):
        (source / f"{number:04d}.jsonl").touch()
    path.write_text(path.read_text().replace('parquet: {files: "corpus/*.parquet"', "jsonl: {files: many"))
    engine = Engine(tmp_path / "work", Told(1))
    plan = engine.plan(load_recipe(path))
    gc.collect()
    tracemalloc.start()
    try:
        dataset = engine.run_plan(plan)
        gc.collect()
        held, peak = (size / many for size in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert len(dataset.stages) == 2 and dataset.stages[1].manifest["records_out"] == 3 * many
    assert held < 2 * 2200, f"{held:.0f} bytes a part for two stages"  # a manifest of its own would be some 6000
    assert peak < 12_000
