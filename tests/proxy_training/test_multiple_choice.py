import json
import math
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

from curate.errors import InputError, RecipeError
from curate.proxy_training.evaluate import evaluation_fingerprint, load_tasks
from curate.proxy_training.evaluation.evaluators import MetricRow
from curate.proxy_training.evaluation.likelihood import Continuations, continuations, encode_pairs, likelihoods
from curate.proxy_training.evaluation.multiple_choice import NORMS, MultipleChoice
from curate.proxy_training.evaluation.task_items import FOLDER, known_tasks, load_items, task_spec
from curate.proxy_training.model import Proxy
from curate.proxy_training.tokens.tokenizer import load_tokenizer
from tests.proxy_training.small_models import byte_tokenizer, proxy, uniform

SHIPPED = [name for name, spec in known_tasks().items() if spec.hub is None]
LICENCES = {"Apache-2.0", "MIT", "CC-BY", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"}


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def load(
    path: Path, *, sequence_length: int = 64, tokenizer: Tokenizer | None = None, **spec: object
) -> MultipleChoice:
    asked = {"task": "mine", "file": path, **spec}
    found = load_tasks([asked], tokenizer=tokenizer or byte_tokenizer(), sequence_length=sequence_length)["mine"]
    assert isinstance(found, MultipleChoice)
    return found


def values(evaluator: MultipleChoice, model: Proxy) -> dict[str, MetricRow]:
    return {row.metric.removesuffix(f"/{evaluator.name}"): row for row in evaluator.measure(model)}


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Right answers always stand first, and are longer than the others."""
    rows = [
        {
            "id": f"q{n}",
            "query": f"Question {n}: what barks?",
            "choices": ["a dog of size " + "x" * n, "cat", "Löwe", "owls"],
            "gold": 0,
        }
        for n in range(12)
    ]
    return write(tmp_path / "animals.jsonl", rows)


def test_a_model_without_knowledge_scores_chance_and_eight_bits_wherever_the_answer_stands(animals: Path) -> None:
    found = values(load(animals), uniform())
    assert found["answer_bits_per_byte"].value == pytest.approx(8.0, abs=1e-5)
    for norm in ("per_byte", "per_token"):
        assert found[f"correct_prob_{norm}"].value == pytest.approx(0.25, abs=1e-5)
        assert found[f"acc_{norm}"].value == pytest.approx(0.25)
        assert found[f"acc_centred_{norm}"].value == pytest.approx(0.0, abs=1e-12)
    assert all(found[f"acc_{norm}"].chance == found[f"correct_prob_{norm}"].chance == 0.25 for norm in NORMS)
    assert found["acc_raw"].value == 0.0  # without normalisation the shortest answer is the likeliest

    lettered = values(load(animals, format="letters", sequence_length=128), uniform(sequence_length=128))
    assert [lettered[f"acc_{norm}"].value for norm in NORMS] == pytest.approx([0.25] * 4)


def reference(model: Proxy, tokenizer: Tokenizer, context: str, answer: str) -> float:
    """Nats of the answer: the whole text in one sequence, one at a time."""
    tokens = [0, *tokenizer.encode(context + answer, add_special_tokens=False).ids]
    count = len(tokens) - 1 - len(tokenizer.encode(context, add_special_tokens=False).ids)
    return float(model.token_nats(torch.tensor([tokens]))[0, -count:].double().sum())


def test_scores_are_those_of_one_choice_at_a_time(animals: Path) -> None:
    tokenizer, model = byte_tokenizer(), proxy(seed=1)
    found = values(load(animals), model)
    nats, lengths = [], {norm: [] for norm in NORMS}
    for line in animals.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        answers = [" " + choice for choice in item["choices"]]
        nats.append([reference(model, tokenizer, item["query"], answer) for answer in answers])
        lengths["raw"].append([1] * 4)
        lengths["per_char"].append([len(answer) for answer in answers])
        lengths["per_byte"].append([len(answer.encode()) for answer in answers])
        lengths["per_token"].append([len(tokenizer.encode(answer).ids) for answer in answers])
    bits = np.array(nats)[:, 0].sum() / math.log(2) / np.array(lengths["per_byte"])[:, 0].sum()
    assert found["answer_bits_per_byte"].value == pytest.approx(bits, rel=1e-5)
    for norm in NORMS:
        scores = -np.array(nats) / np.array(lengths[norm])
        shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        right = scores.argmax(1) == 0
        row = found[f"correct_prob_{norm}"]
        assert row.value == pytest.approx(shares[:, 0].mean(), rel=1e-4)
        assert row.error == pytest.approx(shares[:, 0].std(ddof=1) / math.sqrt(12), rel=1e-3)
        assert sorted(row.item_values) == pytest.approx(sorted(shares[:, 0]), rel=1e-4)
        assert found[f"acc_{norm}"].value == pytest.approx(right.mean())
        assert found[f"acc_centred_{norm}"].value == pytest.approx((right.mean() - 0.25) / 0.75)


def scored(pairs: list[tuple[str, str]], *, sequence_length: int = 64) -> Continuations:
    return continuations(encode_pairs(byte_tokenizer(), pairs, first=0), sequence_length=sequence_length)


def test_the_batch_does_not_change_a_score() -> None:
    some = scored([("x" * n, "yz" * (1 + n % 5)) for n in range(40)])
    model = proxy(seed=2)
    nats = [likelihoods(model, some, batch_tokens=size).nats for size in (1, 70, 1000, 100_000)]
    assert np.ptp(nats, axis=0).max() < 1e-4 * nats[0].min()
    assert max(np.abs(one / nats[0] - 1).max() for one in nats) < 1e-6


def test_a_long_context_loses_its_left_and_is_counted(tmp_path: Path) -> None:
    model = proxy(seed=3)
    long, cut = scored([("ab" * 100, "cd")]), scored([("ab" * 31, "cd")])
    assert long.cut.tolist() == [201 - 63]
    assert [len(window) for window in long.windows] == [64]
    end_of_long = continuations([([*long.windows[0][:63]], [*long.targets[0]])], sequence_length=64)
    assert likelihoods(model, long).nats == pytest.approx(likelihoods(model, end_of_long).nats)
    assert cut.cut.tolist() == [0]
    rows = [{"query": "q" * size, "choices": ["a", "b"], "gold": 1} for size in (10, 80, 90)]
    found = load(write(tmp_path / "long.jsonl", rows))
    assert found.notes == (
        "mine: 2 of 3 items are longer than the window of 64 tokens; their contexts were cut from the left.",
    )


def test_a_long_answer_is_scored_in_windows_as_held_out_text() -> None:
    model, text = proxy(seed=4), "the river reads the law. " * 8
    tokens = [0, *byte_tokenizer().encode(text).ids]
    expected = sum(
        float(model.token_nats(torch.tensor([tokens[start : start + 65]])).sum()) for start in range(0, len(text), 64)
    )
    assert likelihoods(model, scored([("", text)])).nats == pytest.approx([expected], rel=1e-6)


def test_answers_of_one_token_share_a_window_and_the_greedy_one_is_known() -> None:
    some, model = scored([("which", letter) for letter in "abcdefgh"]), proxy(seed=5)
    assert len(some.windows) == 1
    nats = model.token_nats(torch.tensor([[*some.windows[0], int(target[0])] for target in some.targets]))[:, -1]
    assert likelihoods(model, some).nats == pytest.approx(nats.double().numpy(), rel=1e-6)
    likeliest = int(model.logits(torch.from_numpy(some.windows[0][None]))[0, -1].argmax())
    context = [*some.windows[0]]
    pair = continuations([(context, [likeliest]), (context, [(likeliest + 1) % 256])], sequence_length=64)
    assert likelihoods(model, pair).greedy.tolist() == [True, False]


def test_tokens_that_span_the_border_are_not_used(world: Path) -> None:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    context, answer = "the riv", "er finds"
    ((before, after),) = encode_pairs(tokenizer, [(context, answer)], first=None)
    assert tokenizer.decode(before) == context
    assert tokenizer.decode(after) == answer


def test_lettered_answers_stand_in_a_place_drawn_by_the_seed_whatever_the_order_of_the_file(
    animals: Path, tmp_path: Path
) -> None:
    turned = animals.read_text(encoding="utf-8").splitlines()[::-1]
    (tmp_path / "turned.jsonl").write_text("\n".join(turned), encoding="utf-8")
    one, same = (load(path, format="letters", sequence_length=128) for path in (animals, tmp_path / "turned.jsonl"))
    assert one.fingerprint() == same.fingerprint()
    places = one.gold - np.arange(12) * 4
    assert len(set(places.tolist())) >= 3
    other = load(animals, format="letters", seed=1, sequence_length=128)
    assert other.fingerprint() != one.fingerprint()
    prompt = byte_tokenizer().decode(one.scored.windows[0].tolist())
    assert [line[:3] for line in prompt.splitlines()[1:]] == ["A. ", "B. ", "C. ", "D. ", "Ans"]


def test_examples_are_not_scored_and_stand_before_each_question(animals: Path) -> None:
    plain, shown = load(animals, items=4), load(animals, shots=2, items=4, sequence_length=256)
    order = [item.id for item in load_items(task_spec({"task": "mine", "file": animals}))]
    assert plain.ids == tuple(order[:4])
    assert shown.ids == tuple(order[2:6])
    prompt = byte_tokenizer().decode(shown.scored.windows[0].tolist())
    answered = [line.partition("? ")[2].rstrip("x") for line in prompt.split("\n\n")]
    assert answered[:2] == ["a dog of size ", "a dog of size "]
    assert len(answered) == 3


def test_contexts_are_chosen_by_the_end_that_they_share(tmp_path: Path) -> None:
    rows = [{"query": "was late.", "choices": ["Ann saw Bo because Ann", "Ann saw Bo because Bo"], "gold": 1}]
    found, model = load(write(tmp_path / "w.jsonl", rows), kind="contexts"), proxy(seed=6)
    nats = [reference(model, byte_tokenizer(), context, " was late.") for context in rows[0]["choices"]]
    row = values(found, model)["correct_prob_raw"]
    assert row.value == pytest.approx(math.exp(-nats[1]) / sum(math.exp(-one) for one in nats), rel=1e-4)
    assert row.error is None  # of a single item


def test_a_completion_has_bits_and_an_exact_match(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", [{"query": f"{n} =", "gold": "7"} for n in range(3)])
    found = values(load(path, kind="completion"), uniform())
    assert list(found) == ["answer_bits_per_byte", "exact_greedy"]
    assert found["answer_bits_per_byte"].value == pytest.approx(8.0, abs=1e-5)
    assert (found["exact_greedy"].value, found["exact_greedy"].chance) == (0.0, 0.0)


def test_a_model_comes_back_as_it_was_and_an_evaluator_can_be_sent(animals: Path) -> None:
    model = proxy(seed=7).train()
    model.bf16 = True
    sent = pickle.loads(pickle.dumps(load(animals)))
    in_bf16 = values(sent, model)
    assert model.training
    assert model.bf16
    model.bf16 = False
    assert in_bf16 == values(load(animals), model)


def test_a_model_with_a_shorter_window_is_refused(animals: Path) -> None:
    with pytest.raises(InputError, match=r"A window holds \d+ tokens, the model takes 32"):
        load(animals).measure(proxy(sequence_length=32))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_items_can_be_scored_and_passed_on(name: str) -> None:
    spec = known_tasks()[name]
    items = load_items(spec)
    assert spec.license in LICENCES
    assert f"{name}: {len(items)} items." in (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert all((len(item.choices) == 1) == (spec.kind == "completion") for item in items)
    assert all(len(set(item.choices)) > 1 for item in items if spec.kind != "completion")


def test_the_shipped_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6
    assert pq.read_metadata(FOLDER / "items.parquet").num_rows > 4000


def test_the_fingerprint_of_an_evaluation_covers_its_tasks(animals: Path) -> None:
    one, other = load(animals), load(animals, delimiter="\n")
    assert evaluation_fingerprint({"mine": one}) == evaluation_fingerprint({"mine": load(animals)})
    assert evaluation_fingerprint({"mine": one}) != evaluation_fingerprint({"mine": other})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"query": "a", "choices": ["b", "c"], "gold": 2}',
            r"row 0: `gold` is 2, but the choices are numbered 0 to 1",
        ),
        ('{"query": "a", "choices": ["b", "c"], "gold": "b"}', r"row 0: `gold` is 'b'; it is the place"),
        ('{"query": "a", "choices": ["b", ""], "gold": 0}', r"row 0: an empty text cannot be scored"),
        ('{"query": "a", "choices": ["b"], "gold": 0}', r"row 0: 1 choice\(s\); a choice needs two"),
        ('{"choices": ["b", "c"], "gold": 0}', r"row 0: an item has a text `query`"),
        ("{", r"line 1: not JSON"),
        ("[]", r"line 1: not a JSON object"),
        ("", r"no items; the task 'mine' needs some"),
    ],
)
def test_items_that_cannot_be_used_are_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(row)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "bad.jsonl")


def test_tasks_that_cannot_be_meant_are_named(animals: Path) -> None:
    def asked(*tasks: object) -> None:
        load_tasks(tasks, tokenizer=byte_tokenizer(), sequence_length=64)  # type: ignore[arg-type]

    with pytest.raises(RecipeError, match=r"no task 'arc'; give its items .* or choose of arc_easy, boolq"):
        asked("arc")
    with pytest.raises(RecipeError, match="Task 'boolq': shots: must be 0 or more"):
        asked({"task": "boolq", "shots": -1})
    with pytest.raises(RecipeError, match="'mine' stands twice"):
        asked({"task": "mine", "file": animals}, {"task": "mine", "file": animals})
    with pytest.raises(RecipeError, match="lettered answers need `kind: choices`"):
        asked({"task": "winogrande", "format": "letters"})
    with pytest.raises(InputError, match="12 items, too few for 12 examples"):
        asked({"task": "mine", "file": animals, "shots": 12})
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read as JSONL or Parquet"):
        asked({"task": "mine", "file": animals.parent / "none.jsonl"})
