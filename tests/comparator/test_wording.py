"""The words of a verdict: digits that say something, names that can be told apart, lines that stay few."""

import math

import numpy as np
import pytest

from curate.comparator import compare
from curate.comparator.verdict import Estimate
from curate.comparator.wording import decimals, listed, printable, share, short_names, shortened, signed, times
from tests.comparator.worlds import Source, ladder


@pytest.mark.parametrize(
    ("multiplier", "words"),
    [
        (Estimate(1.02, 0.98, 1.07), "x1.02 [.98, 1.07]"),
        (Estimate(1.6, 1.3, 2.1), "x1.6 [1.3, 2.1]"),
        (Estimate(1.004, 0.9991, 1.0083), "x1.004 [.999, 1.008]"),
        (Estimate(4.71, 2.04, 11.3), "x4.7 [2.0, 11]"),
        (Estimate(240.2, 31.0, math.inf), "x240 [31, inf]"),
        (Estimate(1.0, 1.0, 1.0), "x1.0 [1.0, 1.0]"),
        (Estimate(0.5, 0.0, 0.9), "x.50 [0, .90]"),
    ],
)
def test_multipliers_have_digits_enough_for_their_interval(multiplier: Estimate, words: str) -> None:
    assert times(multiplier) == words


def test_numbers_are_written_as_papers_write_them() -> None:
    assert [decimals(v, 3) for v in (0.183, -0.02, 1.25, 0.0)] == [".183", "-.020", "1.250", ".000"]
    assert [share(p) for p in (0.999, 0.71, 0.001)] == [">.99", ".71", "<.01"]
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_shortened_names_stay_apart() -> None:
    names = [f"a_long_recipe_name_with_{middle}_in_its_middle_and_a_long_end" for middle in ("one", "two", "three")]
    short = short_names(names, width=20)
    assert len(set(short.values())) == 3
    assert short_names(["raw", "full"]) == {"raw": "raw", "full": "full"}
    assert len(shortened("x" * 90, 30)) == 30


def test_many_datasets_get_a_summary_and_few_lines() -> None:
    sources = {f"d{i:02}": Source(E=0.8 + 0.05 * i) for i in range(18)}
    lines = compare(ladder(sources, rng=np.random.default_rng(0)), bootstraps=100).lines
    assert lines[0].startswith("18 datasets at 6.1e13 FLOPs, ")
    assert "of 153 pairs decided" in lines[0]
    assert lines[1].startswith("  1  d0")
    assert "P(best)" in lines[1]
    assert sum("P(best)" in line for line in lines) == 15
    assert "     ... and 3 more" in lines


def test_names_alike_at_both_ends_show_where_they_depart_in_few_characters() -> None:
    names = [
        f"cc_v4_resiliparse_rw_v2_bff_{middle}_OH_eli5_vs_rw_v2_bigram_200k_train_0.1" for middle in ("m10", "m32")
    ]
    short = short_names(names, width=36)
    assert len(set(short.values())) == 2
    assert all(
        len(words) <= 36 and middle in words for words, middle in zip(short.values(), ("m10", "m32"), strict=True)
    )
    same = ["x" * 50 + "a" + "y" * 50 + "1" + "z" * 50, "x" * 50 + "b" + "y" * 50 + "2" + "z" * 50]
    assert len(set(short_names([*same, "x" * 50 + "a" + "y" * 50 + "3" + "z" * 50], width=20).values())) == 3


def test_a_ranking_fits_a_terminal_of_a_hundred_columns() -> None:
    tail = "_with_a_long_name_as_pipelines_write_them_vs_something_else_0.1"
    sources = {f"recipe_{i}{tail}": Source(E=0.8 + 0.05 * i) for i in range(6)}
    lines = compare(ladder(sources, rng=np.random.default_rng(0)), bootstraps=100).lines
    assert max(len(line) for line in lines if "P(best)" in line) <= 100


def test_a_hostile_name_neither_breaks_a_line_nor_commands_the_terminal() -> None:
    assert printable("a\nb\tc\x1b[31m\u202ed") == "a b c<U+001B>[31m<U+202E>d"
    hostile = "evil\n! severe: all is lost\x1b[2J"
    verdict = compare(
        ladder({"raw": Source(E=0.8), hostile: Source(E=0.9)}, rng=np.random.default_rng(0)), bootstraps=100
    )
    assert verdict.datasets.count(hostile) == 1
    assert all("\n" not in line and "\x1b" not in line for line in verdict.lines)
    assert not any(line.startswith("! severe: all is lost") for line in str(verdict).splitlines())


def test_intervals_keep_their_last_digit_where_it_is_zero() -> None:
    assert [signed(v) for v in (0.03, -0.00262, 12.0, 345.6)] == ["+0.0300", "-0.00262", "+12.0", "+346"]
