"""The page: everything is there, it needs no network, and hostile text stays text."""

import base64
import dataclasses
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.comparator import compare, load_example
from curate.comparator.verdict import Estimate
from curate.report.backtest_section import backtest_section
from curate.report.content import StudyContent
from curate.report.looks import styles
from curate.report.markup import visible
from curate.report.measurement_sections import measurements_section
from curate.report.page import page, write_comparison, write_report

OURS = set(
    "html head meta title style body script header nav main section h1 h2 h3 p a div span b br button code pre mark ul "
    "li table caption thead tbody tr th td figure figcaption details summary svg path rect line text "
    "label select option".split()
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
    "converged",
    "gopher_quality.words",
    "≥ 50",
    "measured 41, threshold 50",
    "two three Some text of a page.",
    "similarity 0.870",
    "Task by task",
    "pairs as in the verdict",
    "Decision accuracy",
    "Download the verdict as JSON",
    "10 of 1,000 records failed",
    "held out.auc",
    "0.987",
    "candidate_pairs 260",
    "3 on 0.2M",
]


PLOTTED = [
    "training compute C (FLOPs)",
    "bits per byte (lower is better)",
    "full over raw",
    "scale 0.2M",
    "training loss (nats/token)",
    "advantage over the mean (bits per byte)",
    "compute used by the ranking (FLOPs)",
]
"""What stands in the figures' data."""


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


def test_only_our_elements_and_our_two_scripts_stand_on_the_page(content: StudyContent) -> None:
    read = Read(page(content))
    assert {name for name, _ in read.elements} <= OURS
    kinds = [attributes.get("type", "code") for attributes, _ in read.blocks]
    assert kinds.count("code") == 2 and kinds[-2:] == ["code", "code"]
    assert set(kinds) == {"application/json", "code"}
    assert read.comments == []
    names = {attribute for _, attributes in read.elements for attribute in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "srcset", "style", "action")]


def test_figures_are_data_that_nothing_in_it_can_leave(content: StudyContent) -> None:
    read = Read(page(content))
    blocks = {str(attributes["id"]): text for attributes, text in read.blocks if "id" in attributes}
    plots = [str(a["id"]) for name, a in read.elements if name == "div" and a.get("class") == "plot"]
    assert len(plots) == len(set(plots)) >= 1 + 1 + 1 + 3 + 3 + 1 + 4
    for place in plots:
        text = blocks[f"{place}-data"]
        assert not set("<>&") & set(text) and text.isascii()
        assert set(json.loads(text)) == {"data", "layout"}


def test_plotly_comes_from_the_installed_package_and_is_not_touched(study: StudyContent) -> None:
    import plotly.offline

    scripts = [text for attributes, text in Read(page(study)).blocks if "type" not in attributes]
    assert scripts[0] == plotly.offline.get_plotlyjs()


def test_the_page_asks_nobody_for_anything(content: StudyContent) -> None:
    source = page(content)
    read = Read(source)
    links = [attributes["href"] for _, attributes in read.elements if "href" in attributes]
    assert links and all(re.fullmatch(r"#[a-z]+", str(link)) for link in links)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style and "@import" not in style
    code = [text for attributes, text in read.blocks if not attributes][-1]
    assert not re.search(r"fetch|XMLHttp|WebSocket|import\(|innerHTML|eval|https?:", code)


