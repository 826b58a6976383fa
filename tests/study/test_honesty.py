"""The verdict is honest both ways, on real training with the demo's ladder (slow: minutes of two cores each).

Two random halves of one corpus must come out undecided; a corpus against itself with 30% of its words shuffled must be
decided. The corpus is books and textbooks from the real data beside the project.
"""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.executors import executor_for
from curate.progress import Progress
from curate.sample import heldout
from curate.study import StudyResult, load_study, run_study

TEXT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"
PIECE = 6000
"""Characters of a document: books are cut, so that a half is a random sample of pieces and not of whole books."""


def _corpus(names: tuple[str, ...] = ("textbooks", "books")) -> list[str]:
    pieces = []
    for name in names:
        path = TEXT / f"{name}.parquet"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
            pieces += [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return pieces


def _write(path: Path, texts: list[str]) -> None:
    ids = [f"{path.stem}-{number:06d}" for number in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), path)


def shuffled_words(text: str, share: float, chance: random.Random) -> str:
    """`share` of the words, chosen at random, permuted among their places."""
    words = text.split(" ")
    places = [place for place in range(len(words)) if chance.random() < share]
    moved = places[:]
    chance.shuffle(moved)
    result = words[:]
    for place, source in zip(places, moved, strict=True):
        result[place] = words[source]
    return " ".join(result)


def _study(folder: Path, first: list[str], second: list[str]) -> StudyResult:
    _write(folder / "first.parquet", first)
    _write(folder / "second.parquet", second)
    held = ", ".join(f'{name}: "{path}"' for name, path in heldout().items())
    (folder / "study.yaml").write_text(
        "name: honesty\ndatasets: {first: {parquet: first.parquet}, second: {parquet: second.parquet}}\n"
        f"ladder: demo\nheldout: {{{held}}}\ncompare: {{metric: bits_per_byte}}\n"
    )
    study = load_study(folder / "study.yaml")
    return run_study(study, work=folder / "work", executor=executor_for(1), workers=2, progress=Progress())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
def test_two_random_halves_of_one_corpus_are_undecided(tmp_path: Path, seed: int) -> None:
    pieces = _corpus()
    random.Random(seed).shuffle(pieces)
    half = len(pieces) // 2
    result = _study(tmp_path, pieces[:half], pieces[half:])
    print(result.verdict)
    (pair,) = result.verdict.pairs
    assert not pair.comparisons[0].decided


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_corpus_against_itself_with_shuffled_words_is_decided(tmp_path: Path) -> None:
    chance = random.Random(0)
    pieces = _corpus()
    chance.shuffle(pieces)
    half = len(pieces) // 2
    result = _study(tmp_path, pieces[:half], [shuffled_words(text, 0.3, chance) for text in pieces[:half]])
    print(result.verdict)
    (pair,) = result.verdict.pairs
    (comparison,) = pair.comparisons
    assert comparison.decided
    assert comparison.better == "first"
    assert comparison.p_better > 0.95
