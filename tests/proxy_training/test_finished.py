"""A finished run as a model, in Python and from the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.cli import main
from curate.errors import CurateError, InputError, MismatchError
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.evaluation.finished import find_run, load_run
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.tokenizer import train_tokenizer
from curate.proxy_training.train import train_run
from curate.proxy_training.training.options import TrainingOptions

from .conftest import sentences

MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def work(
    make_run: MakeRun, heldout: dict[str, HeldOutSet], world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work folder with one finished run whose weights are kept for every budget, and one that was begun."""
    folder, run = tmp_path_factory.mktemp("work"), make_run()
    options = TrainingOptions(keep="all")
    train_run(run, heldout, folder=folder / "ladder" / "runs" / run.fingerprint, options=options)
    begun = folder / "ladder" / "runs" / "begun"
    begun.mkdir()
    (begun / "run.json").write_text(json.dumps(make_run(seed=1).facts()))
    (folder / "tokens" / "grammar").mkdir(parents=True)
    shutil.copyfile(world / "tokenizer.json", folder / "tokens" / "grammar" / "tokenizer.json")
    return folder


def test_a_run_comes_back_as_the_model_that_was_measured(work: Path, heldout: dict[str, HeldOutSet]) -> None:
    run = find_run(work)
    for budget, named in ((8192, None), (2048, 2048), (2048, "2k"), (8192, "8,192")):
        model, tokenizer = load_run(run, budget_tokens=named)
        (point,) = map(json.loads, (path.read_text() for path in run.glob(f"points/{budget}/*.json")))
        assert heldout["same"].measure(model)[0].value == point["bits_per_byte"]["same"]
        assert model.shape.vocab_size == tokenizer.get_vocab_size()


def test_the_command_exports_what_transformers_generates_with(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    assert main(["train", "export", str(work), str(out), "--run", "tiny of grammar, seed 0"]) == 0
    assert f"{out}: tiny of grammar, seed 0 as a Qwen3ForCausalLM" in capsys.readouterr().out
    theirs = AutoTokenizer.from_pretrained(out, local_files_only=True)
    prompt = theirs("the river finds", return_tensors="pt")["input_ids"]
    exported = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    written = exported.generate(prompt, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(prompt))
    model, tokenizer = load_run(find_run(work))
    with torch.no_grad():
        torch.testing.assert_close(exported(written).logits, model.logits(written), rtol=0, atol=1e-5)
    assert tokenizer.decode(written[0].tolist()) == theirs.decode(written[0])
    assert main(["train", "export", str(work), str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_is_not_there_is_a_sentence(work: Path, tmp_path: Path) -> None:
    run = find_run(work)
    with pytest.raises(InputError, match=r"no finished runs called 'other'.* \(tiny of grammar, seed 0\)"):
        find_run(work, "other")
    with pytest.raises(InputError, match=r"no run\.json and no finished run"):
        find_run(tmp_path)
    with pytest.raises(InputError, match="not finished"):
        load_run(work / "ladder" / "runs" / "begun")
    with pytest.raises(InputError, match="it has 2,048, 4,096, 8,192"):
        load_run(run, budget_tokens=3000)
    train_tokenizer(sentences(5, 100), vocab_size=280, path=tmp_path / "other.json")
    with pytest.raises(MismatchError, match="another tokenizer"):
        load_run(run, tokenizer=tmp_path / "other.json")


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("model.safetensors", lambda whole: whole[:-100], "cannot be read"),
        ("model.safetensors", lambda whole: whole.replace(b"final_norm", b"other_norm"), "not those of the model"),
        ("run.json", lambda whole: whole[:50], "not the record of a run"),
        ("run.json", lambda whole: whole.replace(b'"wsd"', b'"nope"'), "how the run was trained"),
        ("run.json", lambda whole: whole.replace(b'"width": 16', b'"width": 32'), "not those of the model"),
        ("result.json", lambda whole: b"[]", "damaged"),
        ("points/2048.safetensors", None, r"training: {keep: all}.* train it again"),
    ],
)
def test_damage_is_a_sentence(
    name: str, change: Callable[[bytes], bytes] | None, word: str, work: Path, world: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(find_run(work), run)
    if change is None:
        (run / name).unlink()
    else:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(change(whole))
        assert (run / name).read_bytes() != whole
    with pytest.raises(CurateError, match=word):
        load_run(run, budget_tokens=None if change else 2048, tokenizer=world / "tokenizer.json")
