"""What a study may say of its data: tokenizer, tokens of other tools, simulated epochs."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.engine.executors import executor_for
from curate.errors import CurateError, InputError, MismatchError, RecipeError
from curate.preparation import Prepared, prepare_study
from curate.progress import Progress
from curate.proxy_training.ladder import train_ladder
from curate.proxy_training.packing import pack_dataset
from curate.proxy_training.planning.simulated_epochs import SimulatedEpochs
from curate.proxy_training.tokens.tokenizer import encode_documents, load_tokenizer, train_tokenizer
from curate.study_file import load_study
from tests.proxy_training.test_token_imports import write_megatron, write_shard

LADDER = """\
name: tiny
vocab_size: 300
sequence_length: 32
evaluation: {bytes_per_set: 1000, bytes_per_document: 200}
scales:
  - {name: a, width: 16, layers: 1, heads: 2, ffn: 32, budgets_tokens: [2048, 4096]}
"""
STUDY = """\
name: tiny
datasets: {one: {parquet: one.parquet, full_tokens: 4e12}, two: {megatron: "two/*.bin", full_tokens: 10e12}}
ladder: tiny.yaml
tokenizer: t.json.gz
heldout: {h: heldout.parquet}
"""


class Notes(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    texts = [f"the river keeps page {number}. a law reads every seed {number % 7}. " * 6 for number in range(60)]
    for name, some in (("one", texts), ("heldout", [f"a page of law {number}" for number in range(20)])):
        ids = [f"{name}-{number}" for number in range(len(some))]
        pq.write_table(pa.table({"id": ids, "text": some}), folder / f"{name}.parquet")
    train_tokenizer(texts, vocab_size=300, path=folder / "t.json")
    (folder / "t.json.gz").write_bytes(gzip.compress((folder / "t.json").read_bytes()))
    tokens = encode_documents(load_tokenizer(folder / "t.json"), texts)
    (folder / "two").mkdir()
    write_megatron(folder / "two" / "text_document", tokens, borders=[*range(len(tokens) + 1)])
    write_shard(folder / "00000000.tar", tokens)
    (folder / "tiny.yaml").write_text(LADDER)
    return folder


def prepared(folder: Path, text: str, progress: Progress) -> Prepared:
    (folder / "study.yaml").write_text(text)
    study = load_study(folder / "study.yaml")
    return prepare_study(study, work=folder / "work", executor=executor_for(1), progress=progress)


def test_tokens_of_other_tools_stand_beside_text_and_epochs_are_simulated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = Notes()
    text = STUDY + "simulate_epochs: {target_tokens: 20e12}\n"
    ready = prepared(folder, text, notes)
    one, two = (ready.tokenized[name] for name in ("one", "two"))
    assert (one.documents, one.tokens) == (two.documents, two.tokens)
    assert sorted(np.array(one.stream())) == sorted(np.array(two.stream()))
    assert [(check.severity, check.message) for check in ready.leaks] == [
        ("note", "Held-out text was not looked for in two: only its tokens are here.")
    ]
    assert ready.leaks[0].message in notes.said
    assert any("counts with 300" in note for note in notes.said) == (one.vocab_size != 300)
    table = train_ladder(
        datasets=ready.tokenized,
        heldout={"h": folder / "heldout.parquet"},
        ladder=ready.ladder,
        out=folder / "work" / "ladder",
        simulate_epochs=load_study(folder / "study.yaml").simulate_epochs,
        workers=1,
        device="cpu",
        progress=notes,
    )
    seen = {(row["dataset"], row["tokens"]): (row["unique_tokens"], row["epochs"]) for row in table.to_pylist()}
    longest, shorter = max(key[1] for key in seen), min(key[1] for key in seen)
    assert seen["one", longest] == (int(longest / 5), pytest.approx(5, rel=1e-2))
    assert seen["one", shorter][1] == pytest.approx(5 * shorter / longest, rel=1e-2)  # the same trunk, left earlier
    assert seen["two", longest] == (int(longest / 2), pytest.approx(2, rel=1e-2))
    assert any(note.startswith("one is seen 5.0 times") and "2e+13 tokens" in note for note in notes.said)

    assert main(["train", str(folder / "study.yaml"), "--plan", "--work", str(folder / "work")]) == 0
    plan = capsys.readouterr().out
    assert "one: 5 epochs at the longest budget of every rung" in " ".join(plan.split())


def test_packed_tokens_from_elsewhere_are_looked_at_before_they_are_trusted(folder: Path) -> None:
    pack_dataset([folder / "one.parquet"], name="p", fingerprint="p", tokenizer=folder / "t.json", out=folder / "p")
    text = STUDY.replace('megatron: "two/*.bin", full_tokens: 10e12', "tokens: p").replace(", full_tokens: 4e12", "")
    said = prepared(folder, text, Progress()).tokenized["two"]
    assert said.tokens == prepared(folder, text, Progress()).tokenized["one"].tokens
    assert len(list((folder / "work" / "tokens" / "looked-at").iterdir())) == 1  # the second time it is known
    facts = json.loads((folder / "p" / "tokens.json").read_text())
    (folder / "p" / "tokens.json").write_text(json.dumps(facts | {"vocab_size": facts["vocab_size"] - 20}))
    with pytest.raises(InputError, match="but the tokenizer has"):
        prepared(folder, text, Progress())
    (folder / "p" / "tokens.json").write_text(json.dumps(facts))
    train_tokenizer(["other words " * 9], vocab_size=280, path=folder / "p" / "tokenizer.json")
    with pytest.raises(InputError, match=r"tokenizer\.json: not the tokenizer that tokens\.json says"):
        prepared(folder, text, Progress())


def test_a_fingerprint_that_a_folder_from_elsewhere_states_is_not_taken_for_its_content(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = STUDY.replace('megatron: "two/*.bin", full_tokens: 10e12', "tokens: FOLDER").replace(
        ", full_tokens: 4e12", ""
    )

    def given(where: Path) -> str:
        return prepared(folder, text.replace("FOLDER", str(where)), Progress()).tokenized["two"].fingerprint

    own = prepared(folder, STUDY.replace(", full_tokens: 4e12", "").replace(", full_tokens: 10e12", ""), Progress())
    one, two = (own.tokenized[name] for name in ("one", "two"))
    assert given(one.folder) == one.fingerprint  # packed in this work folder
    for name, packed in (("a", one), ("b", two)):
        shutil.copytree(packed.folder, tmp_path / name)
    facts = json.loads((tmp_path / "b" / "tokens.json").read_text())
    (tmp_path / "b" / "tokens.json").write_text(json.dumps(facts | {"fingerprint": one.fingerprint, "name": "one"}))
    a, b = given(tmp_path / "a"), given(tmp_path / "b")
    assert len({a, b, one.fingerprint, two.fingerprint}) == 4
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert given(tmp_path / "c") == a

    damaged = tmp_path / "c" / "tokens.json"
    for content in (b"", b"\xff\xfe\x00", b"[1, 2]", b"[" * 100_000, damaged.read_bytes()[:40]):
        damaged.write_bytes(content)
        with pytest.raises(InputError, match=r"c/tokens\.json: not the description of a packed dataset \("):
            given(tmp_path / "c")
    shutil.copytree(tmp_path / "c", tmp_path / "work" / "tokens" / "c")
    (folder / "study.yaml").write_text(text.replace("FOLDER", str(tmp_path / "a")))
    assert main(["train", str(folder / "study.yaml"), "--plan", "--work", str(tmp_path / "work")]) == 0
    said = capsys.readouterr()
    assert "not the description of a packed dataset" in said.err
    assert said.err.strip().endswith("pack it again. `curate train` does.")
    assert "Traceback" not in said.err


def test_dclms_shards_are_read_with_the_ladders_own_tokenizer_file(folder: Path) -> None:
    (folder / "own.yaml").write_text(LADDER + "tokenizer: t.json\nmodel_vocab_size: 320\n")
    text = (
        "name: shards\ndatasets: {one: {parquet: one.parquet}, two: {dclm: 00000000.tar}}\nladder: own.yaml\n"
        "tokenizer: {name: t.json, end_of_text: <|endoftext|>}\nheldout: {h: heldout.parquet}\n"
    )
    ready = prepared(folder, text, Progress())
    assert ready.tokenizer == folder / "t.json"
    assert ready.tokenized["two"].tokens == ready.tokenized["one"].tokens
    assert load_study(folder / "study.yaml").its_ladder().tokenizer == str(folder / "t.json")
    (folder / "own.yaml").write_text(LADDER + "tokenizer: t.json\nmodel_vocab_size: 300\n")
    train_tokenizer([f"more {number} words" for number in range(3000)], vocab_size=400, path=folder / "large.json")
    with pytest.raises(MismatchError, match="have 300 rows"):
        prepared(folder, text.replace("t.json, end", "large.json, end"), Progress())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("full_tokens: 4e12", "full_tokens: 0"), "datasets.one.full_tokens"),
        (("parquet: one.parquet", "parquet: one.parquet, tokens: x"), "give one of recipe, parquet, tokens"),
        (("heldout:", "simulate_epochs: {tokens: 1}\nheldout:"), "simulate_epochs.tokens"),
        (("t.json.gz", "gone.json"), r"tokenizer: no tokenizer at"),
        (("tokenizer: t.json.gz\n", ""), "need the tokenizer that made them"),
        (("two/*.bin", "three/*.bin"), "datasets.two.megatron"),
        (("ladder: tiny.yaml", "ladder: tiny.yaml"), "full_tokens: says nothing without simulate_epochs"),
    ],
)
def test_a_wrong_word_about_data_is_refused_by_line(folder: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in STUDY
    (folder / "wrong.yaml").write_text(STUDY.replace(*change))
    with pytest.raises(RecipeError, match=says):
        load_study(folder / "wrong.yaml")


def test_a_target_below_the_budget_is_refused_before_training(folder: Path) -> None:
    ready = prepared(folder, STUDY.replace(", full_tokens: 4e12", "").replace(", full_tokens: 10e12", ""), Progress())
    with pytest.raises(CurateError, match="simulate_epochs: the target of 4,000 tokens is below"):
        train_ladder(
            datasets=ready.tokenized,
            heldout={"h": folder / "heldout.parquet"},
            ladder=ready.ladder,
            out=folder / "refused",
            simulate_epochs=SimulatedEpochs(4e3, {"one": 4e3}),
        )
    assert not (folder / "refused").exists()
