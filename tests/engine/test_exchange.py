"""Exchanges as jobs on files: the same decision as in memory, for any number of parts, ranges and attempts."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.engine import exchange as exchanging
from curate.engine import shuffle
from curate.engine.exchange import Take, exchange_jobs, open_state
from curate.engine.executors import executor_for
from curate.engine.executors.local import LocalExecutor
from curate.engine.jobs import Failure, Job, PartJob
from curate.engine.recipe import StepSpec
from curate.errors import MismatchError, StageError
from curate.rounds import KEYS, spans
from curate.storage import at

WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("l", "m", "n", "r", "st")]
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("curate.dedup.exact:Exact", {"keep": "longest"}),
    "minhash": ("curate.dedup.minhash:MinHash", {"bands": 16, "rows": 2, "ngram": 3, "threshold": 0.5}),
    "guarded": (
        "curate.dedup.minhash:MinHash",
        {"bands": 16, "rows": 2, "ngram": 3, "threshold": 0.5, "require_similar_to_survivor": True, "reach": 3},
    ),
    "substrings": ("curate.dedup.substrings:DuplicateSubstrings", {"length": 40}),
    "estimated": (
        "curate.dedup.minhash:MinHash",
        {"bands": 16, "rows": 2, "ngram": 3, "threshold": 0.5, "verify": "estimated"},
    ),
    "unverified": ("curate.dedup.minhash:MinHash", {"bands": 8, "rows": 2, "ngram": 3, "verify": "none"}),
}


@dataclass(frozen=True)
class Stage:
    label: str
    steps: tuple[StepSpec, ...]


def stage_of(name: str) -> Stage:
    path, parameters = STEPS[name]
    return Stage(name, (StepSpec(name=name, path=path, parameters=json.dumps(parameters), where="test"),))


def corpus(seed: int, families: int = 12) -> list[dict[str, Any]]:
    """Families of near-copies, exact copies, short and empty documents; some ids occur twice."""
    rng = random.Random(seed)
    texts: list[str] = ["", "", " ", "bal", "Bal", "?"]
    for _ in range(families):
        words = rng.choices(WORDS, k=rng.randint(5, 60))
        for _ in range(rng.randint(1, 9)):
            share = rng.choice([0, 0, 0.02, 0.05, 0.15])
            texts.append(" ".join(rng.choice(WORDS) if rng.random() < share else word for word in words))
    rng.shuffle(texts)
    return [{"id": f"d{number % (len(texts) - 3):04}", "text": text} for number, text in enumerate(texts)]


def written(folder: Path, rows: Sequence[dict[str, Any]], parts: int) -> list[str]:
    """The documents as Parquet files of so many parts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(parts):
        low, high = len(rows) * number // parts, len(rows) * (number + 1) // parts
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows[low:high]), schema=DOCUMENT_SCHEMA), path, row_group_size=20)
        paths.append(str(path))
    return paths


def jobs_of(stage: Stage, folder: Path, parents: Iterable[str]) -> list[PartJob]:
    folder.mkdir(parents=True, exist_ok=True)
    return [
        PartJob(stage=stage.label, folder=str(folder), part=part, steps=stage.steps, parent=parent)
        for part, parent in enumerate(parents)
    ]


class Finish:
    """What the engine does with jobs, and which of them it did."""

    def __init__(self, run: Callable[..., Iterable[Any]] | None = None) -> None:
        self.done: list[str] = []
        self.run = run

    def __call__(self, work: Any, jobs: Sequence[Job], phase: str, take: Take) -> None:
        assert phase in ("map", "reduce")
        found = {number: manifest for number, job in enumerate(jobs) if (manifest := job.finished())}
        for manifest in found.values():
            take(manifest)
        todo = [number for number in range(len(jobs)) if number not in found]
        results = (
            enumerate(work(jobs[number]) for number in todo)
            if self.run is None
            else self.run(work, [jobs[number] for number in todo])
        )
        for place, result in results:
            if isinstance(result, Failure):
                raise StageError(str(result))
            take(result)
            self.done.append(Path(jobs[todo[place]].manifest).name)


