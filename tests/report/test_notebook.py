"""Notebook output: escaped tables, and plotly figures that validate."""

import dataclasses
from typing import Any

import plotly.graph_objects as go
import pytest

from curate.errors import CurateError
from curate.report.notebook import figure, rows_html, verdict_html


@pytest.mark.parametrize("kind", ["laws", "gaps", "ranking", "tasks"])
def test_each_kind_is_a_plotly_figure(verdict: Any, kind: Any) -> None:
    shown = figure(verdict, kind)
    assert isinstance(shown, go.Figure) and len(shown.data) >= 2


def test_the_list_of_gaps_turns_one_pair_into_another(verdict: Any) -> None:
    shown = figure(verdict, "gaps")
    buttons = shown.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["full over heuristics", "heuristics over raw", "full over raw"]
    traces, layout = buttons[1].args
    assert len(traces["x"]) == len(shown.data) == 4
    assert layout["title.text"] == "heuristics over raw"


def test_a_verdict_shows_its_lines_and_its_ranking(verdict: Any) -> None:
    shown = verdict_html(verdict)
    assert "<table" in shown and "full &gt; raw" in shown and "P(best)" in shown
    assert verdict._repr_html_() == shown


def test_hostile_names_are_escaped(hostile: Any) -> None:
    shown = verdict_html(hostile.verdict)
    assert "<script" not in shown and "<img" not in shown and "&lt;img" in shown
    text = figure(hostile.verdict, "laws").to_json()
    assert "<script" not in text and "<img" not in text


def test_an_unknown_kind_is_refused_by_name(verdict: Any) -> None:
    with pytest.raises(CurateError, match=r"'heat' is no figure.*laws, gaps, ranking, tasks"):
        figure(verdict, "heat")  # type: ignore[arg-type]
    alone = dataclasses.replace(verdict, tasks_heatmap=None)
    with pytest.raises(CurateError, match="single task"):
        figure(alone, "tasks")


class Told:
    def rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = [{"law": "<b>", "error": 0.01234, "covers": True, "n": None}]
        return rows * 100

    def __str__(self) -> str:
        return "two <i>\nlines"


def test_any_result_with_rows_shows_them_escaped_and_counted() -> None:
    shown = rows_html(Told())
    assert "&lt;b&gt;" in shown and "0.0123" in shown and "two &lt;i&gt;" in shown
    assert "40 more rows" in shown and shown.count("<tr") == 61
