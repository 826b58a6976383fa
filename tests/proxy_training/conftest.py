"""Small worlds for the training tests: made-up text with structure to learn, a tokenizer, a packed dataset, a run."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads, here and in every child

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.proxy_training.evaluate import HeldOutSet, evaluation_fingerprint, load_heldout
from curate.proxy_training.packing import TokenizedDataset, pack_dataset
from curate.proxy_training.planning.ladder_file import Scale
from curate.proxy_training.procedure import Procedure
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.tokenizer import load_tokenizer, train_tokenizer
from curate.proxy_training.training.run_folders import point_file

TEXT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Other tests may have loaded torch with more: a fork of this process would wait for threads that it has not."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def sentences(seed: int, documents: int, *, words: int = 60) -> list[str]:
    """Documents of a small grammar: enough order that a loss falls, enough chance that it stays above zero."""
    chance = random.Random(seed)
    nouns, verbs = ["river", "crawler", "law", "page", "seed"], ["finds", "drops", "keeps", "reads"]
    return [
        " ".join(
            f"the {chance.choice(nouns)} {chance.choice(verbs)} the {chance.choice(nouns)}."
            for _ in range(chance.randint(1, words // 5))
        )
        for _ in range(documents)
    ]


def write_documents(path: Path, texts: list[str], *, prefix: str = "doc") -> Path:
    ids = [f"{prefix}-{number}" for number in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), path)
    return path


def finish(run: Run, out: Path) -> None:
    """Leave the files of a run that is trained and measured, as far as their names go."""
    folder = out / "runs" / run.fingerprint
    for tokens in run.budgets:
        path = point_file(folder, tokens, run.evaluation)
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    (folder / "result.json").write_text("{}")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, held-out text and a tokenizer of 300 entries."""
    folder = tmp_path_factory.mktemp("world")
    write_documents(folder / "documents.parquet", sentences(0, 400))
    write_documents(folder / "heldout.parquet", sentences(1, 40))
    train_tokenizer(sentences(0, 200), vocab_size=300, path=folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="session")
def packed(world: Path) -> TokenizedDataset:
    return pack_dataset(
        [world / "documents.parquet"],
        name="grammar",
        fingerprint="grammar-1",
        tokenizer=world / "tokenizer.json",
        out=world / "packed",
    )


@pytest.fixture(scope="session")
def heldout(world: Path) -> dict[str, HeldOutSet]:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    return {
        "same": load_heldout(
            "same",
            [world / "heldout.parquet"],
            tokenizer=tokenizer,
            sequence_length=32,
            bytes_per_set=4000,
            bytes_per_document=400,
        )
    }


@pytest.fixture(scope="session")
def make_run(packed: TokenizedDataset, heldout: dict[str, HeldOutSet]) -> Callable[..., Run]:
    """A run of about 60 steps that takes under a second."""

    def make(*, seed: int = 0, learning_rate: float = 0.02, dataset: TokenizedDataset = packed) -> Run:
        procedure = Procedure(
            tokenizer=packed.tokenizer_fingerprint, sequence_length=32, precision="fp32", compile="eager"
        )
        scale = Scale(
            name="tiny",
            width=16,
            layers=1,
            heads=2,
            ffn=32,
            budgets_tokens=(2048, 4096, 8192),
            learning_rate=learning_rate,
            batch_sequences=4,
        )
        return Run(dataset, scale, seed, procedure, evaluation_fingerprint(heldout))

    return make
