import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.errors import InputError, RecipeError
from curate.proxy_training.evaluate import load_tasks
from curate.proxy_training.evaluation import alice
from curate.proxy_training.evaluation.alice import AliceSpec, Problem, VariationSpread, wilson
from curate.proxy_training.evaluation.generation import generate
from curate.proxy_training.evaluation.likelihood import Likelihoods
from tests.proxy_training.small_models import byte_tokenizer, proxy, uniform


def load(**asked: object) -> VariationSpread:
    found = load_tasks([{"task": "aiw", **asked}], tokenizer=byte_tokenizer(), sequence_length=256)["aiw"]
    assert isinstance(found, VariationSpread)
    return found


def answering(monkeypatch: pytest.MonkeyPatch, some: VariationSpread, rule: Callable[[Problem], int]) -> dict:
    """Rows of a model whose likeliest answer is `rule`'s."""
    nats = [0.0 if number == rule(one) else 1.0 for one in some.problems for number in some.candidates]
    monkeypatch.setattr(alice, "likelihoods", lambda *_: Likelihoods(np.array(nats), np.zeros(len(nats), dtype=bool)))
    return {row.metric: row for row in some.measure(None)}  # type: ignore[arg-type]


def test_the_right_answers_are_those_of_the_paper() -> None:
    """Alice's brother has one sister more than Alice."""
    answers = {(one.template, one.variation): one.answer for one in load(trials=2).problems}
    assert [answers["siblings", numbers] for numbers in ("3-6", "4-2", "1-4", "4-1")] == [7, 3, 5, 2]
    assert [answers["control_own_sisters", numbers] for numbers in ("3-6", "4-2")] == [6, 2]
    assert [answers["control_sum", numbers] for numbers in ("3-6", "4-2", "1-4", "4-1")] == [9, 6, 5, 5]
    prompts = [one.prompt for one in load(trials=2).problems]
    assert any("her 1 brother and her 4 sisters" in prompt for prompt in prompts)
    assert not any("1 brothers" in prompt or "{" in prompt for prompt in prompts)


def test_every_variation_has_its_trials_in_different_words() -> None:
    prompts: dict[tuple[str, str], list[str]] = {}
    for one in alice._own(AliceSpec()):
        prompts.setdefault((one.template, one.variation), []).append(one.prompt)
    assert len(prompts) == 16
    assert {len(some) for some in prompts.values()} == {30}
    assert {len(set(some)) for some in prompts.values()} == {30}


def test_a_model_that_knows_has_no_spread_and_one_that_always_says_seven_has_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = load(trials=4)
    knowing = answering(monkeypatch, some, lambda one: one.answer)
    assert knowing["aiw_rate/siblings"].value == 1.0
    assert knowing["aiw_spread/siblings"].value == 0.0
    stubborn = answering(monkeypatch, some, lambda _: 7)
    assert stubborn["aiw_rate/siblings"].value == 0.25
    assert stubborn["aiw_spread/siblings"].value == pytest.approx(np.std([1, 0, 0, 0], ddof=1))
    assert stubborn["aiw_rate_by_variation/siblings/3-6"].value == 1.0
    assert stubborn["aiw_rate_by_variation/siblings/3-6"].interval == pytest.approx(wilson(4, 4))
    assert stubborn["aiw_rate/siblings"].items == 16


def test_a_model_without_knowledge_scores_chance_without_spread() -> None:
    rows = {row.metric: row for row in load(trials=4).measure(uniform(sequence_length=256))}
    assert rows["aiw_rate/siblings"].value == pytest.approx(1 / 9)
    assert rows["aiw_rate/siblings"].chance == pytest.approx(1 / 9)
    assert rows["aiw_spread/siblings"].value == 0.0


def test_trials_alone_make_no_spread_and_the_error_is_that_of_repeated_measurements() -> None:
    chance = np.random.default_rng(0)

    def drawn(*rates: float) -> list[np.ndarray]:
        return [(chance.random(30) < rate).astype(float) for rate in rates]

    alike = [alice._spread("x", drawn(0.5, 0.5, 0.5, 0.5), seed=0).value for _ in range(100)]
    assert np.mean(np.square(alike)) < 0.004  # .0083 is what 30 trials bring by themselves
    apart = [alice._spread("x", drawn(0.9, 0.2, 0.5, 0.1), seed=0) for _ in range(80)]
    assert np.mean([row.value for row in apart]) == pytest.approx(np.std([0.9, 0.2, 0.5, 0.1], ddof=1), rel=0.05)
    assert np.mean([row.error for row in apart]) == pytest.approx(np.std([row.value for row in apart]), rel=0.25)


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"), [(0, 10, 0.0, 0.2775), (15, 30, 0.3315, 0.6685), (30, 30, 0.8865, 1.0)]
)
def test_wilsons_interval(right: int, trials: int, low: float, high: float) -> None:
    assert wilson(right, trials) == pytest.approx((low, high), abs=1e-4)


