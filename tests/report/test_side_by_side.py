"""Two texts beside each other: what differs is found, marked, and bounded."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from curate.report.side_by_side import ROWS_SHOWN, WORDS_COMPARED, compared, side_by_side


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.lists(st.sampled_from("abcdef"), max_size=40))
def test_the_differences_turn_one_text_into_the_other(left: list[str], right: list[str]) -> None:
    rest, made = left, []
    for difference in compared(" ".join(left), " ".join(right)).differences:
        alike = difference.alike_before + len(difference.before)
        made += rest[:alike] + list(difference.right) + list(difference.after)
        assert tuple(rest[alike : alike + len(difference.left)]) == difference.left
        rest = rest[alike + len(difference.left) + len(difference.after) :]
    assert made + rest == right


def test_white_space_alone_makes_no_difference() -> None:
    assert not compared("one two\nthree", "one  two three").differences


def test_what_is_not_compared_or_not_shown_is_said() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    long = " ".join(f"left{number}" for number in range(WORDS_COMPARED + 1))
    console.print(side_by_side(long, "right", heads=("one", "other")))
    assert "Only the first 2,000 words" in console.export_text()
    alike = [f"word{number} and then some more words that both have in this place" for number in range(2 * ROWS_SHOWN)]
    console.print(side_by_side("here ".join(alike), "there ".join(alike), heads=("one", "other")))
    assert f"and {2 * ROWS_SHOWN - 1 - ROWS_SHOWN} more differences" in console.export_text()
