"""The page in headless Chromium: figures are drawn under the policy without a word on the console, nothing is asked of
the network, nothing of the data ran.
"""

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


def rendered(path: Path, profile: Path, *, tall: int = 9000) -> tuple[str, list[str]]:
    """The document after its scripts ran, as Chromium writes it; and what it said on the console."""
    log = profile.with_suffix(".net.json")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", f"--window-size=1240,{tall}", "--virtual-time-budget=9000",
        "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=180, check=True)
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if ":CONSOLE:" in line]
    asked = set(re.findall(r'"url":"(https?://[^"]*)"', log.read_text(encoding="utf-8", errors="replace")))
    ours = {url for url in asked if "google" not in url and "gvt1" not in url}  # the browser's own errands
    assert not ours, f"the page asked for {ours}"
    return done.stdout.decode("utf-8"), said


def test_the_page_draws_its_figures_without_a_word_on_the_console(study: StudyContent, tmp_path: Path) -> None:
    write_report(study, tmp_path / "report.html")
    shown, said = rendered(tmp_path / "report.html", tmp_path / "profile")
    assert said == []
    assert 'data-ready="yes"' in shown
    assert re.search(r'<p class="broken" id="script-error" hidden="">\s*</p>', shown)
    places = re.findall(r'<div class="plot[^"]*" id="([^"]*)"( data-drawn="yes")?>', shown)
    waiting = {name for name, drawn in places if not drawn}
    assert waiting == {"law-0", "law-1", "law-2"}  # these are folded away
    assert len(places) - len(waiting) >= 1 + 1 + 1 + 3 + 1 + 4
    markers = re.findall(r'<path class="point\b', shown)
    assert len(markers) >= 54 + 36
    assert shown.count('class="hm"') == 1 and shown.count('class="slider-container"') == 1
    assert "<title>which-recipe</title>" in shown


def test_hostile_text_runs_nothing_and_leaves_the_page_whole(hostile: StudyContent, tmp_path: Path) -> None:
    write_report(hostile, tmp_path / "report.html")
    shown, said = rendered(tmp_path / "report.html", tmp_path / "profile")
    assert said == []
    assert 'data-ready="yes"' in shown and shown.count('data-drawn="yes"') >= 11
    assert re.search(r'<p class="broken" id="script-error" hidden="">\s*</p>', shown)
    body = re.sub(r"<script.*?</script>", "", shown[shown.index("<body") :], flags=re.S)
    assert not re.search(r"<(img|iframe|script|textarea|object|embed|base|link)\b", body)
    assert not re.search(r'<a [^>]*href="(?!#)', body)  # plotly would make links of some names
    assert 'id="provenance"' in shown


TRIAL = """
addEventListener("load", async () => {
await new Promise((resolve) => setTimeout(resolve, 3000));
const result = {};
const table = document.querySelector("#measurements table.sortable");
const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[4].dataset.sort));
const ordered = (values, sign) => values.every((value, place) => !place || sign * (value - values[place - 1]) >= 0);
table.tHead.rows[0].cells[4].click();
result.rising = ordered(column(), 1);
table.tHead.rows[0].cells[4].click();
result.falling = ordered(column(), -1);
result.rows = column().length;
const law = () => document.getElementById("law").data.filter((trace) => trace.meta && trace.meta.series === 0);
document.querySelector('button[data-toggle="0"]').click();
result.hides = law().length > 3 && law().every((trace) => trace.visible === false);
document.querySelector('button[data-toggle="0"]').click();
result.shows = law().every((trace) => trace.visible !== false);
document.querySelector('button[data-toggle="1"]').dispatchEvent(new MouseEvent("dblclick"));
const all = document.getElementById("law").data;
result.alone = all.every((trace) => (trace.visible !== false) === (trace.meta.series === 1));
const files = {};
URL.createObjectURL = (blob) => { files[blob.type] = blob.size; return "#"; };
document.querySelectorAll("button[data-download]").forEach((button) => button.click());
result.files = files;
const slider = document.getElementById("ranking-by-compute");
const step = slider.layout.sliders[0].steps[0];
await Plotly.update(slider, ...step.args);
result.moved = slider.layout.yaxis.ticktext.length === 3 && slider.data[0].x[0] === step.args[0].x[0][0];
const folded = document.getElementById("law-1");
folded.closest("details").open = true;
await new Promise((resolve) => setTimeout(resolve, 1500));
result.unfolded = folded.dataset.drawn;
document.body.dataset.result = JSON.stringify(result);
});
"""


def test_sorting_hiding_sliding_unfolding_and_the_downloads_work(study: StudyContent, tmp_path: Path) -> None:
    """A trial script presses what a reader would; for it the copy under test has no policy."""
    source = re.sub(r"<meta http-equiv=[^>]*>", "", page(study))
    trial = f"<script>{TRIAL}</script></body>"
    (tmp_path / "trial.html").write_text(source.replace("</body>", trial), encoding="utf-8")
    shown, _ = rendered(tmp_path / "trial.html", tmp_path / "profile")
    found = re.search(r'data-result="([^"]*)"', shown)
    assert found is not None, "the trial script did not come to its end"
    result = json.loads(html.unescape(found.group(1)))
    assert result["rising"] and result["falling"] and result["rows"] == 36
    assert result["hides"] and result["shows"] and result["alone"]
    assert result["moved"] and result["unfolded"] == "yes"
    assert study.measurements is not None
    assert result["files"]["text/csv"] == len(as_csv(study.measurements).encode())
    assert result["files"]["application/json"] > 50_000
