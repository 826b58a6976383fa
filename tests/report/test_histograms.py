"""Histograms: bars are coloured by what the rule does."""

from xml.etree import ElementTree

import pytest

from curate.report.histograms import histogram_figure
from curate.report.looks import KEPT, LOST, PARTLY


def _drawn(figure: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(figure).iter(kind))


@pytest.mark.parametrize(
    ("at_least", "at_most", "fills"),
    [
        (0.5, None, [LOST, LOST, LOST, KEPT, KEPT, KEPT]),
        (
            None,
            0.5,
            [KEPT, KEPT, KEPT, PARTLY, LOST, LOST],
        ),  # a value of .5 is in the bin that begins there, and passes
        (0.6, None, [LOST, LOST, LOST, PARTLY, KEPT, KEPT]),
        (None, 0.0, [KEPT, PARTLY, LOST, LOST, LOST, LOST]),
        (1.0, None, [LOST, LOST, LOST, LOST, PARTLY, KEPT]),  # the last bin holds its end
        (None, None, [KEPT] * 6),
    ],
)
def test_bars_are_coloured_by_what_the_rule_does(at_least: float, at_most: float, fills: list[str]) -> None:
    histogram = {"signal": "s", "low": 0.0, "high": 1.0, "at_least": at_least, "at_most": at_most, "counts": [5] * 6}
    bars = _drawn(histogram_figure("rule", histogram), "rect")
    found = [bar.get("fill") for bar in bars if bar.get("fill") in (KEPT, PARTLY, LOST)]
    assert found == fills


def test_empty_bins_have_no_bar_and_single_documents_have_one() -> None:
    histogram = {
        "signal": "s",
        "low": 0.0,
        "high": 1.0,
        "at_least": None,
        "at_most": None,
        "counts": [0, 1, 0, 1000, 0],
    }
    bars = [bar for bar in _drawn(histogram_figure("rule", histogram), "rect") if bar.get("fill") == KEPT]
    assert [bar[0].text for bar in bars] == ["0 to 0.333: 1 documents", "0.667 to 1.00: 1,000 documents"]
