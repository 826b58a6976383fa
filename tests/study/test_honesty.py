"""The verdict is honest both ways, on real training with the demo's ladder (slow: minutes of two cores each).

Two random halves of one corpus must come out undecided; a corpus against itself with 30% of its words shuffled must be
decided. The corpus is books and textbooks from the real data beside the project.
"""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.comparator import Verdict, compare
from curate.engine.executors import executor_for
from curate.errors import InputError, RecipeError
from curate.heldout import contamination
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


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """Two random halves of the corpus, and the first with 30% of its words shuffled, on the demo's ladder."""
    folder = tmp_path_factory.mktemp("honesty")
    chance = random.Random(0)
    pieces = _corpus()
    chance.shuffle(pieces)
    half = len(pieces) // 2
    _write(folder / "first.parquet", pieces[:half])
    _write(folder / "second.parquet", pieces[half:])
    _write(folder / "shuffled.parquet", [shuffled_words(text, 0.3, chance) for text in pieces[:half]])
    names = ("first", "second", "shuffled")
    datasets = ", ".join(f"{name}: {{parquet: {name}.parquet}}" for name in names)
    held = ", ".join(f'{name}: "{path}"' for name, path in heldout().items())
    (folder / "study.yaml").write_text(f"name: honesty\ndatasets: {{{datasets}}}\nladder: demo\nheldout: {{{held}}}\n")
    study = load_study(folder / "study.yaml")
    return run_study(study, work=folder / "work", executor=executor_for(1), workers=2, progress=Progress())


def _verdict(result: StudyResult, *names: str) -> Verdict:
    rows = pc.is_in(result.measurements["dataset"], value_set=pa.array(names))
    verdict = compare(result.measurements.filter(rows))
    print(verdict)
    return verdict


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_random_halves_of_one_corpus_are_undecided(result: StudyResult) -> None:
    (pair,) = _verdict(result, "first", "second").pairs
    assert not pair.comparisons[0].decided


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_corpus_against_itself_with_shuffled_words_is_decided(result: StudyResult) -> None:
    (pair,) = _verdict(result, "first", "shuffled").pairs
    (comparison,) = pair.comparisons
    assert comparison.decided
    assert comparison.better == "first"
    assert comparison.p_better > 0.95


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("name: ../../x", "name"),
        ('datasets: {"a\\0b": r.yaml, b: r.yaml}', "datasets"),
        ("compare: {law: nonsense}", "compare.law"),
        ("compare: {at: [.inf]}", "compare.at"),
        ("heldout: {h: ''}", "heldout.h"),
    ],
)
def test_a_wrong_study_is_refused_before_any_work(tmp_path: Path, line: str, field: str) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nsource: {parquet: h.parquet}\nsteps: []\n")
    pq.write_table(pa.table({"id": ["1"], "text": ["text"]}), tmp_path / "h.parquet")
    lines = ["name: s", "datasets: {a: r.yaml, b: r.yaml}", "ladder: demo", "heldout: {h: h.parquet}"]
    kept = [old for old in lines if old.split(":")[0] != line.split(":")[0]]
    (tmp_path / "s.yaml").write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(RecipeError, match=field):
        load_study(tmp_path / "s.yaml")


def test_held_out_text_that_is_not_there_is_a_sentence_or_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "text": ["text"]}), tmp_path / "data.parquet")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "none.parquet")
    measured = {"h": ["the words of a text that is long enough to be looked for, and nothing else"], "none": []}
    assert not any(
        row.found for row in contamination({"d": [tmp_path / "data.parquet"]}, measured, folder=tmp_path / "sets")
    )
    with pytest.raises(InputError, match=r"none\.parquet"):
        contamination({"d": [tmp_path / "none.parquet"]}, measured, folder=tmp_path / "sets")