def decided(
    name: str, folder: Path, parents: Iterable[str], finish: Finish | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    stage = stage_of(name)
    jobs, summary = exchange_jobs(stage, str(folder), jobs_of(stage, folder, parents), finish or Finish())
    states = [open_state(job) for job in jobs]
    return anywhere(states), summary


def anywhere(states: Sequence[pa.Table]) -> list[dict[str, Any]]:
    """All rows without what depends on how the corpus was cut: the part that the survivor is in."""
    return [
        {name: value for name, value in row.items() if name != "survivor_part"}
        for state in states
        for row in state.to_pylist()
    ]


def in_rounds(monkeypatch: pytest.MonkeyPatch, range_bytes: int) -> None:
    monkeypatch.setattr(exchanging, "WHOLE_BYTES", -1)
    monkeypatch.setattr(exchanging, "RANGE_BYTES", range_bytes)


def in_memory(name: str, rows: Sequence[dict[str, Any]], parts: int, ranges: int) -> Any:
    step = stage_of(name).steps[0].build()
    partials = []
    for number in range(parts):
        held = rows[len(rows) * number // parts : len(rows) * (number + 1) // parts]
        batches = [
            Batch(pa.RecordBatch.from_pylist(list(held[low : low + 7]), schema=DOCUMENT_SCHEMA))
            for low in range(0, len(held), 7)
        ]
        partials.append(step.map(iter(batches)))
    state = step.reduce(partials, ranges=ranges)
    return anywhere(state.parts), state.summary


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(6))
def test_neither_parts_nor_ranges_change_the_decision(name: str, seed: int) -> None:
    rows = corpus(seed)
    expected = in_memory(name, rows, 1, 1)
    assert any(row["survivor"] for row in expected[0])
    for parts in (1, 3, 10):
        for ranges in (1, 2, 7):
            assert in_memory(name, rows, parts, ranges) == expected


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("parts", [1, 3, 10])
def test_files_give_what_memory_gives(name: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = corpus(7)
    expected = in_memory(name, rows, 1, 1)
    parents = written(tmp_path / "parent", rows, parts)
    assert decided(name, tmp_path / "whole", parents) == expected
    monkeypatch.setattr(shuffle, "BLOCK_ROWS", 16)
    for range_bytes in (1 << 30, 20_000, 3_000):
        in_rounds(monkeypatch, range_bytes)
        assert decided(name, tmp_path / f"rounds-{range_bytes}", parents) == expected


def test_components_that_one_task_cannot_hold_are_found_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = corpus(3, families=40)
    parents = written(tmp_path / "parent", rows, 8)
    expected = in_memory("minhash", rows, 1, 1)
    in_rounds(monkeypatch, 2_000)
    one, several, again = Finish(), Finish(), Finish()
    assert decided("minhash", tmp_path / "one", parents, one) == expected
    assert [name for name in one.done if name.startswith("round-stars")] == ["round-stars.0-00000.json"]
    monkeypatch.setattr("curate.dedup.linked.ONE_TASK_BYTES", 0)
    monkeypatch.setattr(exchanging, "RANGE_BYTES", 500)
    assert decided("minhash", tmp_path / "several", parents, several) == expected
    turns = [name for name in several.done if name.startswith("round-stars")]
    assert len([name for name in turns if name.startswith("round-stars.0-")]) > 1
    assert len([name for name in turns if name.startswith("round-stars.1-")]) > 1
    Path(tmp_path / "several" / turns[-1]).unlink()
    assert decided("minhash", tmp_path / "several", parents, again) == expected
    assert again.done == turns[-1:]


def test_a_small_corpus_costs_one_task_beside_map_and_apply(tmp_path: Path) -> None:
    finish = Finish()
    decided("minhash", tmp_path / "stage", written(tmp_path / "parent", corpus(1), 1), finish)
    assert finish.done == ["partial-00000.json", "round-all-00000.json"]


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_rounds(monkeypatch, 5_000)
    parents = written(tmp_path / "parent", corpus(2), 3)
    first, again, some = Finish(), Finish(), Finish()
    expected = decided("minhash", tmp_path / "stage", parents, first)
    before = {path.name: path.read_bytes() for path in (tmp_path / "stage").glob("*.arrow")}
    assert decided("minhash", tmp_path / "stage", parents, again) == expected
    assert len(first.done) > 10
    assert again.done == []
    (tmp_path / "stage" / "round-buckets-00001.json").unlink()
    (tmp_path / "stage" / "partial-00002.json").unlink()
    assert decided("minhash", tmp_path / "stage", parents, some) == expected
    assert some.done == ["partial-00002.json", "round-buckets-00001.json"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "stage").glob("*.arrow")} == before


def test_tasks_of_another_cut_are_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = written(tmp_path / "parent", corpus(2), 3)
    in_rounds(monkeypatch, 5_000)
    expected = decided("minhash", tmp_path / "stage", parents)
    in_rounds(monkeypatch, 9_000)
    finish = Finish()
    assert decided("minhash", tmp_path / "stage", parents, finish) == expected
    assert any(name.startswith("round-buckets") for name in finish.done)
    assert not any(name.startswith("partial") for name in finish.done)


@pytest.mark.parametrize(
    ("victim", "maker"),
    [
        ("bands-00001.arrow", "partial-00001.json"),
        ("digests-00000.arrow", "partial-00000.json"),
        ("pairs-00000.arrow", "round-buckets-00000.json"),
        ("members-00000.arrow", "round-address-00000.json"),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_a_damaged_file_is_named_and_made_again(
    victim: str, maker: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_rounds(monkeypatch, 1 << 30)
    parents = written(tmp_path / "parent", corpus(4), 3)
    expected = decided("minhash", tmp_path / "sound", parents)

    class Damaging(Finish):
        hit = False

        def __call__(self, work: Any, jobs: Sequence[Job], phase: str, take: Take) -> None:
            super().__call__(work, jobs, phase, take)
            path = tmp_path / "stage" / victim
            if path.exists() and not self.hit:
                self.hit, data = True, bytearray(path.read_bytes())
                if damage == "flipped":
                    data[len(data) // 2] ^= 4
                    path.write_bytes(data)
                elif damage == "truncated":
                    path.write_bytes(data[: len(data) // 2])
                else:
                    path.unlink()

    with pytest.raises(StageError, match=f"{victim} is damaged"):
        decided("minhash", tmp_path / "stage", parents, Damaging())
    assert not (tmp_path / "stage" / maker).exists()
    finish = Finish()
    assert decided("minhash", tmp_path / "stage", parents, finish) == expected
    assert maker in finish.done


def test_a_damaged_partial_is_named_and_made_again(tmp_path: Path) -> None:
    parents = written(tmp_path / "parent", corpus(4), 2)
    stage, folder = stage_of("exact"), tmp_path / "stage"
    jobs, _ = exchange_jobs(stage, str(folder), jobs_of(stage, folder, parents), Finish())
    expected = open_state(jobs[1])
    path = folder / "partial-00001.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MismatchError, match=r"partial-00001\.arrow is damaged"):
        open_state(jobs[1])
    finish = Finish()
    exchange_jobs(stage, str(folder), jobs_of(stage, folder, parents), finish)
    assert finish.done == ["partial-00001.json"]
    assert open_state(jobs[1]).equals(expected)


@pytest.mark.parametrize(("step", "column"), [("minhash", "shingles"), ("estimated", "signature")])
def test_what_changed_on_the_disk_is_never_compared(
    step: str, column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_rounds(monkeypatch, 1 << 30)
    parents, folder = written(tmp_path / "parent", corpus(4), 3), tmp_path / "stage"
    expected = decided(step, tmp_path / "sound", parents)
    path = folder / "partial-00001.arrow"

    class Damaging(Finish):
        def __call__(self, work: Any, jobs: Sequence[Job], phase: str, take: Take) -> None:
            super().__call__(work, jobs, phase, take)
            if phase == "map":
                data, table = bytearray(path.read_bytes()), pa.ipc.open_file(str(path)).read_all()
                for held in table.column(column).to_pylist():
                    for one in [held] if column == "signature" else [one.to_bytes(8, "little") for one in held]:
                        data[data.find(one)] ^= 1
                path.write_bytes(data)

    with pytest.raises(StageError, match=rf"partial-00001\.arrow is damaged \({column}"):
        decided(step, folder, parents, Damaging())
    finish = Finish()
    assert decided(step, folder, parents, finish) == expected
    assert finish.done[0] == "partial-00001.json"


def test_two_workers_write_the_same_files_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = written(tmp_path / "parent", corpus(5), 4)
    in_rounds(monkeypatch, 4_000)
    monkeypatch.setattr("curate.dedup.linked.ONE_TASK_BYTES", 0)
    executor = LocalExecutor(2)
    try:
        for name in ("exact", "guarded"):
            alone, both = tmp_path / f"{name}-alone", tmp_path / f"{name}-both"
            told = decided(name, alone, parents)
            assert decided(name, both, parents, Finish(lambda work, jobs: executor.run(work, jobs))) == told
            files = sorted(path.name for path in alone.glob("*.arrow"))
            assert files == sorted(path.name for path in both.glob("*.arrow"))
            for file in files:
                assert (alone / file).read_bytes() == (both / file).read_bytes(), file
    finally:
        executor.close()


def test_a_million_copies_send_a_few_rows_a_part(tmp_path: Path) -> None:
    rows = [{"id": f"d{number:05}", "text": "the same page"} for number in range(30_000)]
    parents = written(tmp_path / "parent", rows, 3)
    in_folder = tmp_path / "stage"
    finish = Finish()
    told, summary = decided("exact", in_folder, parents, finish)
    assert [row["survivor"] for row in told] == [None] + ["d00000"] * 29_999
    assert {row["cluster_size"] for row in told} == {30_000}
    assert summary["largest_clusters"][0]["least_similar"] == [f"d{number:05}" for number in range(1, 6)]
    sizes = {path.name: pa.ipc.open_file(str(path)).read_all().num_rows for path in in_folder.glob("digests-*.arrow")}
    assert sizes == {f"digests-{part:05d}.arrow": 1 for part in range(3)}


def test_a_failing_task_names_stage_and_file(tmp_path: Path) -> None:
    stage = stage_of("exact")
    jobs = jobs_of(stage, tmp_path / "stage", [str(tmp_path / "none.parquet")])
    with pytest.raises(StageError, match=r"Stage exact, part 0, file .*none\.parquet"):
        exchange_jobs(stage, str(tmp_path / "stage"), jobs, Finish())


@pytest.mark.parametrize("parts", [1, 4, 9])
def test_quality_on_files_is_quality_in_memory(parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.filters.quality import PARTIAL_SCHEMA, Quality

    rng = random.Random(parts)
    rows = [(f"d{n}", rng.choice([0.25, 0.5, 0.500001, 1.0]), rng.randint(0, 30)) for n in range(500)]

    def scored(self: Quality, batches: Iterable[Batch]) -> pa.Table:
        numbers = [int(name[1:]) for batch in batches for name in batch.ids.to_pylist()]
        ids, scores, sizes = zip(*(rows[number] for number in numbers), strict=True)
        return pa.table([ids, scores, sizes], schema=PARTIAL_SCHEMA)

    monkeypatch.setattr(Quality, "map", scored)
    monkeypatch.setattr(shuffle, "BLOCK_ROWS", 16)  # sums go over blocks, too
    parents = written(tmp_path / "parent", [{"id": name, "text": "x"} for name, *_ in rows], parts)
    for of in ("documents", "bytes"):
        STEPS["quality"] = ("curate.filters.quality:Quality", {"model": "none", "keep": {"top": 0.3, "of": of}})
        step = stage_of("quality").steps[0].build()
        whole = step.reduce([scored(step, [Batch(pa.RecordBatch.from_pylist([{"id": n} for n, *_ in rows]))])])
        for whole_bytes in (1 << 30, -1):
            monkeypatch.setattr(exchanging, "WHOLE_BYTES", whole_bytes)
            told, summary = decided("quality", tmp_path / f"{of}{whole_bytes}", parents)
            assert told == whole.parts[0].to_pylist()
            assert summary == whole.summary
    STEPS.pop("quality")


def test_ranges_share_all_keys_and_all_parts() -> None:
    for ranges in (1, 2, 7, 1000):
        shares = spans("hash", ranges, 3)
        assert [share.low for share in shares] == [0, *(share.high for share in shares[:-1])]
        assert shares[-1].high == KEYS
        assert [part for share in spans("part", ranges, 10) for part in share.parts] == list(range(10))
    sizes = [share.high - share.low for share in spans("hash", 7, 1)]
    assert max(sizes) - min(sizes) <= 1


def test_a_folder_that_is_a_url_holds_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    in_rounds(monkeypatch, 5_000)
    parents = written(tmp_path / "parent", corpus(6), 3)
    here = decided("minhash", tmp_path / "stage", parents)
    url, stage = f"memory://exchange-{tmp_path.name}", stage_of("minhash")
    jobs = [
        PartJob(stage=stage.label, folder=url, part=part, steps=stage.steps, parent=parent)
        for part, parent in enumerate(parents)
    ]
    finish = Finish()
    applied, summary = exchange_jobs(stage, url, jobs, finish)
    assert (anywhere([open_state(job) for job in applied]), summary) == here
    assert len(finish.done) > 10
    for path in (tmp_path / "stage").glob("*.arrow"):
        assert (at(url) / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_ray_tasks_write_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    parents = written(tmp_path / "parent", corpus(5), 4)
    in_rounds(monkeypatch, 4_000)
    alone = decided("guarded", tmp_path / "alone", parents)
    executor = executor_for(2, "local")
    try:
        both = decided("guarded", tmp_path / "ray", parents, Finish(lambda work, jobs: executor.run(work, jobs)))
    finally:
        executor.close()
    assert both == alone
    for path in (tmp_path / "alone").glob("*.arrow"):
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()
