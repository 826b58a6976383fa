"""Semantic deduplication as a run: the ledger names survivor, part and cosine, `why` shows both texts, and what was cut
off goes on to the same bytes."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.dedup.cosine import paired_cosines
from curate.engine import exchange
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.errors import RecipeError
from curate.models.encoder import Encoder
from tests.engine.test_exchange import STEPS, Finish, decided, in_memory, written

WORDS = "the river runs under old bridge and a cat sits on warm stone near quiet harbour".split()


def _rows(seed: int) -> list[dict[str, Any]]:
    """Families of texts that differ in few words, equal ones, and some without a vector."""
    chance, texts = random.Random(seed), ["", "nothing of this known", "the cat sits"]
    for _ in range(25):
        words = chance.choices(WORDS, k=chance.randint(4, 20))
        for _ in range(chance.randint(1, 4)):
            words[chance.randrange(len(words))] = chance.choice(WORDS)
            texts.append(" ".join(words))
    texts += texts[:9]
    chance.shuffle(texts)
    return [{"id": f"d{number:03}", "text": text} for number, text in enumerate(texts)]


@pytest.fixture
def semantic(small_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The step, for the helpers of tests/engine/test_exchange.py."""
    parameters = {"encoder": str(small_encoder), "threshold": 0.97, "clusters_at_most": 4, "least_per_cluster": 8}
    monkeypatch.setitem(STEPS, "semantic", ("curate.dedup.semantic:Semantic", parameters))
    return "semantic"


def test_files_in_any_number_of_parts_give_what_memory_gives(
    semantic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(1)
    expected = in_memory(semantic, rows, 1, 1)
    assert any(row["survivor"] for row in expected[0]) and expected[1]["groups"] == 4
    parents = written(tmp_path / "parents", rows, 5)
    assert decided(semantic, tmp_path / "whole", parents) == expected
    monkeypatch.setattr(exchange, "WHOLE_BYTES", -1)
    monkeypatch.setattr(exchange, "RANGE_BYTES", 1_000)
    assert decided(semantic, tmp_path / "rounds", parents) == expected


class _Cut(Exception):
    """The run ends here."""


def _cut_after(count: int) -> Callable[[Any, Sequence[Any]], Iterator[tuple[int, Any]]]:
    left = [count]

    def run(work: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number, job in enumerate(jobs):
            if not left[0]:
                work(job)  # its files are there, and nobody heard of it
                Path(job.manifest).unlink()
                raise _Cut
            left[0] -= 1
            yield number, work(job)

    return run


def test_a_run_that_was_cut_off_anywhere_goes_on_to_the_same_bytes(
    semantic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "WHOLE_BYTES", -1)
    monkeypatch.setattr(exchange, "RANGE_BYTES", 1_000)
    parents = written(tmp_path / "parents", _rows(2), 3)
    finish = Finish()
    expected = decided(semantic, tmp_path / "untouched", parents, finish)
    for count in range(0, len(finish.done), 3):
        with pytest.raises(_Cut):
            decided(semantic, tmp_path / "cut", parents, Finish(_cut_after(count % 5)))
    assert decided(semantic, tmp_path / "cut", parents) == expected
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.arrow")} for name in ("untouched", "cut")
    ]
    assert files[0] == files[1]


ONE, OTHER = "the river runs under old bridge and a cat sits", "the river runs under old bridge and a cat sits near"


def test_the_ledger_names_survivor_part_and_cosine_and_why_shows_both_texts(
    recipe: Callable[..., Path],
    small_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for name, text in (("a", ONE), ("b", OTHER)):
        pq.write_table(pa.table({"id": [name], "text": [text]}), tmp_path / "corpus" / f"{name}.parquet")
    path, work = recipe(f"semantic: {{encoder: {small_encoder}, threshold: 0.9, keep: longest}}"), tmp_path / "work"
    dataset = Engine(work, executor_for(1)).run(load_recipe(path))
    ledger = pa.concat_tables([pq.read_table(ledger) for ledger in dataset.stages[-1].ledgers]).to_pylist()
    (row,) = [row for row in ledger if row["id"] == "a"]
    vectors = Encoder(small_encoder).encode(pa.array([ONE, OTHER]))
    (cosine,) = paired_cosines(vectors[:1], vectors[1:])
    assert (row["fate"], row["rule"], row["survivor"], row["survivor_part"]) == ("duplicate", "semantic", "b", 1)
    assert row["value"] == cosine > 0.9 and row["threshold"] == 0.9
    assert main(["why", str(path), "a", "--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert f"similarity {cosine:.6g}, duplicates are from 0.9 on; kept in its place: b" in said
    assert "{+near+}" in said


def test_a_folder_that_is_no_encoder_is_refused_before_the_run(recipe: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = recipe(f"semantic: {{encoder: {tmp_path / 'model'}}}")
    with pytest.raises(RecipeError, match="folder has a config"):
        Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path))


def test_vectors_are_the_same_in_any_company_and_by_any_number_of_threads(small_encoder: Path) -> None:
    import torch

    encoder, texts = Encoder(small_encoder), [row["text"] for row in _rows(3)]
    before = torch.get_num_threads()
    try:
        found = []
        for threads, batch in ((1, len(texts)), (2, 7), (3, 1)):
            torch.set_num_threads(threads)
            parts = [encoder.encode(pa.array(texts[low : low + batch])) for low in range(0, len(texts), batch)]
            found.append(np.concatenate(parts).tobytes())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]
