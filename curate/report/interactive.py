"""Figures on the page: plotly's script inlined once from the installed package, each figure's data as JSON beside it.

The data stands in `<script type="application/json">` elements in which `<`, `>` and `&` are escaped, so nothing in it
can end the element; a small script of ours (page.js) reads it and draws one after another. Costs 4.8 MB a page
for plotly.js; nothing is loaded. Plotly works under a policy without `unsafe-inline` if the policy allows the empty
style element that it fills by rules, and if the style elements that it would bring filled already exist.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from curate.report.markup import Html, data_block, join, tag
from curate.report.plots import Plot

_OWN_STYLES = re.compile(r'createElement\("style"\);\w+\.id="([\w-]{1,80})"')


@cache
def plotly_script() -> str:
    """plotly.js as the installed package ships it."""
    source = files("plotly.package_data").joinpath("plotly.min.js").read_text(encoding="utf-8")
    # The policy names the hash of what the browser hashes: line ends as the parser leaves them.
    return source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\\0")


@cache
def style_places() -> Html:
    """Empty style elements by the names under which plotly.js looks whether its maps' style is there already."""
    names = list(dict.fromkeys(_OWN_STYLES.findall(plotly_script())))
    return join([tag("style", attributes={"id": name}) for name in names])


def figure(name: str, plot: Plot, *, caption: object = None) -> Html:
    """One figure; `name` is unique on the page."""
    return _figure(name, plot.to_dict(), caption)


def choice(name: str, plots: Sequence[tuple[str, Plot]], *, words: str) -> Html:
    """Several figures in one place, chosen from a list by their titles; the first one is shown first."""
    options = [tag("option", title, attributes={"value": place}) for place, (title, _) in enumerate(plots)]
    chooser = tag("label", f"{words} ", tag("select", options, attributes={"data-chooses": name}))
    drawn = _figure(name, [plot.to_dict() for _, plot in plots], None)
    return join([tag("p.choice", chooser), drawn])


def _figure(name: str, value: object, caption: object) -> Html:
    waiting = tag("div.plot", tag("p.note", "The page's script draws this figure."), attributes={"id": name})
    words = tag("figcaption", caption) if caption is not None else None
    return tag("figure", waiting, data_block(f"{name}-data", value), words)
