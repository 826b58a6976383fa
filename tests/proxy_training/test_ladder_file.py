from pathlib import Path

import pytest

from curate.errors import RecipeError
from curate.proxy_training.ladder import load_ladder, plan
from curate.proxy_training.ladder_file import Ladder
from curate.proxy_training.packing import TokenizedDataset

GOOD = """\
name: mine
vocab_size: 300
sequence_length: 32
scales:
  - {name: a, width: 16, layers: 1, heads: 2, ffn: 32, budgets_tokens: [2048, 4096]}
  - name: b
    width: 32
    layers: 2
    heads: 2
    ffn: 64
    budgets_tokens: [4096, 8192]
    seeds: 2
"""


def write(path: Path, old: str = "", new: str = "") -> Path:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    return path


def test_a_ladder_of_ones_own_is_read(tmp_path: Path) -> None:
    ladder = load_ladder(write(tmp_path / "mine.yaml"))
    assert [scale.name for scale in ladder.scales] == ["a", "b"]
    assert ladder.largest_budget_tokens == 8192
    assert [scale.seeds for scale in ladder.with_seeds(4).scales] == [4, 4]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    width: 32", "    width: 30", "line 6"),
        ("    width: 32", "    widht: 32", "widht"),
        ("    layers: 2", "    layers: two", "line 8"),
        ("[4096, 8192]", "[8192, 4096]", "rise"),
        ("vocab_size: 300", "vocab_size: 100", "line 2"),
        ("name: b", "name: a", "same name"),
        ("sequence_length: 32", "sequence_length: 32\nprocedure: {beta1: 2}", "beta1"),
        ("scales:", "scales: [", "YAML"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write(tmp_path / "mine.yaml", old, new)
    with pytest.raises(RecipeError, match=r"mine\.yaml") as caught:
        load_ladder(path)
    assert says in str(caught.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match="demo, laptop"):
        load_ladder("dmeo")


@pytest.mark.parametrize(("name", "decades"), [("demo", 1.7), ("laptop", 2.0)])
def test_shipped_ladders_span_what_they_promise(name: str, decades: float, packed: TokenizedDataset) -> None:
    import math

    ladder = load_ladder(name)
    assert isinstance(ladder, Ladder)
    assert len(ladder.scales) >= 4
    assert all(len(scale.budgets_tokens) >= 3 for scale in ladder.scales)
    rows = plan(ladder, {"x": packed})
    flops = [6 * row.params * tokens for row in rows for tokens in row.budgets_tokens]
    assert math.log10(max(flops) / min(flops)) >= decades


def test_the_plan_counts_runs_tokens_and_repetition(tmp_path: Path, packed: TokenizedDataset) -> None:
    rows = plan(load_ladder(write(tmp_path / "mine.yaml")), {"x": packed, "y": packed})
    assert sorted((row.dataset, row.scale, row.seed) for row in rows) == [
        *[("x", "a", 0), ("x", "b", 0), ("x", "b", 1)],
        *[("y", "a", 0), ("y", "b", 0), ("y", "b", 1)],
    ]
    assert [row.estimated_seconds for row in rows] == sorted((row.estimated_seconds for row in rows), reverse=True)
    largest = rows[0]
    assert largest.flops == 6 * largest.params * largest.budgets_tokens[-1]
    assert largest.epochs == pytest.approx(largest.budgets_tokens[-1] / packed.tokens)
    assert largest.budgets_tokens[-1] < largest.trained_tokens < 1.3 * largest.budgets_tokens[-1]
