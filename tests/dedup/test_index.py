"""An index of dumps: each new one is decided as a run over all of them would decide it, whatever came how."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.dedup.index import load_index
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.engine import exchange as exchanging
from curate.engine import indexing, shuffle
from curate.engine.exchange import exchange_jobs, open_state
from curate.engine.indexing import Indexed, check_index, index_parquet, withdraw
from curate.engine.jobs import Failure, Job
from curate.engine.recipe import StepSpec
from curate.errors import InputError, MismatchError, StageError
from curate.fingerprints import fingerprint
from tests.engine.test_exchange import WORDS, Finish, Stage, corpus, jobs_of, written

MINHASH = {"bands": 64, "rows": 1, "ngram": 3, "threshold": 0.5}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("exact", {}),
    "chains": ("minhash", MINHASH),
    "guarded": ("minhash", MINHASH | {"require_similar_to_survivor": True}),
    "estimated": ("minhash", MINHASH | {"require_similar_to_survivor": True, "verify": "estimated"}),
    "unverified": ("minhash", {"bands": 6, "rows": 3, "ngram": 3, "verify": "none"}),
}
PATHS = {"exact": "curate.dedup.exact:Exact", "minhash": "curate.dedup.minhash:MinHash"}
Rows = Sequence[dict[str, Any]]


def spec_of(method: str, **more: Any) -> StepSpec:
    name, parameters = METHODS[method]
    return StepSpec(name, PATHS[name], json.dumps(parameters | more), "test")


@dataclass
class Inline:
    """Of an engine what indexing asks for: jobs, done here unless they are finished."""

    done: list[str] = field(default_factory=list)

    def finish(self, work: Any, jobs: Sequence[Job], stage: Any, phase: str, take: Any) -> None:
        for job in jobs:
            manifest = job.finished()
            if manifest is None:
                manifest = work(job)
                self.done.append(Path(job.manifest).name)
            if isinstance(manifest, Failure):
                raise StageError(str(manifest))
            take(manifest)


def dumps_of(seed: int, count: int = 3) -> list[list[dict[str, Any]]]:
    """A corpus of near-copies, dealt to dumps at random."""
    rng = random.Random(seed)
    dealt: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for number, row in enumerate(corpus(seed)):
        rng.choice(dealt).append({"id": f"{rng.randint(0, 999):03}-{number}", "text": row["text"]})
    return dealt


@dataclass
class Run:
    """A dump that was deduplicated, and put into an index."""

    states: list[pa.Table]
    summary: dict[str, Any]
    indexed: Indexed | None

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        names = ("id", "survivor", "similarity")
        return [tuple(row[name] for name in names) for state in self.states for row in state.to_pylist()]


def ran(
    folder: Path,
    method: str,
    rows: Rows,
    *,
    name: str,
    index: Path | None,
    parts: int = 2,
    to: Path | None = None,
    **more: Any,
) -> Run:
    """One dump, held against `index`, and added to it (or `to`)."""
    against = {} if index is None else {"against": str(index), "dump": name}
    stage = Stage(name, (spec_of(method, **more, **against),))
    jobs = jobs_of(stage, folder / name, written(folder / f"{name}-documents", rows, parts))
    jobs, summary = exchange_jobs(stage, str(folder / name), jobs, Finish())
    target = to or index
    exchange = stage.steps[0].build()
    source = fingerprint([name, [row["text"] for row in rows], parts])
    added = indexing._add(Inline(), target, name, exchange, jobs, source) if target else None  # type: ignore[arg-type]
    return Run([open_state(job) for job in jobs], summary, added)


def globally(method: str, dumps: Sequence[Rows], then: str = "longest") -> list[list[tuple[Any, ...]]]:
    """All dumps at once, the older preferred."""
    names = [f"d{number}" for number in range(len(dumps))]
    step = spec_of(method, keep={"prefer": names, "column": "dump", "then": then}).build()
    partials = []
    for name, rows in zip(names, dumps, strict=True):
        batch = pa.RecordBatch.from_pylist(list(rows), schema=DOCUMENT_SCHEMA)
        batch = batch.append_column("dump", pa.array([name] * len(rows), pa.string()))
        partials.append(step.map(iter([Batch(batch)])))
    state = step.reduce(partials)
    assert not state.summary.get("skipped_pairs")
    return [[(row["id"], row["survivor"], row["similarity"]) for row in part.to_pylist()] for part in state.parts]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))])
def test_each_dump_is_decided_as_with_all_older_ones_at_once(method: str, seed: int, tmp_path: Path) -> None:
    dumps = dumps_of(seed)
    removed_for_older = 0
    for number, rows in enumerate(dumps):
        run = ran(tmp_path, method, rows, name=f"d{number}", index=tmp_path / "index", keep="longest")
        assert run.rows == globally(method, dumps[: number + 1])[number]
        assert run.indexed
        removed_for_older += run.indexed.dump.removed_for_older
        older = {row["id"] for each in dumps[:number] for row in each}
        assert run.indexed.dump.removed_for_older == sum(survivor in older for _, survivor, _ in run.rows)
        assert run.summary["removed"] == sum(survivor is not None for _, survivor, _ in run.rows)
        assert run.summary["documents"] == len(rows)
    assert removed_for_older > 3


@pytest.mark.parametrize("method", ["exact", "guarded", "estimated"])
@pytest.mark.parametrize("seed", [4, 5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 40))])
def test_without_chains_three_dumps_one_by_one_are_one_global_run(method: str, seed: int, tmp_path: Path) -> None:
    dumps = dumps_of(seed)
    runs = [
        ran(tmp_path, method, rows, name=f"d{number}", index=tmp_path / "index", keep="longest")
        for number, rows in enumerate(dumps)
    ]
    assert [run.rows for run in runs] == globally(method, dumps)


def words(seed: int, count: int = 30) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def chain() -> tuple[str, str, str]:
    """Three texts; the first and the last are each like the one between, and unlike each other."""
    one, other = words(1, 40), words(2, 40)
    return " ".join(one), " ".join(one[8:] + other[:8]), " ".join(one[16:] + other[:16])


def test_a_later_bridge_takes_no_document_of_an_older_dump_away(tmp_path: Path) -> None:
    first, bridge, last = chain()
    dumps = [[{"id": "a", "text": first}], [{"id": "b", "text": last}], [{"id": "c", "text": bridge}]]
    apart = [
        run.rows
        for run in (
            ran(tmp_path, "chains", rows, name=f"d{number}", index=tmp_path / "index")
            for number, rows in enumerate(dumps)
        )
    ]
    assert [rows[0][:2] for rows in apart] == [("a", None), ("b", None), ("c", "a")]
    assert [rows[0][:2] for rows in globally("chains", dumps, "first")] == [("a", None), ("b", "a"), ("c", "a")]


def test_a_removed_document_still_connects_in_chains_and_never_where_similarity_is_required(tmp_path: Path) -> None:
    first, between, last = chain()
    for method, expected in (("chains", "a"), ("guarded", None)):
        index = tmp_path / method / "index"
        ran(tmp_path / method, method, [{"id": "a", "text": first}], name="d0", index=index)
        middle = ran(tmp_path / method, method, [{"id": "b", "text": between}], name="d1", index=index)
        assert middle.rows[0][1] == "a"
        assert (
            ran(tmp_path / method, method, [{"id": "c", "text": last}], name="d2", index=index).rows[0][1] == expected
        )


@pytest.mark.parametrize("method", ["exact", "chains", "guarded"])
def test_neither_parts_nor_rounds_change_the_decision(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps = dumps_of(11)
    expected = [
        ran(tmp_path / "one", method, rows, name=f"d{number}", index=tmp_path / "one" / "index", parts=1).rows
        for number, rows in enumerate(dumps)
    ]
    monkeypatch.setattr(exchanging, "WHOLE_BYTES", -1)
    monkeypatch.setattr(shuffle, "BLOCK_ROWS", 16)
    for range_bytes, one_task in ((1 << 30, 1 << 30), (40_000, 0)):
        monkeypatch.setattr(exchanging, "RANGE_BYTES", range_bytes)
        for module in ("minhash", "linked"):
            monkeypatch.setattr(f"curate.dedup.{module}.ONE_TASK_BYTES", one_task, raising=False)
        folder = tmp_path / f"{range_bytes}-{one_task}"
        for number, rows in enumerate(dumps):
            run = ran(folder, method, rows, name=f"d{number}", index=folder / "index", parts=3 + number)
            assert run.rows == expected[number]


def test_the_ledger_names_the_survivor_and_its_dump(tmp_path: Path) -> None:
    text = " ".join(words(5))
    ran(tmp_path, "guarded", [{"id": "a", "text": text}], name="d0", index=tmp_path / "index")
    ran(tmp_path, "guarded", [{"id": "z", "text": " ".join(words(6))}], name="d1", index=tmp_path / "index")
    rows = [{"id": "b", "text": text}, {"id": "c", "text": " ".join(words(7))}, {"id": "d", "text": " ".join(words(7))}]
    run = ran(tmp_path, "guarded", rows, name="d2", index=tmp_path / "index", parts=1)
    step = spec_of("guarded", against=str(tmp_path / "index"), dump="d2").build()
    batch = Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA))
    outcome = next(step.apply(iter([batch]), run.states[0]))
    told = [(row["survivor"], row["survivor_part"], row["error"]) for row in outcome.left.to_pylist()]
    assert told == [("a", None, "kept in dump d0 of the index"), ("c", 0, None)]
    assert (run.summary["distinct_documents"], run.summary["clusters"], run.summary["removed"]) == (2, 2, 2)
    assert outcome.batch.ids.to_pylist() == ["c"]
    assert outcome.batch.data.column("minhash.cluster_size").to_pylist() == [2]


def test_a_run_of_an_indexed_dump_is_held_against_older_ones_only(tmp_path: Path) -> None:
    dumps = dumps_of(3)
    for number, rows in enumerate(dumps):
        ran(tmp_path, "guarded", rows, name=f"d{number}", index=tmp_path / "index")
    step = spec_of("guarded", against=str(tmp_path / "index"), dump="d1").build()
    assert [dump.name for dump in step.older()] == ["d0"]
    content = step.content_of("against")
    again = ran(tmp_path, "guarded", dumps[1], name="d1", index=tmp_path / "index")
    assert again.indexed and not again.indexed.new
    withdraw(tmp_path / "index", "d2")
    assert step.content_of("against") == content
    withdraw(tmp_path / "index", "d0")
    assert step.content_of("against") != content


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("method", ["chains", "guarded"])
def test_indexing_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dumps_of(1, count=1)[0]
    ran(tmp_path / "sound", method, rows, name="d0", index=tmp_path / "sound" / "index", parts=4)
    written_manifests = []

    def killed(job: Any) -> Any:
        if len(written_manifests) == 2:
            raise KeyboardInterrupt
        written_manifests.append(job.part)
        return work(job)

    work = indexing.dump_part
    monkeypatch.setattr(indexing, "dump_part", killed)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        ran(folder, method, rows, name="d0", index=folder / "index", parts=4)
    assert load_index(folder / "index").dumps == ()
    (folder / "index" / "d0" / "dump-00001.json").unlink()
    (folder / "index" / "d0" / ".left.tmp").write_bytes(b"half")
    monkeypatch.setattr(indexing, "dump_part", work)
    ran(folder, method, rows, name="d0", index=folder / "index", parts=4)
    assert files_of(folder / "index") == files_of(tmp_path / "sound" / "index")


@pytest.mark.parametrize("victim", ["partial-00001.arrow", "bands-00000.arrow", "digests-00001.arrow"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_a_damaged_file_of_the_index_is_named_and_can_be_made_again(victim: str, damage: str, tmp_path: Path) -> None:
    one, other, _ = dumps_of(2)
    index = tmp_path / "index"
    ran(tmp_path, "guarded", one, name="d0", index=index)
    expected = ran(tmp_path / "sound", "guarded", other, name="d1", index=None, to=None).rows
    path = index / "d0" / victim
    sound, data = path.read_bytes(), bytearray(path.read_bytes())
    if damage == "flipped":
        if victim.startswith("partial"):  # any shingle that is looked at
            shingles = pa.ipc.open_file(str(path)).read_all().column("shingles").combine_chunks().flatten().to_pylist()
            for one_shingle in shingles:
                data[data.find(int(one_shingle).to_bytes(8, "little"))] ^= 1
        else:
            data[len(data) // 2] ^= 4
        path.write_bytes(data)
        with pytest.raises(MismatchError, match="'d0' is damaged"):
            check_index(load_index(index), verify=True)
    elif damage == "truncated":
        path.write_bytes(data[:-200])
    else:
        path.unlink()
    with pytest.raises((StageError, MismatchError), match=r"(?s)(d0.*is damaged|damaged.*d0)"):
        ran(tmp_path, "guarded", other, name="d1", index=index)
    (index / "d0" / f"dump-{int(victim[-7]):05d}.json").unlink(missing_ok=True)
    again = ran(tmp_path, "guarded", one, name="d0", index=index)
    assert again.indexed and not again.indexed.new
    assert path.read_bytes() == sound
    assert ran(tmp_path, "guarded", other, name="d1", index=index).rows != expected


def test_a_damaged_index_file_and_a_folder_that_is_none_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "index"
    ran(tmp_path, "exact", [{"id": "a", "text": "x"}], name="d0", index=index)
    path = index / "index.json"
    path.write_text(path.read_text().replace('"documents": 1', '"documents": 2'))
    with pytest.raises(InputError, match=r"index\.json: cannot be read as an index"):
        load_index(index)
    with pytest.raises(InputError, match=r"it is no index"):
        load_index(tmp_path / "d0")


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("guarded", {"threshold": 0.6}, "threshold 0.5, and this step has 0.6"),
        ("guarded", {"seed": 2}, "seed 1, and this step has 2"),
        ("guarded", {"keep": "longest"}, "keep 'first', and this step has 'longest'"),
        ("exact", {"by": "url"}, "by 'text', and this step has 'url'"),
    ],
)
def test_other_parameters_than_the_index_has_are_refused_by_name(
    method: str, change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    rows = [{"id": "a", "text": "some words of a text", "url": "https://e.org"}]
    ran(tmp_path, method, rows, name="d0", index=tmp_path / "index")
    with pytest.raises(MismatchError, match=named):
        ran(tmp_path, method, rows, name="d1", index=tmp_path / "index", **change)


def test_against_needs_the_name_of_the_dump() -> None:
    for given in ({"against": "index"}, {"dump": "d1"}):
        with pytest.raises(ValueError, match="belong together"):
            spec_of("exact", **given).build()
    with pytest.raises(ValueError, match="a name has letters"):
        spec_of("exact", against="index", dump="../d1").build()


def test_a_withdrawn_dump_frees_what_was_like_it_and_names_what_had_left(tmp_path: Path) -> None:
    for method in ("chains", "guarded", "exact"):
        folder, text = tmp_path / method, " ".join(words(9))
        index = folder / "index"
        ran(folder, method, [{"id": "a", "text": text}], name="d0", index=index)
        ran(folder, method, [{"id": "b", "text": text}, {"id": "o", "text": "another page"}], name="d1", index=index)
        before = ran(folder, method, [{"id": "c", "text": text}], name="d2", index=index, to=folder / "none")
        assert before.rows[0][1] == "a"
        done = withdraw(index, "d0")
        assert done.removed == {"d1": 1}
        assert done.ids == index / "withdrawn-d0.parquet"
        assert pq.read_table(done.ids).to_pylist() == [{"id": "b", "dump": "d1", "survivor": "a"}]
        assert not (index / "d0").exists()
        # b left for a, which is gone: nothing of this text is anywhere, and a later document of it stays.
        alone = ran(folder / "alone", method, [{"id": "c", "text": text}], name="d2", index=index, to=folder / "other")
        assert alone.rows == [("c", None, None)]
        assert alone.states[-1].column("cluster_size").to_pylist() == [1]
        both = [{"id": "c", "text": text}, {"id": "d", "text": text}]
        after = ran(folder / "again", method, both, name="d2", index=index)
        assert after.rows == [("c", None, None), ("d", "c", 1.0)]
        assert after.states[-1].column("cluster_size").to_pylist() == [2]
        with pytest.raises(InputError, match="has no dump 'd0'; it has d1, d2"):
            withdraw(index, "d0")
        assert withdraw(index, "d1").removed == {}


def test_a_name_given_again_is_another_dump(tmp_path: Path) -> None:
    text, index = " ".join(words(9)), tmp_path / "index"
    ran(tmp_path, "chains", [{"id": "a", "text": text}], name="d0", index=index)
    ran(tmp_path, "chains", [{"id": "b", "text": text}], name="d1", index=index)
    with pytest.raises(InputError, match="made of other documents"):
        ran(tmp_path / "other", "chains", [{"id": "x", "text": " ".join(words(8))}], name="d0", index=None, to=index)
    withdraw(index, "d0")
    ran(tmp_path / "other", "chains", [{"id": "x", "text": " ".join(words(8))}], name="d0", index=None, to=index)
    assert [dump.name for dump in load_index(index).dumps] == ["d1", "d0"]
    later = ran(tmp_path, "chains", [{"id": "c", "text": text}], name="d2", index=index)
    assert later.rows == [("c", None, None)]
    assert withdraw(index, "d0").removed == {}


def jaccard(one: str, other: str) -> float:
    sets = [{tuple(text.split()[at : at + 3]) for at in range(len(text.split()) - 2)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if sets[0] | sets[1] else 0.0


@pytest.mark.parametrize("method", ["guarded", "chains"])
def test_parquet_files_enter_with_all_their_documents(method: str, tmp_path: Path) -> None:
    old, new = dumps_of(6, count=2)
    paths, index = written(tmp_path / "old", old, 3), tmp_path / "index"
    engine = Inline()
    added = index_parquet(paths, engine, to=index, name="old", step=spec_of(method))  # type: ignore[arg-type]
    assert added.new and added.dump.removed_for_older == 0
    assert sorted(path.name for path in index.iterdir()) == ["index.json", "old"]
    engine.done.clear()
    again = index_parquet(paths, engine, to=index, name="old")  # type: ignore[arg-type]
    assert not again.new and engine.done == []
    survivor = {key: survivor for key, survivor, _ in ran(tmp_path, method, new, name="new", index=index).rows}
    similar = {row["id"] for row in new if any(jaccard(row["text"], each["text"]) >= 0.5 for each in old)}
    assert similar
    assert similar <= {key for key, kept in survivor.items() if kept}
    of_old = {row["id"]: row["text"] for row in old}
    assert all(survivor[key] in of_old for key in similar)


def test_parquet_without_texts_and_an_index_without_a_step_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"], "body": ["b"]}), path)
    with pytest.raises(InputError, match="how documents are compared is open"):
        index_parquet([str(path)], Inline(), to=tmp_path / "index", name="x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no column text"):
        index_parquet([str(path)], Inline(), to=tmp_path / "index", name="x", step=spec_of("exact"))  # type: ignore[arg-type]


def test_a_changed_index_stops_a_run_that_began_with_another(tmp_path: Path) -> None:
    rows: list[Iterable[Any]] = []
    index = tmp_path / "index"
    ran(tmp_path, "exact", [{"id": "a", "text": "x"}], name="d0", index=index)

    class Meddling(Finish):
        def __call__(self, work: Any, jobs: Sequence[Job], phase: str, take: Any) -> None:
            super().__call__(work, jobs, phase, take)
            if phase == "map":
                ran(tmp_path / "else", "exact", [{"id": "b", "text": "y"}], name="d1", index=None, to=index)

    stage = Stage("d2", (spec_of("exact", against=str(index), dump="d2"),))
    jobs = jobs_of(stage, tmp_path / "d2", written(tmp_path / "documents", [{"id": "c", "text": "y"}], 1))
    with pytest.raises(StageError, match="looks at changed while the recipe ran"):
        exchange_jobs(stage, str(tmp_path / "d2"), jobs, Meddling())
    assert not rows


def test_an_index_is_never_overlooked_in_a_pipeline_in_memory(tmp_path: Path) -> None:
    ran(tmp_path, "exact", [{"id": "a", "text": "x"}], name="d0", index=tmp_path / "index")
    batch = Batch(pa.RecordBatch.from_pylist([{"id": "b", "text": "x"}], schema=DOCUMENT_SCHEMA))
    with pytest.raises(MismatchError, match="`against` is for recipes"):
        spec_of("exact", against=str(tmp_path / "index"), dump="d1").build().process(batch)


def test_an_index_from_elsewhere_cannot_name_a_folder_outside(tmp_path: Path) -> None:
    index = tmp_path / "index"
    ran(tmp_path, "exact", [{"id": "a", "text": "x"}], name="d0", index=index)
    plain = json.loads((index / "index.json").read_text())
    plain.pop("seal")
    plain["dumps"][0]["folder"] = "../d0-documents"
    (index / "index.json").write_text(json.dumps(plain | {"seal": fingerprint(plain)}))
    with pytest.raises(InputError, match="no name of a dump"):
        withdraw(index, "d0")
    assert (tmp_path / "d0-documents").exists()


def test_a_copy_of_a_removed_document_leaves_for_the_survivor_that_is_left(tmp_path: Path) -> None:
    first, between, last = chain()
    index = tmp_path / "index"
    ran(tmp_path, "chains", [{"id": "w", "text": between}], name="dw", index=index)
    ran(tmp_path, "chains", [{"id": "z", "text": between}], name="d0", index=index)
    withdraw(index, "dw")  # z is left of the pair: it is in no output, and connects
    rows = ran(tmp_path, "chains", [{"id": "a", "text": first}, {"id": "b", "text": last}], name="d1", index=index).rows
    assert [row[:2] for row in rows] == [("a", None), ("b", "a")]
    withdraw(index, "d0")  # now nothing but the index itself knows why b left for a
    rows = ran(tmp_path, "chains", [{"id": "c", "text": first}, {"id": "d", "text": last}], name="d2", index=index).rows
    assert [row[:2] for row in rows] == [("c", "a"), ("d", "a")]


def test_clusters_of_the_index_alone_are_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "WHOLE_BYTES", -1)
    ran(tmp_path, "chains", corpus(3), name="d0", index=tmp_path / "index")
    rows = [{"id": "new", "text": " ".join(words(77))}, {"id": "copy", "text": " ".join(words(77))}]
    ran(tmp_path, "chains", rows, name="d1", index=tmp_path / "index", parts=2)
    sent = [pa.ipc.open_file(str(path)).read_all() for path in (tmp_path / "d1").glob("members-*.arrow")]
    assert sorted(key for table in sent for key in table.column("id").to_pylist()) == ["copy", "new"]
