"""The end of a study on the terminal: complete, within its width, and never steered by the data."""

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from curate.report.content import StudyContent
from curate.report.terminal import funnel, summary, verdict_text

EXPECTED = [
    "raw  1,000 records",
    "gopher_quality",
    "120 words",
    "60 alphabetic",
    "2.0590 ± 0.0052",
    "Law L(C) =",
    "Ranking at 1e14",
    "full > raw",
    "decided",
    "Warnings",
    "Verdict",
    "410k tokens",
]


def shown(renderable: object, *, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_holds_funnel_measurements_laws_ranking_and_verdict(study: StudyContent) -> None:
    text = shown(summary(study))
    for words in EXPECTED:
        assert words in text, words
    assert text.rstrip().endswith(verdict_text(study.verdict).split("\n")[-1][-40:])  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(study: StudyContent, width: int) -> None:
    assert max(len(line) for line in shown(summary(study), width=width).split("\n")) <= width


def test_names_cannot_steer_the_terminal(hostile: StudyContent) -> None:
    text = shown(summary(hostile))
    assert not [sign for sign in text if (ord(sign) < 32 and sign != "\n") or 0x7F <= ord(sign) < 0xA0]
    assert "‮" not in text
    assert "⟨U+001B⟩" in text


def test_names_are_no_rich_markup(study: StudyContent) -> None:
    named = dataclasses.replace(study.datasets[0], name="[bold red]x[/nope] :smile:")
    assert "[bold red]x[/nope] :smile:" in shown(summary(dataclasses.replace(study, datasets=[named])))


def test_the_verdict_is_its_lines(verdict: Any) -> None:
    assert verdict_text(verdict) == str(verdict)
    assert verdict_text(dataclasses.replace(verdict, checks=())).count("\n") == len(verdict.pairs) - 1


def test_a_study_without_comparison_shows_its_funnels(study: StudyContent) -> None:
    bare = dataclasses.replace(study, verdict=None, measurements=None)
    text = shown(summary(bare))
    assert "minhash" in text and "Ranking" not in text


def test_a_funnel_stands_alone(study: StudyContent) -> None:
    rows = study.datasets[0].funnel
    text = shown(funnel("mine", rows))
    assert "mine  1,000 records (10.8 MB) → 450 documents (45.0%)" in text
    assert "0 records" in shown(funnel("empty", []))
