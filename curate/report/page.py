"""The report: one HTML file that needs nothing else. Plots are inline SVG, style and script are inlined once.

A Content-Security-Policy lets the browser run that one script (by its hash) and load nothing: were some text ever to
slip through as markup, it could neither run nor call home. A study of the demo's size gives a page of about 1 MB.
"""

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.report.content import StudyContent
from curate.report.curation_sections import curation_section
from curate.report.elements import legend, note
from curate.report.figures import styles
from curate.report.law_sections import laws_section
from curate.report.markup import Html, join, shortened, tag
from curate.report.measurement_sections import measurements_section
from curate.report.provenance import provenance_section
from curate.report.verdict_sections import ranking_section, verdict_box

if TYPE_CHECKING:
    from curate.comparator.verdict import Verdict


def write_report(content: StudyContent, path: Path) -> None:
    """Write the page of a study; makes the folder, and replaces the file at once so that no reader sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(page(content), encoding="utf-8")
    beside.replace(path)


def write_comparison(verdict: "Verdict", measurements: pa.Table, path: Path) -> None:
    """Write the page of a comparison without datasets: results that were measured elsewhere."""
    import datetime

    from curate import __version__

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    name = f"Comparison of {', '.join(verdict.datasets)}"
    write_report(StudyContent(name, __version__, now, [], measurements, None, verdict), path)


def page(content: StudyContent) -> Html:
    """The page as text."""
    looks = styles(_dataset_names(content))
    parts: list[tuple[str, str, Html]] = []
    if content.verdict is not None:
        parts.append(("ranking", "Ranking", ranking_section(content.verdict, looks)))
        parts.append(("laws", "Scaling laws", laws_section(content.verdict, looks)))
    if content.measurements is not None and content.measurements.num_rows:
        shown = measurements_section(content.measurements, content.curves, content.verdict, looks)
        parts.append(("measurements", "Measurements", shown))
    if content.datasets:
        parts.append(("curation", "Curation", curation_section(content.datasets, looks)))
    parts.append(("provenance", "Provenance", provenance_section(content, looks)))
    links = [tag("a", title, attributes={"href": f"#{name}"}) for name, title, _ in parts]
    body = tag("body",
        tag("p.broken", attributes={"id": "script-error", "hidden": True}),
        tag("header",
            tag("h1", shortened(content.name, 200), attributes={"dir": "auto"}),
            note(f"curate {shortened(content.version, 40)} · {shortened(content.created, 40)}"),
            verdict_box(content.verdict) if content.verdict is not None else None,
            tag("nav", links)),
        legend(looks) if content.verdict is not None else None,
        tag("main", [tag("section", tag("h2", title), shown, attributes={"id": name}) for name, title, shown in parts]),
        tag("div", attributes={"id": "tip", "hidden": True}),
        _inlined("script", _SCRIPT),
    )  # fmt: skip
    return join([Html("<!doctype html>\n"), tag("html", _head(content.name), body, attributes={"lang": "en"}), "\n"])


def _dataset_names(content: StudyContent) -> list[str]:
    """The study's datasets in its order, then whatever else was measured or compared."""
    names = [dataset.name for dataset in content.datasets]
    names += content.verdict.datasets if content.verdict is not None else ()
    if content.measurements is not None:
        names += sorted(content.measurements["dataset"].unique().to_pylist())
    return list(dict.fromkeys(names))


def _asset(name: str) -> str:
    return files("curate.report").joinpath(name).read_text(encoding="utf-8")


_STYLE, _SCRIPT = _asset("page.css"), _asset("page.js")


def _inlined(name: str, content: str) -> Html:
    """Our own style or script, as it stands: the policy names the hash of exactly these bytes."""
    return Html(f"<{name}>{content}</{name}>")


def _head(title: str) -> Html:
    policy = (
        f"default-src 'none'; script-src '{_hash(_SCRIPT)}'; style-src '{_hash(_STYLE)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag("head",
        tag("meta", attributes={"charset": "utf-8"}),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>'),
        tag("meta", attributes={"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", attributes={"name": "referrer", "content": "no-referrer"}),
        tag("title", shortened(title, 120)),
        _inlined("style", _STYLE),
    )  # fmt: skip


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
