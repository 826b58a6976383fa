"""The page in headless Chromium: plots are there, the script ran under its policy, nothing of the data ran."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from curate.report.content import StudyContent
from curate.report.page import page, write_report
from curate.report.tables import as_csv

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: the page was not rendered"),
]


def rendered(path: Path, profile: Path) -> str:
    """The document after its script ran, as Chromium writes it."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", "--virtual-time-budget=4000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def test_the_page_draws_its_plots_and_its_script_runs(study: StudyContent, tmp_path: Path) -> None:
    write_report(study, tmp_path / "report.html")
    shown = rendered(tmp_path / "report.html", tmp_path / "profile")
    assert 'data-ready="yes"' in shown
    assert re.search(r'<p class="broken" id="script-error" hidden="">\s*</p>', shown)
    charts = re.findall(r'<svg class="chart".*?</svg>\s*</svg>|<svg class="chart"', shown, re.S)
    assert len(charts) >= 1 + 3 + 4 + 2  # law, gaps, loss curves, histograms
    assert shown.count('class="point"') >= 54
    assert "<title>which-recipe</title>" in shown
    body = shown[shown.index("<body>") : shown.index("<script>")]
    assert body.count("data-hint=") > 60 and "<title>" not in body  # hints moved into our own box


def test_hostile_text_runs_nothing_and_leaves_the_page_whole(hostile: StudyContent, tmp_path: Path) -> None:
    write_report(hostile, tmp_path / "report.html")
    shown = rendered(tmp_path / "report.html", tmp_path / "profile")
    assert 'data-ready="yes"' in shown
    assert re.search(r'<p class="broken" id="script-error" hidden="">\s*</p>', shown)
    body = re.sub(r"<script.*?</script>", "", shown, flags=re.S)
    assert not re.search(r"<(img|iframe|script|textarea|object|embed|base|link)\b", body)
    assert len(re.findall(r"<script", shown)) == 2
    assert 'id="provenance"' in shown


TRIAL = """
const result = {};
const table = document.querySelector("#measurements table.sortable");
const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[4].dataset.sort));
const ordered = (values, sign) => values.every((value, place) => !place || sign * (value - values[place - 1]) >= 0);
table.tHead.rows[0].cells[4].click();
result.rising = ordered(column(), 1);
table.tHead.rows[0].cells[4].click();
result.falling = ordered(column(), -1);
result.rows = column().length;
const marks = () => [...document.querySelectorAll('[data-series="0"]')];
const hidden = () => marks().filter((mark) => getComputedStyle(mark).display === "none").length;
document.querySelector('button[data-toggle="0"]').click();
result.hides = hidden() === marks().length && marks().length > 10;
document.querySelector('button[data-toggle="0"]').click();
result.shows = hidden() === 0;
URL.createObjectURL = (blob) => { result.type = blob.type; result.bytes = blob.size; return "#"; };
document.getElementById("download").click();
document.querySelector("path.point").dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
result.hint = document.getElementById("tip").textContent;
document.body.dataset.result = JSON.stringify(result);
"""


def test_sorting_hiding_hints_and_the_download_work(study: StudyContent, tmp_path: Path) -> None:
    """A trial script presses what a reader would; for it the copy under test has no policy."""
    source = re.sub(r"<meta http-equiv=[^>]*>", "", page(study))
    trial = f"<script>{TRIAL}</script></body>"
    (tmp_path / "trial.html").write_text(source.replace("</body>", trial), encoding="utf-8")
    shown = rendered(tmp_path / "trial.html", tmp_path / "profile")
    found = re.search(r'data-result="([^"]*)"', shown)
    assert found is not None, "the trial script did not come to its end"
    result = json.loads(html.unescape(found.group(1)))
    assert result["rising"] and result["falling"] and result["rows"] == 36
    assert result["hides"] and result["shows"]
    assert study.measurements is not None
    assert (result["type"], result["bytes"]) == ("text/csv", len(as_csv(study.measurements).encode()))
    assert "D = " in result["hint"] and "seed" in result["hint"]
