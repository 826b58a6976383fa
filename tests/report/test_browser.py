"""The page in headless Chromium: plots are there, the script ran under its policy, nothing of the data ran."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from curate.report.content import StudyContent
from curate.report.page import write_report

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
    assert shown.count("data-hint=") > 60 and "<title>" not in shown.split("</title>", 1)[1]  # hints moved into our box


def test_hostile_text_runs_nothing_and_leaves_the_page_whole(hostile: StudyContent, tmp_path: Path) -> None:
    write_report(hostile, tmp_path / "report.html")
    shown = rendered(tmp_path / "report.html", tmp_path / "profile")
    assert 'data-ready="yes"' in shown
    assert re.search(r'<p class="broken" id="script-error" hidden="">\s*</p>', shown)
    body = re.sub(r"<script.*?</script>", "", shown, flags=re.S)
    assert not re.search(r"<(img|iframe|script|textarea|object|embed|base|link)\b", body)
    assert len(re.findall(r"<script", shown)) == 2
    assert 'id="provenance"' in shown
