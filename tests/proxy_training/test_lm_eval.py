"""lm-evaluation-harness on a proxy, and data sets of the hub: both need the `eval` extra."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.proxy_training.evaluate import load_tasks
from curate.proxy_training.evaluation.multiple_choice import MultipleChoice
from curate.proxy_training.model import Proxy
from curate.proxy_training.tokens.tokenizer import load_tokenizer
from tests.proxy_training.conftest import sentences
from tests.proxy_training.small_models import proxy

if TYPE_CHECKING:
    from curate.proxy_training.evaluation.lm_eval_model import ProxyLM

lm_eval = pytest.importorskip("lm_eval", reason="needs the `eval` extra: pip install 'curate[eval]'")
datasets = pytest.importorskip("datasets", reason="needs the `eval` extra: pip install 'curate[eval]'")


def proxy_lm(*given: Any, **settings: Any) -> "ProxyLM":
    from curate.proxy_training.evaluation.lm_eval_model import ProxyLM

    return ProxyLM(*given, **settings)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    return load_tokenizer(world / "tokenizer.json")


@pytest.fixture(scope="module")
def model() -> Proxy:
    return proxy(300, sequence_length=48, seed=1)


def write_task(folder: Path, name: str, rows: list[dict], **fields: Any) -> None:
    """A task of lm_eval on local data."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "metadata": {"version": 1},
        **fields,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML


def evaluate(some: "ProxyLM | str", folder: Path, tasks: list[str], **settings: Any) -> dict[str, dict]:
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=some,
        tasks=tasks,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
        **settings,
    )


def test_two_tasks_give_our_own_scores_offline(model: Proxy, tokenizer: Tokenizer, tmp_path: Path) -> None:
    nouns = ["river", "crawler", "law", "page", "seed"]
    rows = [
        {"query": text, "choices": [f" the {noun}", f" a {noun} of the {noun}", " drops."], "gold": n % 3}
        for n, (text, noun) in enumerate(zip(sentences(3, 20, words=30), nouns * 4, strict=True))
    ]
    choices = {"output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_choice": "choices",
               "doc_to_target": "gold", "target_delimiter": ""}  # fmt: skip
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
    write_task(tmp_path, "chosen", rows, metric_list=metrics, **choices)
    answers = [{"query": row["query"], "gold": row["choices"][row["gold"]]} for row in rows]
    write_task(
        tmp_path,
        "completed",
        answers,
        output_type="loglikelihood",
        doc_to_text="{{query}}",
        doc_to_target="{{gold}}",
        target_delimiter="",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    found = evaluate(proxy_lm(model, tokenizer), tmp_path, ["chosen", "completed"])

    asked = [
        {"task": "chosen", "file": tmp_path / "chosen.jsonl", "delimiter": ""},
        {"task": "completed", "file": tmp_path / "completed.jsonl", "delimiter": "", "kind": "completion"},
    ]
    ours = load_tasks(asked, tokenizer=tokenizer, sequence_length=48)
    values = {row.metric: row.value for some in ours.values() for row in some.measure(model)}
    assert found["results"]["chosen"]["acc,none"] == pytest.approx(values["acc_raw/chosen"])
    assert found["results"]["chosen"]["acc_norm,none"] == pytest.approx(values["acc_per_char/chosen"])
    assert found["results"]["completed"]["acc,none"] == pytest.approx(values["exact_greedy/completed"])
    nats = [-sample["resps"][0][0][0] for sample in found["samples"]["completed"]]
    size = sum(len(row["gold"].encode()) for row in answers)
    assert sum(nats) / np.log(2) / size == pytest.approx(values["answer_bits_per_byte/completed"], rel=1e-6)


def requests(*args: tuple) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=one) for one in args]


def test_answers_do_not_depend_on_the_batch(model: Proxy, tokenizer: Tokenizer) -> None:
    pairs = requests(*[(text[:30], text[30:60] or ".") for text in sentences(5, 10)])
    settings = {"until": ["the"], "max_gen_toks": 6, "do_sample": True, "temperature": 0.7}
    texts = requests(*[(text[:10], settings) for text in sentences(6, 5)] * 2)
    found = []
    for size in (1, 100, 10_000):
        some = proxy_lm(model, tokenizer, batch_tokens=size)
        found.append(([value for value, _ in some.loglikelihood(pairs)], some.generate_until(texts)))  # type: ignore[arg-type]
    assert found[0][0] == pytest.approx(found[2][0], rel=1e-6)
    assert found[1][0] == pytest.approx(found[2][0], rel=1e-6)
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[0][1][:5] != found[0][1][5:]  # asked again, sampled anew
    assert not any("the" in text for text in found[0][1])


def test_a_text_has_its_bits_per_byte_in_disjoint_windows(model: Proxy, tokenizer: Tokenizer) -> None:
    text = sentences(7, 1, words=400)[0] * 3
    assert len(tokenizer.encode(text).ids) > 2 * 48
    (whole,) = proxy_lm(model, tokenizer).loglikelihood_rolling(requests((text,)))  # type: ignore[arg-type]
    (start,) = proxy_lm(model, tokenizer).loglikelihood_rolling(requests(("",)))  # type: ignore[arg-type]
    tokens = [0, *tokenizer.encode(text).ids]
    end = len(tokens) - 1
    starts = [*range(0, end, 48)]
    nats = 0.0
    for first in starts:
        last = min(first + 48, end)
        window = tokens[max(0, last - 48) : last + 1]  # the last one is filled up with context
        nats += float(model.token_nats(torch.tensor([window]))[0, -(last - first) :].sum())
    assert whole == pytest.approx(-nats, rel=1e-6)
    assert start == 0.0


