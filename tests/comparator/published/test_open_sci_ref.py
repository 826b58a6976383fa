"""open-sci-ref: eight datasets ranked with probabilities and ties, cooled-down points alone; small scales as judges."""

import pytest

from curate.comparator import Verdict, compare
from curate.comparator.examples import Example, load_example


@pytest.fixture(scope="module")
def example() -> Example:
    return load_example("open-sci-ref")


@pytest.fixture(scope="module")
def verdict(example: Example) -> Verdict:
    return compare(example.table, metric=example.metric, at=example.at, law=example.law)


def test_eight_datasets_are_ranked_with_probabilities_and_ties(verdict: Verdict) -> None:
    order = verdict.ranking.order
    assert [r.dataset for r in order][:2] == ["Nemotron-CC-HQ", "DCLM"]
    assert order[-1].dataset == "CommonCorpus"
    assert sum(r.p_best for r in order) == pytest.approx(1)
    assert order[0].p_best > 0.9
    ties = {r.dataset: r.tied_with for r in order}
    assert "C4" in ties["FineWeb-Edu"]
    assert "FineWeb-Edu" in ties["C4"]
    ranks = [r.rank for r in order]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) < 8


def test_stable_phase_curves_are_counted_and_never_mixed_with_cooled_down_points(
    verdict: Verdict, example: Example
) -> None:
    cooled = example.table["cooled_down"].to_pylist()
    assert len(verdict.points) == sum(cooled) == 35
    (out,) = verdict.excluded
    assert (out.rows, out.reason) == (cooled.count(False), "measured before the cool-down")
    assert any(c.name == "not_cooled_down" for c in verdict.checks)
    assert sum(len(s.datasets) for s in verdict.headline.scales) == 35


def test_the_notes_say_that_values_were_read_off_figures(verdict: Verdict) -> None:
    assert any("read off" in note for note in verdict.notes)
    assert any(c.name == "one_seed" for c in verdict.checks)


@pytest.mark.parametrize(("scale", "share"), [("0.13B-300B", 25), ("0.4B-300B", 25), ("1.3B-300B", 27)])
def test_decision_accuracy_of_each_scale_is_the_published_one(verdict: Verdict, scale: str, share: int) -> None:
    """.893, .893 and .964 of the 28 pairs ranked as at 1.7B/300B."""
    found = [a for a in verdict.headline.agreement if (a.small, a.large) == (scale, "1.7B-300B")]
    assert [a.runs for a in found] == ["matched"]  # one run a cell: averaging changes nothing
    assert (found[0].n, found[0].pairs) == (8, 28)
    assert found[0].decision_accuracy.value == pytest.approx(share / 28)
    assert "8 datasets" in found[0].note


def test_no_single_scale_decides_without_a_second_seed(verdict: Verdict) -> None:
    assert all(s.noise_sd is None for s in verdict.headline.scales)
    assert not any(p.decided for s in verdict.headline.scales for p in s.pairs)
