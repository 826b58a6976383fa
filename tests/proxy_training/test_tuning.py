import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.errors import MismatchError, RecipeError, TrainingError
from curate.proxy_training.evaluation.measured import is_tuned
from curate.proxy_training.ladder import ready
from curate.proxy_training.packing import TokenizedDataset, pack_dataset
from curate.proxy_training.planning.ladder_file import Ladder, load_ladder
from curate.proxy_training.planning.tuning import Tuning, fit_constants, sweep, tune_ladder
from curate.proxy_training.planning.tuning import tune as tune_ready
from curate.proxy_training.planning.valley import Point, find_valley
from curate.proxy_training.procedure import Procedure, Rules, Tuned
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.mixture import neutral_mixture
from tests.proxy_training.conftest import sentences, write_documents


def parabola(
    rates: Sequence[float], *, best: float, bend: float = 0.02, noise: float = 0.0, seeds: int = 2
) -> list[Point]:
    chance = random.Random(0)
    return [
        Point(rate, seed, 2.0 + bend * math.log(rate / best) ** 2 + chance.gauss(0, noise))
        for rate in rates
        for seed in range(seeds)
    ]


class TestValley:
    RATES = (0.0025, 0.005, 0.01, 0.02, 0.04)

    def test_the_bottom_of_a_parabola_is_found_between_the_rates(self) -> None:
        valley = find_valley(parabola(self.RATES, best=0.0137))
        assert valley.learning_rate == pytest.approx(0.0137)
        assert valley.loss == pytest.approx(2.0)
        assert valley.given_up(0.0137 * math.e) == pytest.approx(0.01)

    def test_the_error_covers_the_truth_as_often_as_it_says(self) -> None:
        inside = 0
        for seed in range(300):
            chance = random.Random(seed)
            points = [
                Point(p.learning_rate, p.seed, p.loss + chance.gauss(0, 0.003))
                for p in parabola(self.RATES, best=0.0137, seeds=3)
            ]
            valley = find_valley(points)
            inside += abs(math.log(valley.learning_rate / 0.0137)) < 2 * valley.log_error
        assert 0.88 <= inside / 300 <= 1.0

    def test_a_rate_that_diverged_does_not_bend_the_parabola(self) -> None:
        points = [*parabola(self.RATES, best=0.0137), Point(0.08, 0, math.inf), Point(0.08, 1, 9.0)]
        assert find_valley(points).learning_rate == pytest.approx(0.0137)
        assert find_valley(points).given_up(0.08) == math.inf

    @pytest.mark.parametrize(("best", "edge"), [(0.0001, -1), (1.0, 1), (0.01, 0)])
    def test_an_optimum_outside_the_sweep_is_an_edge(self, best: float, edge: int) -> None:
        valley = find_valley(parabola(self.RATES, best=best))
        assert valley.edge == edge
        if edge:
            assert math.isinf(valley.log_error)
            assert valley.given_up(0.3) == math.inf

    def test_a_divergence_above_the_best_rate_is_a_wall_not_an_edge(self) -> None:
        points = [Point(0.01, 0, 2.1), Point(0.02, 0, 2.0), Point(0.04, 0, math.inf)]
        assert find_valley(points).edge == 0

    def test_nothing_is_said_when_all_diverged(self) -> None:
        with pytest.raises(TrainingError, match="2 of 2 learning rates of the sweep diverged"):
            find_valley([Point(1.0, 0, math.inf), Point(2.0, 0, math.inf)])


class MadeUp:
    """Trainings whose best rate and batch are known laws of N; counts what it was asked."""

    def __init__(self, *, rate: float, exponent: float, batch_tokens: float = 1024.0, noise: float = 0.0005) -> None:
        self.rate, self.exponent, self.batch, self.noise = rate, exponent, batch_tokens, noise
        self.asked: list[Run] = []

    def best_rate(self, params: int, batch_tokens: int) -> float:
        return self.rate * (params / 1e5) ** self.exponent * (batch_tokens / 1024) ** 0.5

    def __call__(self, runs: Sequence[Run]) -> list[float]:
        self.asked += runs
        chance = random.Random(len(self.asked))
        losses = []
        for run in runs:
            off = math.log(run.learning_rate / self.best_rate(run.shape.params, run.batch_tokens))
            loss = 3.0 - 0.1 * math.log10(run.shape.params) + 0.03 * off**2
            loss += 0.02 * math.log(run.batch_tokens / self.batch) ** 2 + chance.gauss(0, self.noise)
            losses.append(math.inf if off > 2.5 else loss)
        return losses