def test_the_policy_allows_our_scripts_and_style_by_hash_and_nothing_else(study: StudyContent) -> None:
    source = page(study)
    read = Read(source)
    metas = [attributes for name, attributes in read.elements if name == "meta"]
    (policy,) = [a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = [text for attributes, text in read.blocks if "type" not in attributes]
    assert allowed["script-src"] == " ".join(digest(text) for text in scripts)
    style = source[source.index("<style>") + len("<style>") : source.index("</style>")]
    assert allowed["style-src"] == f"{digest(style)} {digest('')}"
    assert allowed["img-src"] == "data: blob:"
    assert set(allowed) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_hostile_text_is_shown_as_it_is(hostile: StudyContent, hostile_text: str) -> None:
    read = Read(page(hostile))
    shown = "".join(read.text)
    assert visible(hostile_text)[:150] in shown
    assert "‮" not in shown and "\x00" not in shown and "\x1b" not in shown


def test_nothing_of_any_length_makes_the_page_heavy(hostile: StudyContent) -> None:
    assert len(page(hostile).encode()) < 9_000_000


def test_every_section_has_its_content(study: StudyContent) -> None:
    read = Read(page(study))
    sections = [attributes.get("id") for name, attributes in read.elements if name == "section"]
    assert sections == [
        "ranking", "warnings", "laws", "scales", "backtest", "measurements", "curation", "provenance",
    ]  # fmt: skip
    shown = "".join(read.text)
    for words in EXPECTED:
        assert words in shown, words
    drawn = " ".join(text for attributes, text in read.blocks if str(attributes.get("id", "")).endswith("-data"))
    for words in PLOTTED:
        assert words in drawn, words


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


def test_the_verdict_to_download_is_the_verdict(study: StudyContent) -> None:
    (block,) = [text for attributes, text in Read(page(study)).blocks if attributes.get("id") == "verdict-json"]
    held = json.loads(block)
    assert study.verdict is not None
    whole = study.verdict.to_dict()
    assert set(held) == set(whole) and held["lines"] == whole["lines"]
    gaps = [pair["comparisons"][0]["gap"]["value"] for pair in held["headline"]["pairs"]]
    assert gaps == pytest.approx([pair.comparisons[0].gap.value for pair in study.verdict.pairs], rel=1e-5)


def test_a_heavy_verdict_says_what_its_download_lacks(study: StudyContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.report.downloads.MOST_JSON_NUMBERS", 100)
    read = Read(page(study))
    (block,) = [text for attributes, text in read.blocks if attributes.get("id") == "verdict-json"]
    held = json.loads(block)
    assert len(held["left_out"]) == 3 and "gap_curve" not in held["headline"]["pairs"][0]
    shown = "".join(read.text)
    for words in held["left_out"]:
        assert words in shown


def test_many_findings_of_one_kind_are_folded(study: StudyContent) -> None:
    from curate.comparator.verdict import Check

    assert study.verdict is not None
    checks = tuple(Check("epochs", "warning", f"finding {number}", "do less") for number in range(9))
    told = dataclasses.replace(study.verdict, checks=checks)
    shown = "".join(Read(page(dataclasses.replace(study, verdict=told))).text)
    assert "6 more of the same (epochs)" in shown and "finding 8" in shown


def many(study: StudyContent, count: int) -> StudyContent:
    """The study's verdict stretched over `count` datasets: every pair a copy of one of its own."""
    verdict = study.verdict
    assert verdict is not None
    result, names = verdict.headline, [f"dataset {number:02d}" for number in range(count)]
    pairs = []
    for place, (first, second) in enumerate(combinations(names, 2)):
        pair = result.pairs[place % len(result.pairs)]
        found = tuple(dataclasses.replace(each, better=first, worse=second) for each in pair.comparisons)
        pairs.append(dataclasses.replace(pair, first=first, second=second, comparisons=found))

    def ranked(ranking: Any) -> Any:
        order = [ranking.order[place % len(ranking.order)] for place in range(count)]
        renamed = [dataclasses.replace(each, dataset=name) for each, name in zip(order, names, strict=True)]
        return dataclasses.replace(ranking, order=tuple(renamed))

    fits = [result.fits[place % len(result.fits)] for place in range(2 * count)]
    headline = dataclasses.replace(
        result,
        datasets=tuple(names),
        pairs=tuple(pairs),
        rankings=tuple(map(ranked, result.rankings)),
        ranking_curve=tuple(map(ranked, result.ranking_curve)),
        fits=tuple(dataclasses.replace(fit, dataset=names[place // 2]) for place, fit in enumerate(fits)),
        points=tuple(dataclasses.replace(point, dataset=name) for name in names for point in result.points[:40]),
    )
    return dataclasses.replace(study, datasets=[], verdict=dataclasses.replace(verdict, headline=headline))


def test_a_page_of_25_datasets_and_300_pairs_is_light_quick_and_shows_the_best_first(study: StudyContent) -> None:
    wide = many(study, 25)
    began = time.process_time()
    source = page(wide)
    assert time.process_time() - began < 20
    assert len(source.encode()) < 15_000_000
    read = Read(source)
    pressed = [a.get("aria-pressed") for name, a in read.elements if name == "button" and "data-toggle" in a]
    assert pressed.count("true") == 8 and len(pressed) == 28  # three more names have loss curves
    blocks = {str(attributes.get("id")): text for attributes, text in read.blocks}
    assert len(json.loads(blocks["gap-data"])) == 300
    assert len(json.loads(blocks["pairs-data"])) == 2  # computes asked for


def test_what_was_left_out_is_counted_and_named(study: StudyContent) -> None:
    from curate.comparator.verdict import Excluded

    assert study.verdict is not None
    out = Excluded("bits_per_byte", 17, "they differ in batch size", ("alpha", "beta"))
    read = Read(page(dataclasses.replace(study, verdict=dataclasses.replace(study.verdict, excluded=(out,)))))
    shown = " ".join(read.text)
    assert "17" in shown and "they differ in batch size" in shown and "alpha, beta" in shown


def test_bands_that_do_not_cover_are_called_so(study: StudyContent) -> None:
    assert study.verdict is not None and study.verdict.headline.backtest is not None
    tested = study.verdict.headline.backtest
    law = tested.law()
    claimed = dataclasses.replace(law.overall.claimed, verdict="does not cover")
    broken = dataclasses.replace(law, overall=dataclasses.replace(law.overall, claimed=claimed))
    laws = tuple(broken if each.law == law.law else each for each in tested.laws)
    headline = dataclasses.replace(study.verdict.headline, backtest=dataclasses.replace(tested, laws=laws))
    told = dataclasses.replace(study.verdict, headline=headline)
    shown = "".join(Read(page(dataclasses.replace(study, verdict=told))).text)
    assert "The bands do NOT cover what they claim" in shown


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
    assert sections == ["ranking", "warnings", "laws", "scales", "backtest", "measurements", "provenance"]


def test_curation_alone_makes_a_page(study: StudyContent) -> None:
    bare = dataclasses.replace(study, verdict=None, measurements=None, curves=None)
    read = Read(page(bare))
    sections = [attributes.get("id") for name, attributes in read.elements if name == "section"]
    assert sections == ["curation", "provenance"]
    kinds = [attributes.get("type", "code") for attributes, _ in read.blocks]
    assert kinds == ["code"]  # nothing to plot: no plotly


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


def test_the_page_names_few_datasets_and_counts_many(study: StudyContent, tmp_path: Path) -> None:
    for content, words in ((study, "Comparison of "), (many(study, 25), "Comparison of 25 datasets by ")):
        assert content.verdict is not None and content.measurements is not None
        write_comparison(content.verdict, content.measurements, tmp_path / "page.html")
        title = (tmp_path / "page.html").read_text().partition("<title>")[2].partition("</title>")[0]
        assert title.startswith(words)
        assert len(title) < 200


def test_what_was_compared_leads_the_table_of_measurements() -> None:
    example = load_example("gadre")
    verdict = compare(example.table, metric="loss/c4_val", bootstraps=100)
    section = str(measurements_section(example.table, None, verdict, styles(verdict.datasets)))
    heads = re.findall("<th[^>]*>(.*?)</th>", section)
    assert heads[6] == "loss, c4 val"
    assert "8 of 56 metrics" in section
    assert "263B" in section and "263G" not in section


def test_the_curves_law_is_judged_beside_the_one_that_the_back_test_chose(study: StudyContent) -> None:
    example = load_example("gadre")
    verdict = compare(example.table, metric="loss/c4_val", law="power", bootstraps=100)
    assert verdict.headline.backtest is not None
    section = str(backtest_section(verdict.headline.backtest, used="power"))
    assert "The bands cover what they claim (chinchilla)" in section
    assert re.search("those of the power law: the 95% band held .* does not cover", section)
    assert "Chosen by the of" not in section


def test_a_multiplier_has_the_same_digits_on_the_page_and_on_the_terminal(study: StudyContent) -> None:
    verdict = study.verdict
    assert verdict is not None
    near_one = Estimate(1.02, 0.98, 1.07)
    pairs = tuple(
        dataclasses.replace(
            p, comparisons=tuple(dataclasses.replace(c, multiplier=near_one, decided=True) for c in p.comparisons)
        )
        for p in verdict.pairs
    )
    changed = dataclasses.replace(verdict, headline=dataclasses.replace(verdict.headline, pairs=pairs))
    shown = page(dataclasses.replace(study, verdict=changed))
    assert "×1.02" in shown
    assert "[.98, 1.07]" in shown
