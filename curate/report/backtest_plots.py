"""Interactive figure of decision accuracy against the compute that each way of ranking needed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.report.axes import Axis, axis_over
from curate.report.labels import label, plains
from curate.report.looks import styles
from curate.report.numbers import interval, power_of_ten
from curate.report.plots import Plot, axes_layout, marker

if TYPE_CHECKING:
    from curate.comparator.backtests.decisions import DecisionRow


def decision_plot(rows: "Sequence[DecisionRow]") -> Plot:
    """A line a method: share of pairs in the target's order over compute used, with intervals."""
    usable = [row for row in rows if row.flops > 0 and math.isfinite(row.accuracy.value)]
    looks = styles([row.method for row in usable])
    x = axis_over([row.flops for row in usable], "compute used by the ranking (FLOPs)", log=True)
    y = Axis(-0.02, 1.04, "share of pairs in the target's order")
    layout = axes_layout(x, y, height=360) | {
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "shapes": [_guessing()],
    }
    traces = []
    for place, (method, look) in enumerate(looks.items()):
        own = sorted((row for row in usable if row.method == method), key=lambda row: row.flops)
        shift = 1 + 0.012 * (place - (len(looks) - 1) / 2)  # intervals of several methods stand beside each other
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(method, 40),
                "x": plains((row.flops * shift for row in own), 5),
                "y": plains(row.accuracy.value for row in own),
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": plains((row.accuracy.high - row.accuracy.value for row in own), 4),
                    "arrayminus": plains((row.accuracy.value - row.accuracy.low for row in own), 4),
                    "thickness": 1.1,
                    "width": 0,
                    "color": look.colour,
                },
                "line": {"color": look.colour, "width": 1.4},
                "marker": marker(look),
                "customdata": [_hint(row) for row in own],
                "hovertemplate": "%{fullData.name}, %{customdata[0]}<br>%{y:.3f} %{customdata[1]} of %{customdata[2]} "
                "pairs<br>%{customdata[3]} FLOPs, %{customdata[4]} runs<extra></extra>",
            }
        )
    return Plot(traces, layout)


def _hint(row: "DecisionRow") -> list[Any]:
    bounds = interval(row.accuracy.low, row.accuracy.high, 2)
    return [label(row.scale, 40), bounds, row.accuracy.pairs, power_of_ten(row.flops), row.runs]


def _guessing() -> dict[str, Any]:
    line = {"color": "#555555", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0.5, "y1": 0.5, "line": line}