def demo_by_size() -> Ladder:
    """The demo's rungs under a rule whose rate falls with the size."""
    rules = Rules(rule="measured", batch_tokens_min=1024, batch_tokens_max=1024)
    return load_ladder("demo").model_copy(update={"procedure": rules})


def tune(truth: MadeUp, packed: TokenizedDataset, out: Path, *, ladder: Ladder | None = None, **how: int) -> Tuning:
    ladder = ladder or demo_by_size()
    procedure = Procedure(
        **ladder.procedure.model_dump(),
        tokenizer=packed.tokenizer_fingerprint,
        sequence_length=ladder.sequence_length,
        precision="fp32",
        compile="eager",
    )
    return tune_ladder(
        ladder,
        procedure=procedure,
        datasets={"grammar": packed},
        evaluation="e",
        train=truth,
        out=out,
        **how,
    )


def best_on(truth: MadeUp, tuning: Tuning) -> list[tuple[float, float]]:
    """What the tuned rule says and what is true, at every rung of the ladder."""
    rules = tuning.ladder.procedure
    return [
        (rules.learning_rate(rung.size, batch_tokens=rung.batch), truth.best_rate(rung.size.params, rung.batch))
        for rung in tuning.rungs
    ]


class TestTuneLadder:
    def test_a_rule_that_is_off_by_six_is_put_right_on_the_swept_rungs(
        self, packed: TokenizedDataset, tmp_path: Path
    ) -> None:
        truth = MadeUp(rate=0.003, exponent=-0.66)
        tuning = tune(truth, packed, tmp_path, rungs=3, batches=False)
        for said, true in best_on(truth, tuning):
            assert said == pytest.approx(true, rel=0.15)
        assert all(rung.given_up > 0.01 for rung in tuning.rungs[:2])
        assert all(after < 0.002 for after in tuning.given_up_after)

    def test_a_rate_far_above_the_grid_is_found_by_widening(self, packed: TokenizedDataset, tmp_path: Path) -> None:
        truth = MadeUp(rate=0.5, exponent=-0.66)
        tuning = tune(truth, packed, tmp_path, batches=False)
        for said, true in best_on(truth, tuning):
            assert said == pytest.approx(true, rel=0.3)
        assert tuning.ladder.procedure.learning_rate_max > 0.02

    def test_smaller_batches_are_taken_when_they_are_better_than_the_noise(
        self, packed: TokenizedDataset, tmp_path: Path
    ) -> None:
        tuning = tune(MadeUp(rate=0.02, exponent=-0.66, batch_tokens=512.0), packed, tmp_path)
        assert [rung.batch for rung in tuning.rungs] == [512, 512]
        rules = tuning.ladder.procedure
        assert all(rules.batch_tokens(rung.size) == 512 for rung in tuning.rungs)
        flat = tune(MadeUp(rate=0.02, exponent=0.0, batch_tokens=512.0), packed, tmp_path, ladder=load_ladder("demo"))
        assert all(flat.ladder.procedure.batch_tokens(rung.size) == 512 for rung in flat.rungs)

    def test_batches_that_are_no_better_than_the_noise_stay(self, packed: TokenizedDataset, tmp_path: Path) -> None:
        tuning = tune(MadeUp(rate=0.02, exponent=-0.66, noise=0.05), packed, tmp_path)
        assert [rung.batch for rung in tuning.rungs] == [1024, 1024]

    def test_what_is_written_is_a_ladder_that_says_where_it_comes_from(
        self, packed: TokenizedDataset, tmp_path: Path
    ) -> None:
        tuning = tune(MadeUp(rate=0.003, exponent=-0.66), packed, tmp_path)
        read = load_ladder(tuning.path)
        assert read == tuning.ladder
        tuned = read.procedure.tuned
        assert tuned is not None
        assert (tuned.ladder, tuned.rungs, tuned.seeds) == ("demo", ("0.06M", "0.1M"), (0, 1))
        record = json.loads((tmp_path / "tuning.json").read_text())
        assert {point["scale"] for point in record["points"]} == {"0.06M", "0.1M"}
        assert record["changed"] == tuning.changed

    def test_each_training_has_the_longest_budget_and_the_warm_up_of_its_rung(
        self, packed: TokenizedDataset, tmp_path: Path
    ) -> None:
        truth = MadeUp(rate=0.02, exponent=-0.66)
        tune(truth, packed, tmp_path, batches=False, rungs=1)
        assert {run.scale.budgets_tokens for run in truth.asked} == {(800_000,)}
        assert {run.warmup_steps for run in truth.asked} == {20}
        assert {run.seed for run in truth.asked} == {0, 1}

    def test_a_rung_that_sets_its_own_rate_is_refused(self, packed: TokenizedDataset, tmp_path: Path) -> None:
        ladder = load_ladder("demo")
        own = ladder.scales[0].model_copy(update={"learning_rate": 0.1})
        ladder = ladder.model_copy(update={"scales": (own, *ladder.scales[1:])})
        with pytest.raises(RecipeError, match=r"scale '0.06M' sets its own learning rate or batch"):
            tune(MadeUp(rate=0.02, exponent=0), packed, tmp_path, ladder=ladder)

    def test_a_rung_that_always_diverges_is_named(self, packed: TokenizedDataset, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"0\.06M diverges at every learning rate down to"):
            tune(MadeUp(rate=1e-12, exponent=0), packed, tmp_path)

    def test_a_sweep_in_which_one_rate_holds_goes_lower(self, make_run: Callable[..., Run]) -> None:
        run = make_run(learning_rate=0.08)

        def losses(runs: Sequence[Run]) -> list[Point]:
            truth = {p.learning_rate: p for p in parabola([one.learning_rate for one in runs], best=0.012, seeds=1)}
            return [
                replace(truth[one.learning_rate], seed=one.seed, loss=math.inf)
                if one.learning_rate > 0.021
                else replace(truth[one.learning_rate], seed=one.seed)
                for one in runs
            ]

        valley = sweep(run, losses, seeds=2, rate=0.08, batch=4)
        assert valley.learning_rate == pytest.approx(0.012, rel=0.01)


