"""The page names the largest clusters of every deduplicating stage, once, with hostile ids escaped."""

from dataclasses import replace

from curate.report.clusters_section import clusters_of_run, largest_clusters
from curate.report.content import DatasetContent
from tests.report.conftest import made_dataset

CHAIN = {"survivor": "first</td>", "size": 12345, "lowest_similarity": 0.0125, "least_similar": ["a&b", "c", "d", "e"]}


def with_clusters(name: str, *clusters: dict[str, object], fingerprint: str = "s2") -> DatasetContent:
    dataset = made_dataset(name)
    summary = {"clusters": len(clusters), "largest_clusters": list(clusters)}
    stages = [*dataset.stages[:1], dataset.stages[1] | {"summary": summary, "fingerprint": fingerprint}]
    return replace(dataset, stages=stages)


def test_a_chain_shows_with_its_least_similar_members() -> None:
    page = str(largest_clusters([with_clusters("one", CHAIN)]))
    for shown in ("minhash", "12,345", "first&lt;/td&gt;", ".0125", "a&amp;b", "<code>d</code>"):
        assert shown in page, shown
    assert "<code>e</code>" not in page


def test_a_stage_that_datasets_share_stands_once() -> None:
    same = [with_clusters("one", CHAIN), with_clusters("two", CHAIN)]
    assert str(largest_clusters(same)).count("12,345") == 1
    assert "all datasets" in str(largest_clusters(same))
    other = [same[0], with_clusters("two", CHAIN, fingerprint="s3")]
    assert str(largest_clusters(other)).count("12,345") == 2


def test_the_clusters_of_one_run_name_their_step_once() -> None:
    page = str(clusters_of_run([("exact", [CHAIN, CHAIN]), ("minhash", [CHAIN])]))
    assert page.count("<td>exact</td>") == 1 and page.count("12,345") == 3 and "datasets" not in page
    assert clusters_of_run([("exact", [])]) is None


def test_without_clusters_there_is_no_table() -> None:
    assert largest_clusters([with_clusters("one")]) is None
    assert largest_clusters([made_dataset("one")]) is None
