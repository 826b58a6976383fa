"""The page: everything is there, it needs no network, and hostile text stays text."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.report.content import StudyContent
from curate.report.markup import visible
from curate.report.page import page, write_comparison, write_report

OURS = set(
    "html head meta title style body script header nav main section h1 h2 h3 p a div span b br button code pre mark ul "
    "li table caption thead tbody tr th td figure figcaption details summary svg path rect line text".split()
)
"""Every element that our code writes; an element of a page that was shown would be another."""
VOID = {"meta", "br"}
EXPECTED = [
    "which-recipe",
    "full > raw",
    "P(best)",
    "within the measured span",
    "extrapolated ×",
    "95% interval",
    "another order",
    "Held-out set by held-out set",
    "training compute C (FLOPs)",
    "bits per byte (lower is better)",
    "full over raw",
    "converged",
    "scale 0.2M",
    "training loss (nats/token)",
    "gopher_quality.words",
    "≥ 50",
    "measured 41, threshold 50",
    "two three Some text of a page.",
    "similarity 0.870",
    "10 of 1,000 records failed",
    "held out.auc",
    "0.987",
    "candidate_pairs 260",
    "3 on 0.2M",
]


class Read(HTMLParser):
    """Elements, attributes and text of a page; notes what is not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.comments: list[str] = []
        self.blocks: list[tuple[dict[str, str | None], str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name == "script":
            self.blocks.append((dict(attributes), ""))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open and self.open.pop() == name, f"</{name}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.blocks[-1] = (self.blocks[-1][0], self.blocks[-1][1] + data)
        else:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


@pytest.fixture(params=["plain", "hostile"])
def content(request: pytest.FixtureRequest, study: StudyContent, hostile: StudyContent) -> StudyContent:
    return study if request.param == "plain" else hostile


def test_only_our_elements_and_one_script_stand_on_the_page(content: StudyContent) -> None:
    read = Read(page(content))
    assert {name for name, _ in read.elements} <= OURS
    kinds = [attributes.get("type", "code") for attributes, _ in read.blocks]
    assert kinds == ["application/json", "code"]
    assert read.comments == []
    names = {attribute for _, attributes in read.elements for attribute in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "srcset", "style", "action")]


def test_the_page_asks_nobody_for_anything(content: StudyContent) -> None:
    source = page(content)
    read = Read(source)
    links = [attributes["href"] for _, attributes in read.elements if "href" in attributes]
    assert links and all(re.fullmatch(r"#[a-z]+", str(link)) for link in links)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style and "@import" not in style
    code = next(text for attributes, text in read.blocks if not attributes)
    assert not re.search(r"fetch|XMLHttp|WebSocket|import\(|innerHTML|eval|https?:", code)


def test_the_policy_allows_our_script_and_style_by_hash_and_nothing_else(study: StudyContent) -> None:
    source = page(study)
    read = Read(source)
    metas = [attributes for name, attributes in read.elements if name == "meta"]
    (policy,) = [a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for name in ("script", "style"):
        inlined = source[source.rindex(f"<{name}>") + len(name) + 2 : source.rindex(f"</{name}>")]
        digest = base64.b64encode(hashlib.sha256(inlined.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_hostile_text_is_shown_as_it_is(hostile: StudyContent, hostile_text: str) -> None:
    read = Read(page(hostile))
    shown = "".join(read.text)
    assert visible(hostile_text)[:150] in shown
    assert "‮" not in shown and "\x00" not in shown and "\x1b" not in shown


def test_nothing_of_any_length_makes_the_page_heavy(hostile: StudyContent) -> None:
    assert len(page(hostile).encode()) < 6_000_000


def test_every_section_has_its_content(study: StudyContent) -> None:
    read = Read(page(study))
    sections = [attributes.get("id") for name, attributes in read.elements if name == "section"]
    assert sections == ["ranking", "laws", "measurements", "curation", "provenance"]
    shown = "".join(read.text)
    for words in EXPECTED:
        assert words in shown, words


def test_every_check_stands_with_its_remedy(study: StudyContent) -> None:
    shown = " ".join(Read(page(study)).text)
    assert study.verdict is not None and study.verdict.checks
    for check in study.verdict.checks:
        assert check.message in shown and check.remedy in shown


def test_a_failed_severe_check_stands_in_the_first_line(study: StudyContent) -> None:
    from curate.comparator.verdict import Check

    assert study.verdict is not None
    severe = Check("flops", "severe", "the counts of FLOPs do not agree", "Count them again.")
    told = dataclasses.replace(study.verdict, checks=(severe, *study.verdict.checks))
    source = page(dataclasses.replace(study, verdict=told))
    box = source[source.index('<div class="verdict severe">') :]
    first = box[: box.index("</p>")]
    assert "the counts of FLOPs do not agree" in first


def test_the_download_is_the_whole_table_as_compare_reads_it(
    study: StudyContent, measurements: pa.Table, tmp_path: Path
) -> None:
    from curate.comparator import read_results

    (block,) = [text for attributes, text in Read(page(study)).blocks if attributes.get("id") == "measurements-csv"]
    path = tmp_path / "measurements.csv"
    path.write_text(json.loads(block), encoding="utf-8")
    again = read_results(path)
    for name in ("run_id", "dataset", "params", "tokens", "flops", "seed", "metric", "value", "hyperparameters"):
        assert again[name].to_pylist() == measurements[name].to_pylist(), name


def test_what_recipes_share_is_drawn_once(study: StudyContent) -> None:
    source = page(study)
    assert source.count(">gopher_quality.words</text>") == 2  # the histogram's title and its axis
    assert source.count("all datasets") >= 3
    apart = dataclasses.replace(study.datasets[0], samples={})
    source = page(dataclasses.replace(study, datasets=[apart, *study.datasets[1:]]))
    assert "heuristics, full" in source


def test_the_file_is_utf8_and_is_replaced_at_once(study: StudyContent, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(study, path)
    write_report(study, path)
    assert path.read_bytes().decode("utf-8") == page(study)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_the_same_study_gives_the_same_bytes(study: StudyContent) -> None:
    assert page(study) == page(study)


def test_a_comparison_has_no_curation(verdict: Any, measurements: pa.Table, tmp_path: Path) -> None:
    write_comparison(verdict, measurements, tmp_path / "page.html")
    read = Read((tmp_path / "page.html").read_text(encoding="utf-8"))
    sections = [attributes.get("id") for name, attributes in read.elements if name == "section"]
    assert sections == ["ranking", "laws", "measurements", "provenance"]


def test_curation_alone_makes_a_page(study: StudyContent) -> None:
    bare = dataclasses.replace(study, verdict=None, measurements=None, curves=None)
    read = Read(page(bare))
    sections = [attributes.get("id") for name, attributes in read.elements if name == "section"]
    assert sections == ["curation", "provenance"]


def test_a_dataset_without_documents_makes_a_page(study: StudyContent) -> None:
    empty = dataclasses.replace(
        study.datasets[0], documents=0, text_bytes=0, funnel=[], histograms={}, samples={}, duplicates=[], artifacts={},
        stages=[], steps=[],
    )  # fmt: skip
    Read(page(dataclasses.replace(study, datasets=[empty])))


def test_results_without_scales_seeds_and_sizes_make_a_page(tmp_path: Path) -> None:
    """`curate compare` takes a table of dataset, metric and value with compute alone."""
    from curate.comparator import compare, read_results

    path = tmp_path / "results.csv"
    rows = [
        f"{name},acc,{0.3 + level + 0.05 * place},{10.0 ** (18 + place)},false"
        for name, level in (("=a", 0.0), ("b", 0.1))
        for place in range(4)
    ]
    path.write_text("dataset,metric,value,flops,lower_is_better\n" + "\n".join(rows) + "\n", encoding="utf-8")
    table = read_results(path)
    verdict = compare(table, metric="acc", at=[1e20], bootstraps=100)
    write_comparison(verdict, table, tmp_path / "page.html")
    shown = " ".join(Read((tmp_path / "page.html").read_text(encoding="utf-8")).text)
    assert "higher is better" in shown and "=a" in shown