def test_tuned_is_what_was_swept_or_has_its_rule_unchanged_where_it_was_found(make_run: Callable[..., Run]) -> None:
    by_hand = make_run()  # it sets rate and batch
    by_rule = replace(by_hand, scale=by_hand.scale.model_copy(update={"learning_rate": None, "batch_sequences": None}))
    swept = Tuned(
        ladder="x", rungs=("tiny",), seeds=(0,), mixture="m", evaluation="e", procedure="p", date="2026-01-01"
    )

    def tuned(run: Run, rungs: tuple[str, ...] = ("tiny",), **scale: object) -> bool | None:
        procedure = run.procedure.model_copy(update={"tuned": swept.model_copy(update={"rungs": rungs})})
        return is_tuned(replace(run, procedure=procedure, scale=run.scale.model_copy(update=scale)))

    assert is_tuned(by_hand) is None
    assert tuned(by_hand) is None
    assert tuned(by_rule, batch_sequences=4) is None
    assert tuned(by_rule) is True
    assert tuned(by_rule, rungs=("other",)) is False  # 16,000 parameters: smaller than what mup was found on
    assert is_tuned(by_rule) is False
    assert is_tuned(replace(by_rule, learning_rate_factor=3.0)) is False


def test_the_default_ladder_lies_where_its_rule_was_found(packed: TokenizedDataset) -> None:
    laptop = load_ladder("laptop")
    procedure = Procedure(
        **laptop.procedure.model_dump(),
        tokenizer=packed.tokenizer_fingerprint,
        sequence_length=laptop.sequence_length,
        precision="fp32",
        compile="eager",
    )
    dataset = replace(packed, vocab_size=laptop.vocab_size)
    of_rungs = [Run(dataset, scale, 0, procedure, "e") for scale in laptop.scales]
    assert all(is_tuned(run) for run in of_rungs)
    for change, said in (({"base_learning_rate": 9.0}, None), ({"weight_decay": 0.2, "warmup_fraction": 0.2}, True)):
        changed = Procedure(**procedure.model_dump() | change)
        assert {is_tuned(replace(run, procedure=changed)) for run in of_rungs} == {said}
    swept = Tuned(ladder="x", rungs=("4M",), seeds=(0,), mixture="m", evaluation="e", procedure="p", date="2026-01-01")
    changed = Procedure(**procedure.model_dump() | {"base_learning_rate": 0.03, "tuned": swept})
    assert [is_tuned(replace(run, procedure=changed)) for run in of_rungs] == [False, False, False, True]


