"""Which runs train together, that a begun group stays as it is, and what is left of a ladder."""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from curate.errors import MismatchError, TrainingError
from curate.fingerprints import write_json
from curate.progress import Progress
from curate.proxy_training.packing import TokenizedDataset, open_given, open_packed
from curate.proxy_training.planning.expand import LearningRates, rungs_of, runs_of, with_seeds
from curate.proxy_training.planning.ladder_file import load_ladder
from curate.proxy_training.run import Run
from curate.proxy_training.scheduling import grouping
from curate.proxy_training.scheduling.beats import STALE_SECONDS, Beat, Beats, read_beat
from curate.proxy_training.scheduling.devices import Gpu, places_for, sharing
from curate.proxy_training.scheduling.grouping import Group, Groups, end_group, group_runs, settle_groups
from curate.proxy_training.scheduling.standing import note_start, standing
from curate.proxy_training.scheduling.time_left import TimeLeft
from curate.proxy_training.scheduling.watching import shown_time
from curate.proxy_training.training.locks import is_free, locked
from curate.proxy_training.training.run_folders import point_file

from .conftest import finish

MakeRun = Callable[..., Run]


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def three_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of three, whatever the benchmark says of the shape."""
    monkeypatch.setattr(grouping, "members_for", lambda shape, batch_tokens: 3)


def _wider(run: Run) -> Run:
    return replace(run, scale=run.scale.model_copy(update={"width": 32, "ffn": 64, "name": "wide"}))


def test_equal_shapes_stack_whatever_their_seed_and_rate_and_others_never(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed) for seed in range(4)]
    runs += [replace(runs[0], learning_rate_factor=3.0), _wider(runs[0]), _wider(runs[1])]
    other = replace(runs[0], procedure=runs[0].procedure.model_copy(update={"clip_norm": 2.0}))
    groups = group_runs([*runs, other])
    assert sorted(len(group.runs) for group in groups) == [1, 2, 2, 3]
    assert sum(len(group.runs) for group in groups) == len(runs) + 1
    for group in groups:
        assert len({run.shape for run in group.runs}) == len({run.procedure for run in group.runs}) == 1


def test_the_groups_of_a_plan_do_not_depend_on_the_order_of_its_runs(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed) for seed in range(7)]
    ids = [group.fingerprint for group in group_runs(runs)]
    assert ids == [group.fingerprint for group in group_runs(runs[::-1])]
    assert [len(group.runs) for group in group_runs(runs)] == [2, 2, 3]


def test_a_begun_group_stays_and_the_rest_is_grouped_anew(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(4)]
    first = settle_groups(runs[:3], tmp_path, Progress())
    (begun,) = first.todo
    Beats(begun.folder(tmp_path))
    notes = Notes()
    again = settle_groups([runs[0], runs[3]], tmp_path, notes)
    assert begun in again.todo, notes.notes
    assert [run.seed for group in again.todo if group != begun for run in group.runs] == [3]
    assert len(notes.notes) == 2
    assert all("not wanted any more, but ends with its group" in note for note in notes.notes)


def test_a_group_that_was_only_planned_is_planned_anew(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    settle_groups(runs, tmp_path, Progress())
    (group,) = settle_groups(runs[:2], tmp_path, Progress()).todo
    assert group.runs == tuple(sorted(runs[:2], key=lambda run: run.seed))
    assert [path.name for path in tmp_path.glob("groups/*/")] == [group.fingerprint]


def test_a_begun_group_whose_dataset_is_gone_starts_anew_and_says_so(
    make_run: MakeRun, packed: TokenizedDataset, tmp_path: Path
) -> None:
    kept, gone = make_run(seed=0), make_run(seed=1, dataset=replace(packed, folder=tmp_path / "gone"))
    (group,) = settle_groups([kept, gone], tmp_path, Progress()).todo
    Beats(group.folder(tmp_path))
    notes = Notes()
    (left,) = settle_groups([kept], tmp_path, notes).todo
    assert left.runs == (kept,)
    assert "cannot go on as it was" in notes.notes[0]


def test_a_begun_group_on_tokens_that_were_given_goes_on(
    make_run: MakeRun, packed: TokenizedDataset, tmp_path: Path
) -> None:
    shutil.copytree(packed.folder, tmp_path / "given")
    given = open_given(tmp_path / "given")
    assert given.fingerprint != open_packed(tmp_path / "given").fingerprint
    runs = [make_run(seed=0), make_run(seed=1, dataset=given)]
    (group,) = settle_groups(runs, tmp_path, Progress()).todo
    Beats(group.folder(tmp_path))
    assert settle_groups(runs[:1], tmp_path, Progress()).todo == (group,)


def _diverge(run: Run, out: Path) -> None:
    folder = out / "runs" / run.fingerprint
    folder.mkdir(parents=True)
    (folder / "failed.json").write_text(json.dumps({"diverged": True, "error": "Run x diverged."}))


def test_a_kill_between_the_last_result_and_the_end_of_a_group_moves_no_share(
    make_run: MakeRun, tmp_path: Path
) -> None:
    runs = [make_run(seed=seed) for seed in range(4)] + [_wider(make_run(seed=seed)) for seed in range(5)]
    before = settle_groups(runs, tmp_path, Progress())
    shares = [{group.fingerprint for group in before.part(number, 2).todo} for number in (1, 2)]
    killed = before.todo[0]
    _diverge(killed.runs[0], tmp_path)
    for run in killed.runs[1:]:
        finish(run, tmp_path)
    after = settle_groups(runs, tmp_path, Progress())
    assert after.done == (killed,)
    assert set(after.todo) == set(before.todo) - {killed}
    for number, share in enumerate(shares, start=1):
        part = after.part(number, 2)
        assert {group.fingerprint for group in (*part.todo, *part.done)} == share
    ended = json.loads((killed.folder(tmp_path) / "done.json").read_text())
    assert ended == {"failures": {killed.runs[0].fingerprint: "Run x diverged."}}


def test_a_divergence_that_somebody_took_back_is_trained_once(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (group,) = settle_groups([run], tmp_path, Progress()).todo
    _diverge(run, tmp_path)
    assert settle_groups([run], tmp_path, Progress()) == Groups((), (group,))
    (tmp_path / "runs" / run.fingerprint / "failed.json").unlink()
    assert settle_groups([run], tmp_path, Progress()) == Groups((group,), ())


def test_a_group_that_a_living_start_waits_to_train_is_not_planned_anew(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    with ExitStack() as start:
        (waiting,) = settle_groups(runs, tmp_path, Progress(), start=start).todo
        assert settle_groups(runs[:2], tmp_path, Progress()).todo == (waiting,)
        assert (waiting.folder(tmp_path) / "group.json").exists()
    (group,) = settle_groups(runs[:2], tmp_path, Progress()).todo
    assert len(group.runs) == 2
    assert not waiting.folder(tmp_path).exists()


def test_a_shape_with_dropout_does_not_stack(make_run: MakeRun) -> None:
    dropped = [
        replace(run, procedure=run.procedure.model_copy(update={"dropout": 0.1}))
        for run in (make_run(seed=0), make_run(seed=1))
    ]
    assert [len(group.runs) for group in group_runs(dropped)] == [1, 1]


def test_parts_on_machines_that_settle_auto_differently_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    other = replace(run, procedure=run.procedure.model_copy(update={"precision": "bf16"}))
    how = {"out": tmp_path, "ladder": "tiny", "automatic": ["compile", "precision"]}
    assert note_start([run], **how, in_parts=True) is None
    with pytest.raises(MismatchError, match=r"`precision: auto` is 'bf16' on this machine and was 'fp32' where 'tiny'"):
        note_start([other], **how, in_parts=True)
    assert json.loads((tmp_path / "started.json").read_text())["runs"] == [run.fingerprint]
    changed = replace(other, procedure=other.procedure.model_copy(update={"clip_norm": 2.0}))
    assert note_start([changed], **how, in_parts=True) is None  # the ladder itself was changed
    note_start([run], **how)
    assert "its runs are trained anew" in (note_start([other], **how) or "")


def test_a_file_system_without_locks_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: object, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(TrainingError, match="this file system has no locks"), locked(tmp_path / "lock"):
        pass


def test_finished_runs_are_never_grouped_and_failed_ones_alone(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    (group,) = settle_groups(runs, tmp_path, Progress()).todo
    for run in runs[:2]:
        finish(run, tmp_path)
    end_group(group.folder(tmp_path), {runs[2].fingerprint: "diverged"})
    settled = settle_groups(runs, tmp_path, Progress())
    assert [run for some in settled.todo for run in some.runs] == [runs[2]]
    assert settled.done == (group,)


def test_shares_cover_all_groups_once_and_do_not_move_when_some_are_done(make_run: MakeRun) -> None:
    groups = [Group((make_run(seed=seed),)) for seed in range(5)] + [Group((_wider(make_run(seed=9)),))]
    fresh = Groups(tuple(groups), ())
    shares = [{group.fingerprint for group in fresh.part(number, 3).todo} for number in (1, 2, 3)]
    assert sorted(run for share in shares for run in share) == sorted(group.fingerprint for group in groups)
    later = Groups(tuple(groups[2:]), tuple(groups[:2]))
    for number, share in enumerate(shares, start=1):
        part = later.part(number, 3)
        assert {group.fingerprint for group in (*part.todo, *part.done)} == share


def test_seeds_and_rates_by_rung(packed: TokenizedDataset, make_run: MakeRun) -> None:
    ladder = load_ladder("demo")
    assert [scale.seeds for scale in with_seeds(ladder, {"small": 2, "top": 5, "0.1M": 4}).scales] == [2, 4, 1, 5]
    with pytest.raises(ValueError, match=r"'9M' is no rung of demo: its rungs are 0\.06M"):
        with_seeds(ladder, {"9M": 2})
    rates = LearningRates.model_validate({"factors": ["1/3", 1, 3]})
    assert rungs_of(ladder, rates) == ("0.06M", "0.1M")
    runs = runs_of(ladder, {"a": packed}, make_run().procedure, evaluation="e", learning_rates=rates)
    assert len(runs) == 6 + 2 * 2
    assert {run.scale.name for run in runs if run.learning_rate_factor != 1} == {"0.06M", "0.1M"}
    assert {round(run.learning_rate_factor, 3) for run in runs} == {0.333, 1.0, 3.0}


def test_the_time_left_learns_from_what_was_measured() -> None:
    left = TimeLeft({"a": 100.0, "b": 100.0, "c": 50.0}, {"a": "x", "b": "x", "c": "y"}, workers=2)
    assert left.left([]) == 150  # nothing known: the estimates, laid out on two workers
    left.heard("a", 0.0, 0.0)
    left.heard("a", 0.5, 100.0)  # twice as slow as estimated
    assert left.left(["a", "b"]) == pytest.approx(200)
    left.ended("a")
    left.ended("b")
    assert left.left([]) == pytest.approx(100)  # c has no news of its own: the mean correction
    left.heard("c", 0.4, 0.0)  # resumed
    left.heard("c", 0.9, 25.0)
    assert left.left(["c"]) == pytest.approx(5)
    assert [shown_time(s) for s in (40, 720, 12_600, 200_000)] == ["40 s", "12 min", "3.5 h", "2.3 days"]


def test_beats_go_on_where_the_last_session_ended(tmp_path: Path) -> None:
    assert read_beat(tmp_path) is None
    beats = Beats(tmp_path)
    beats.advanced(100, 2.0)
    beats.write()
    after = Beats(tmp_path)
    after.advanced(50, 1.0)
    after.write()
    beat = read_beat(tmp_path)
    assert isinstance(beat, Beat)
    assert (beat.tokens, beat.session_tokens, beat.loss) == (150, 50, 1.0)
    assert beat.is_fresh(beat.at + 1)
    assert not beat.is_fresh(beat.at + STALE_SECONDS)


def test_processes_share_a_gpu_as_far_as_its_memory_goes(make_run: MakeRun) -> None:
    assert sharing(10 << 30, 80 << 30) == 7
    assert sharing(100 << 30, 80 << 30) == 1
    gpus = [Gpu("0", 80 << 30), Gpu("3", 80 << 30)]
    places, said = places_for([Group((make_run(),))], gpus, workers=5)
    assert [place.gpu for place in places] == ["0", "3", "0", "3", "0"]
    assert "2 GPUs in 5 processes" in said
    assert [place.gpu for place in places_for([], [], workers=2)[0]] == [None, None]


def test_a_status_is_read_from_the_files_alone(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)] + [_wider(make_run(seed=0)), _wider(make_run(seed=1))]
    stacked, other = sorted(settle_groups(runs, tmp_path, Progress()).todo, key=lambda group: -len(group.runs))
    note_start(runs, out=tmp_path, ladder="tiny")
    beats = Beats(stacked.folder(tmp_path))
    beats.advanced(stacked.trained_tokens // 2, 2.5)
    beats.write()
    for run in stacked.runs:
        folder = tmp_path / "runs" / run.fingerprint
        reached = point_file(folder, 2048, run.evaluation)
        reached.parent.mkdir(parents=True)
        reached.write_text("{}")
        (folder / "curve.jsonl").write_text('{"loss": 3.0}\n{"loss": 2.5}\n{"lo')
    failed = tmp_path / "runs" / other.runs[0].fingerprint
    failed.mkdir(parents=True)
    (failed / "failed.json").write_text(json.dumps({"error": "diverged"}))
    with locked(stacked.folder(tmp_path) / "lock"):  # as a training does
        now = standing(tmp_path)
    assert {state: now.count(state) for state in ("done", "running", "failed", "waiting")} == {
        "done": 0, "running": 3, "failed": 1, "waiting": 1
    }  # fmt: skip
    row = next(run for run in now.runs if run.state == "running")
    assert (row.reached_tokens, row.budget_tokens, row.loss) == (2048, 8192, 2.5)
    assert row.tokens_per_second
    assert now.left_seconds is not None
    beat = read_beat(stacked.folder(tmp_path))
    assert beat is not None
    with locked(stacked.folder(tmp_path) / "lock"):
        dead = standing(tmp_path, now=beat.at + STALE_SECONDS)
    assert dead.count("running") == 0
    assert dead.left_seconds is None
    killed = standing(tmp_path)  # its lock fell with its process
    assert (killed.count("running"), killed.count("waiting"), killed.left_seconds) == (0, 4, None)
    write_json(stacked.folder(tmp_path) / "progress.json", asdict(replace(beat, where="elsewhere:1", at=time.time())))
    assert standing(tmp_path).count("running") == 3  # another machine's lock cannot be asked for


def test_who_asks_for_a_lock_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    assert is_free(path)
    assert not path.exists()
    with locked(path):
        assert not is_free(path)
    path.chmod(0o444)
    assert is_free(path)
    path.chmod(0o644)
    glance = path.open("rb")
    fcntl.flock(glance, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: glance.close())  # whoever asked is gone by then
    with locked(path, busy=lambda: pytest.fail("taken for a training")):
        pass