def test_a_model_is_found_by_its_name(model: Proxy, tokenizer: Tokenizer) -> None:
    from lm_eval.api.registry import get_model

    assert isinstance(proxy_lm(model, tokenizer), get_model("curate-proxy"))


def test_what_would_be_ignored_is_refused(model: Proxy, tokenizer: Tokenizer) -> None:
    asked = requests(("a", {"until": ["."], "do_sample": True, "top_p": 0.9}))
    with pytest.raises(InputError, match=r"does not know top_p=0\.9"):
        proxy_lm(model, tokenizer).generate_until(asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a model and its tokenizer"):
        proxy_lm(model)
    with pytest.raises(InputError, match="not a stack of 2"):
        proxy_lm(Proxy(model.shape, members=2), tokenizer)


def test_a_data_set_of_the_hub_is_mapped_by_its_columns(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A folder in the layout of ARC stands for the hub: `datasets` reads both alike."""
    rows = [
        {"question": f"Which is {n}?", "choices": {"text": ["one", "two", "three"], "label": list("ABC")},
         "answerKey": "ABC"[n % 3]} for n in range(6)
    ]  # fmt: skip
    folder = tmp_path / "arc"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hub = {"path": str(folder), "split": "test", "query": "Question: {question}\nAnswer:", "choices": "choices.text",
           "gold": "answerKey", "labels": "choices.label"}  # fmt: skip
    (found,) = load_tasks([{"task": "arc", "hub": hub}], tokenizer=tokenizer, sequence_length=48).values()
    mine = tmp_path / "mine.jsonl"
    ours = [{"query": f"Question: Which is {n}?\nAnswer:", "choices": ["one", "two", "three"], "gold": n % 3}
            for n in range(6)]  # fmt: skip
    mine.write_text("".join(json.dumps(row) + "\n" for row in ours))
    (same,) = load_tasks([{"task": "mine", "file": mine}], tokenizer=tokenizer, sequence_length=48).values()
    assert isinstance(found, MultipleChoice)
    assert found.fingerprint() == same.fingerprint()

    def refused(message: str, **changed: Any) -> None:
        with pytest.raises(InputError, match=message):
            load_tasks([{"task": "arc", "hub": hub | changed}], tokenizer=tokenizer, sequence_length=48)

    refused(r"row 0: no column 'label'; it has question, choices, answerKey", gold="label")
    refused(r"row 0: answerKey is 'A', none of the labels \['1', '2'\]", labels=["1", "2"])
    refused("cannot be loaded from the hub", path=str(tmp_path / "absent"))
    refused("cannot be loaded from the hub", split="validation")


@pytest.mark.slow  # transformers, accelerate and lm_eval's models take 10 s to import
def test_likelihoods_and_texts_are_those_of_the_exported_model(
    model: Proxy, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate", reason="lm_eval's class for Hugging Face models needs it")
    from lm_eval.models.huggingface import HFLM

    from curate.proxy_training.network.huggingface import export_to_hugging_face

    export_to_hugging_face(model, tmp_path / "exported", tokenizer)
    theirs = HFLM(str(tmp_path / "exported"), device="cpu", batch_size=3, dtype="float32", max_length=48)
    ours = proxy_lm(folder=tmp_path / "exported", document_start=False)
    texts = [one * 3 for one in sentences(4, 40, words=200)]
    words = [text.split(" ") for text in texts]  # at a border of words: inside one, lm_eval's split drops tokens
    pairs = [(" ".join(some[:n]), " " + " ".join(some[n : n + 9])) for n, some in enumerate(words) if some[n:]]
    assert any(len(tokenizer.encode(context + end).ids) > 49 for context, end in pairs)
    assert pairs[0][0] == ""
    mine, others = (some.loglikelihood(requests(*pairs)) for some in (ours, theirs))  # type: ignore[arg-type]
    assert [one[0] for one in mine] == pytest.approx([one[0] for one in others], rel=1e-5)
    assert [one[1] for one in mine] == [one[1] for one in others]
    whole = requests(*[(text,) for text in texts])
    assert ours.loglikelihood_rolling(whole) == pytest.approx(theirs.loglikelihood_rolling(whole), rel=1e-5)  # type: ignore[arg-type]
    settings = {"until": ["."], "max_gen_toks": 12, "do_sample": False}
    asked = requests(*[(text[:20], dict(settings)) for text in texts[:3]])
    assert ours.generate_until(asked) == theirs.generate_until(asked)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_exported_model_is_evaluated_by_name(model: Proxy, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from curate.proxy_training.network.huggingface import export_to_hugging_face

    export_to_hugging_face(model, tmp_path / "exported", tokenizer)
    rows = [{"query": "the river finds the", "gold": " law."}]
    write_task(
        tmp_path,
        "bits",
        rows,
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{query}}{{gold}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )
    arguments = f"folder={tmp_path / 'exported'}"
    found = evaluate("curate-proxy", tmp_path, ["bits"], model_args=arguments, batch_size=4)
    (total,) = proxy_lm(model, tokenizer).loglikelihood_rolling(requests(("the river finds the law.",)))  # type: ignore[arg-type]
    assert found["results"]["bits"]["bits_per_byte,none"] == pytest.approx(-total / np.log(2) / 24, rel=1e-5)