class TestNeutralMixture:
    @pytest.fixture
    def other(self, packed: TokenizedDataset, tmp_path_factory: pytest.TempPathFactory) -> TokenizedDataset:
        folder = tmp_path_factory.mktemp("other")
        parts = [write_documents(folder / "more.parquet", sentences(7, 900), prefix="more")]
        return pack_dataset(
            parts, name="more", fingerprint="more-1", tokenizer=packed.tokenizer_path, out=folder / "packed"
        )

    def test_shares_are_equal_and_end_behind_a_document(
        self, packed: TokenizedDataset, other: TokenizedDataset, tmp_path: Path
    ) -> None:
        mixed = neutral_mixture({"a": packed, "b": other}, tokens=4000, out=tmp_path)
        stream = mixed.stream()
        assert 3600 <= mixed.tokens <= 4000
        assert stream[-1] == 0
        halves = [
            int(np.flatnonzero(one.stream()[:2000] == 0)[-1]) + 1
            for one in sorted((packed, other), key=lambda one: one.fingerprint)
        ]
        assert mixed.tokens == sum(halves)
        assert min(halves) >= 1800

    def test_its_bytes_and_documents_are_those_of_its_text(
        self, packed: TokenizedDataset, other: TokenizedDataset, tmp_path: Path
    ) -> None:
        everything = min(packed.tokens, other.tokens)
        mixed = neutral_mixture({"a": packed, "b": other}, tokens=2 * everything, out=tmp_path)
        smaller = packed if packed.tokens == everything else other
        alone = neutral_mixture({"a": smaller}, tokens=everything, out=tmp_path / "alone")
        assert (alone.text_bytes, alone.documents) == (smaller.text_bytes, smaller.documents)
        assert mixed.documents == int((mixed.stream() == 0).sum())

    def test_the_same_mixture_has_the_same_fingerprint_whatever_the_names(
        self, packed: TokenizedDataset, other: TokenizedDataset, tmp_path: Path
    ) -> None:
        one = neutral_mixture({"a": packed, "b": other}, tokens=3000, out=tmp_path / "one")
        two = neutral_mixture({"z": packed, "y": other}, tokens=3000, out=tmp_path / "two")
        assert one.fingerprint == two.fingerprint
        assert (one.stream() == two.stream()).all()
        assert (
            neutral_mixture({"a": packed, "b": other}, tokens=2000, out=tmp_path / "one").fingerprint != one.fingerprint
        )

    def test_two_tokenizers_are_refused(self, packed: TokenizedDataset, tmp_path: Path) -> None:
        with pytest.raises(MismatchError):
            neutral_mixture({"a": packed, "b": replace(packed, tokenizer_fingerprint="x")}, tokens=1000, out=tmp_path)


def test_three_free_rungs_move_the_exponent_and_two_do_not(packed: TokenizedDataset, tmp_path: Path) -> None:
    ladder = demo_by_size()
    rules = ladder.procedure.model_validate(ladder.procedure.model_dump() | {"learning_rate_max": 1.0})
    free = ladder.model_copy(update={"procedure": rules})
    flat = MadeUp(rate=0.01, exponent=-0.3)
    three = tune(flat, packed, tmp_path / "three", ladder=free, rungs=4, batches=False)
    two = tune(flat, packed, tmp_path / "two", ladder=free, rungs=2, batches=False)
    # at a constant batch the default's law falls as N^(-2/3): a third by the law, a third by the carried batch
    assert three.changed["learning_rate_exponent"] == pytest.approx(0.0, abs=0.1)
    assert "learning_rate_exponent" not in two.changed
    assert fit_constants(rules, three.rungs) == three.changed


@pytest.mark.slow
def test_a_small_ladder_is_tuned_from_end_to_end_and_again_without_training(
    packed: TokenizedDataset, world: Path, tmp_path: Path
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small\nvocab_size: 300\nsequence_length: 32\n"
        "evaluation: {bytes_per_set: 4000, bytes_per_document: 400}\n"
        "procedure: {batch_tokens_min: 128, batch_tokens_max: 128, base_learning_rate: 0.0002}\n"
        "scales:\n- {name: a, width: 16, layers: 1, heads: 2, ffn: 32, budgets_tokens: [4096, 16384]}\n"
    )
    training = ready(
        datasets={"grammar": packed},
        heldout={"same": world / "heldout.parquet"},
        ladder=load_ladder(file),
        out=tmp_path / "out",
    )
    first = tune_ready(training, rungs=1, batches=False, workers=1)
    assert first.changed["base_learning_rate"] > 0.0005
    assert first.rungs[0].given_up > 0.01
    assert load_ladder(first.path) == first.ladder
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "tuning" / "runs").glob("*/result.json")}
    assert len(trained) >= 10
    again = tune_ready(training, rungs=1, batches=False, workers=1)
    assert again.changed == first.changed
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