def test_samples_depend_on_their_seed_not_on_what_runs_beside_them() -> None:
    model = proxy(sequence_length=32)
    prompts = [[0, *range(1, 2 + n)] for n in range(6)]

    def made(some: list[list[int]], seeds: list[int], batch_tokens: int) -> list[list[int]]:
        return generate(model, some, max_tokens=40, end=0, temperature=1.0, seeds=seeds, batch_tokens=batch_tokens)

    whole = made(prompts, [*range(6)], 10_000)
    assert whole == made(prompts, [*range(6)], 1)
    assert whole[3] == made([prompts[3]], [3], 100)[0]
    assert whole[3] != made([prompts[3]], [4], 100)[0]
    assert max(map(len, whole)) == 40  # past the window of 32


def test_sampling_draws_from_the_softmax_and_greedy_takes_the_largest() -> None:
    model = proxy(sequence_length=8, seed=1)
    for weight in model.parameters():
        weight.data *= 2
    logits = model.logits(torch.tensor([[0, 5]]))[0, -1].double().detach().numpy()
    expected = np.exp(logits / 2 - (logits / 2).max())
    expected /= expected.sum()
    made = generate(model, [[0, 5]] * 4000, max_tokens=1, end=-1, temperature=2.0, seeds=[*range(4000)])
    counts = np.bincount([one[0] for one in made], minlength=256) / 4000
    top = int(expected.argmax())
    assert counts[top] == pytest.approx(expected[top], abs=4 * math.sqrt(expected[top] / 4000))
    assert np.abs(counts - expected).sum() < 0.25
    assert generate(model, [[0, 5]], max_tokens=1, end=-1) == [[int(logits.argmax())]]


def test_a_sampled_answer_is_its_first_number(monkeypatch: pytest.MonkeyPatch) -> None:
    some = load(method="sampling", trials=2)
    texts = {2: " 2", 3: " they have 3 sisters", 5: "five", 7: " 17", 6: "-6", 9: " 9 or 8"}
    tokens = [byte_tokenizer().encode(texts.get(one.answer, "")).ids for one in some.problems]
    monkeypatch.setattr(alice, "generate", lambda *_, **__: tokens)
    rows = {row.metric: row.value for row in some.measure(None)}  # type: ignore[arg-type]
    by_variation = [rows[f"aiw_rate_by_variation/siblings/{numbers}"] for numbers in ("3-6", "4-2", "1-4", "4-1")]
    assert by_variation == [0.0, 1.0, 0.0, 1.0]
    assert rows["aiw_rate_by_variation/control_sum/3-6"] == 1.0


def test_sampling_runs_on_a_model_and_says_the_same_twice() -> None:
    some = load(method="sampling", trials=2, max_tokens=3)
    model = proxy(sequence_length=256)
    assert some.measure(model) == some.measure(model)


def test_published_prompts_ship_and_a_file_can_replace_them(tmp_path: Path) -> None:
    published = list(alice._published(AliceSpec(prompts="published")))
    assert len(published) > 300
    assert len({one.template for one in published}) > 50
    assert {one.answer for one in published} <= {*alice.SINGLE_DIGITS}
    path = tmp_path / "mine.jsonl"
    rows = [{"template": "t", "variation": str(n), "prompt": f"{n} + 1?", "answer": n + 1} for n in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    asked = {"task": "mine", "prompts": path}
    found = load_tasks([asked], tokenizer=byte_tokenizer(), sequence_length=64)["mine"]
    metrics = [row.metric for row in found.measure(uniform())]
    assert metrics[:2] == ["mine_rate/t", "mine_spread/t"]
    path.write_text(json.dumps(rows[0] | {"answer": "four"}))
    with pytest.raises(InputError, match='row 0: the answer "four" is no whole number'):
        load(prompts=path)
    path.write_text('{"template": "t", "variation": "1", "answer": 3}')
    with pytest.raises(InputError, match="row 0: no prompt; a prompt needs them"):
        load(prompts=path)
    with pytest.raises(RecipeError, match="Task 'aiw': trials: must be above 1"):
        load(trials=1)


def test_another_method_or_seed_is_another_evaluation() -> None:
    changes: list[dict] = [{}, {"method": "sampling"}, {"seed": 1}, {"trials": 3}]
    assert len({load(**{"trials": 2, **change}).fingerprint() for change in changes}) == 4
