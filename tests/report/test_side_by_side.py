"""Two texts beside each other: what differs is found, marked, and bounded."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from curate.report.side_by_side import ROWS_SHOWN, WORDS_COMPARED, compared, side_by_side

WORDS = st.sampled_from(["a", "b", "c", "ไ", "ท", "ที่", "中", "。", "か\u3099"])


@given(st.lists(WORDS, max_size=40), st.lists(WORDS, max_size=40))
def test_the_differences_turn_one_text_into_the_other(left: list[str], right: list[str]) -> None:
    rest, made = left, []
    for difference in compared(" ".join(left), " ".join(right)).differences:
        alike = difference.alike_before + len(difference.before)
        made += rest[:alike] + [word.rstrip() for word in difference.right + difference.after]
        assert rest[alike : alike + len(difference.left)] == [word.rstrip() for word in difference.left]
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


@pytest.mark.parametrize(
    ("left", "right", "gone", "come"),
    [
        ("我们昨天在北京看了一场电影，很好。", "我们昨天在上海看了一场电影，很好！", ["北京", "。"], ["上海", "！"]),
        ("これはペンです。赤いペンです。", "これはペンです。", ["赤いペンです。"], [""]),
        ("วันนี้อากาศดีมาก", "วันนี้อากาศร้อนมาก", ["ดี"], ["ร้อน"]),
        ("他用 Python 3 写代码", "他用 Python 4 写代码", ["3"], ["4"]),
    ],
)
def test_scripts_without_spaces_are_compared_letter_by_letter(
    left: str, right: str, gone: list[str], come: list[str]
) -> None:
    found = compared(left, right).differences
    assert ["".join(difference.left).strip() for difference in found] == gone
    assert ["".join(difference.right).strip() for difference in found] == come
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(side_by_side(left, right, heads=("one", "other")))
    shown = console.export_text()
    assert all(f"[-{one}-]" in shown for one in gone) and all(f"{{+{other}+}}" in shown for other in come if other)


def test_a_long_text_of_few_letters_still_shows_only_what_differs() -> None:
    letters = random.Random(3).choices("กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวสหอ", k=1900)
    changed = [*letters[:300], "ฮฮฮ", *letters[300:1500], *letters[1510:]]
    found = compared("".join(["ก", *letters, "ก"]), "".join(["ข", *changed, "ข"])).differences
    assert sum(len(difference.left) + len(difference.right) for difference in found) <= 20
