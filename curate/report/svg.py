"""Small drawings as inline SVG: histograms, and glyphs in the cells of tables. Static markup: no script, no network.

A `Chart` maps data to pixels; marks are added in drawing order and clipped to the plot. What is not finite, or not
positive on a log axis, is left out. Large figures are plotly's (plots.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from curate.report.axes import Axis, Number
from curate.report.markup import Html, join, shortened, tag


@dataclass
class Chart:
    """One plot; the marks lie inside, labels and ticks around."""

    x: Axis
    y: Axis
    width: float = 720
    height: float = 400
    title: str = ""
    left: float = 64
    right: float = 14
    top: float = 14
    bottom: float = 46
    marks: list[Html] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.title:
            self.top += 18

    @property
    def plot_width(self) -> float:
        """Width of the inner plot in pixels."""
        return self.width - self.left - self.right

    @property
    def plot_height(self) -> float:
        """Height of the inner plot in pixels."""
        return self.height - self.top - self.bottom

    def at(self, x: Number, y: Number) -> tuple[float, float] | None:
        """Pixels within the inner plot; kept near it, so that no browser sees absurd coordinates."""
        across, up = self.x.place(x), self.y.place(y)
        if across is None or up is None:
            return None
        return _near(across) * self.plot_width, (1 - _near(up)) * self.plot_height

    def bar(self, low: float, high: float, value: float, fill: str, *, base: float = 0.0, hint: str = "") -> None:
        """A bar over [low, high] on the x axis, from `base` up to `value`."""
        start, end = self.at(low, value), self.at(high, base)
        if start is None or end is None or end[1] - start[1] <= 0:
            return
        self.marks.append(
            tag(
                "rect",
                *_hint(hint),
                attributes={
                    "x": start[0],
                    "y": start[1],
                    "width": max(0.5, end[0] - start[0] - 0.6),
                    "height": max(0.8, end[1] - start[1]),
                    "fill": fill,
                },
            )
        )

    def vertical(self, x: Number, stroke: str = "#555", *, dash: str | None = "2 3", label: str = "") -> None:
        """A vertical line over the whole plot, with a word at its top."""
        across = self.x.place(x)
        if across is None or not -0.001 <= across <= 1.001:
            return
        place = across * self.plot_width
        self.marks.append(_stroke(place, 0, place, self.plot_height, stroke, dash=dash))
        if label:
            turned = across > 0.6
            self.marks.append(
                tag(
                    "text.small",
                    label,
                    attributes={
                        "x": place + (-4 if turned else 4),
                        "y": 11,
                        "fill": stroke,
                        "text-anchor": "end" if turned else "start",
                    },
                )
            )

    def render(self) -> Html:
        """The finished SVG element."""
        inner = tag(
            "svg",
            self.marks,
            attributes={
                "x": self.left,
                "y": self.top,
                "width": self.plot_width,
                "height": self.plot_height,
                "overflow": "hidden",
            },
        )
        label = self.title or f"{self.y.label} over {self.x.label}"
        return tag(
            "svg.chart",
            self._title(),
            self._grid(),
            inner,
            self._labels(),
            attributes={
                "viewBox": f"0 0 {self.width:g} {self.height:g}",
                "width": self.width,
                "height": self.height,
                "role": "img",
                "aria-label": shortened(label, 200),
            },
        )

    def _title(self) -> Html | None:
        if not self.title:
            return None
        shown = shortened(self.title, int(self.width / 7.6))
        return tag("text.title", shown, attributes={"x": 6, "y": 15})

    def _grid(self) -> Html:
        drawn = []
        for value, label in self.x.ticks():
            across = self.x.place(value)
            if across is None or not -0.001 <= across <= 1.001:
                continue
            x = self.left + across * self.plot_width
            drawn.append(_stroke(x, self.top, x, self.top + self.plot_height, "#e4e6ea"))
            place = {"x": x, "y": self.height - self.bottom + 16, "text-anchor": "middle"}
            drawn.append(tag("text.tick", label, attributes=place))
        for value, label in self.y.ticks():
            up = self.y.place(value)
            if up is None or not -0.001 <= up <= 1.001:
                continue
            y = self.top + (1 - up) * self.plot_height
            drawn.append(_stroke(self.left, y, self.width - self.right, y, "#e4e6ea"))
            drawn.append(tag("text.tick", label, attributes={"x": self.left - 7, "y": y + 4, "text-anchor": "end"}))
        frame = {"x": self.left, "y": self.top, "width": self.plot_width, "height": self.plot_height, "fill": "none"}
        drawn.append(tag("rect", attributes=frame | {"stroke": "#b8bcc4"}))
        return join(drawn)

    def _labels(self) -> Html:
        across = {"x": self.left + self.plot_width / 2, "y": self.height - 8, "text-anchor": "middle"}
        middle = self.top + self.plot_height / 2
        up = {"x": 14, "y": middle, "text-anchor": "middle", "transform": f"rotate(-90 14 {middle:.1f})"}
        return join(
            [
                tag("text.label", shortened(self.x.label, int(self.plot_width / 6)), attributes=across),
                tag("text.label", shortened(self.y.label, int(self.plot_height / 5.6)), attributes=up),
            ]
        )


@cache
def key(shape: str, fill: str) -> Html:
    """A line with its marker, for a legend."""
    drawn = {"d": _marker_path(shape, 13, 7, 4.2), "fill": fill, "stroke": "#fff", "stroke-width": 0.8}
    return tag(
        "svg.key",
        _stroke(0, 7, 26, 7, fill, width=2),
        tag("path", attributes=drawn),
        attributes={"width": 26, "height": 14, "viewBox": "0 0 26 14", "aria-hidden": "true"},
    )


def bar_of(parts: Sequence[tuple[float, str, str]], *, width: float = 220, height: float = 12) -> Html:
    """A bar of segments (share of the width, colour, hint) on a light ground, for a table's cell."""
    drawn = [tag("rect", attributes={"x": 0, "y": 0, "width": width, "height": height, "fill": "#eef0f3"})]
    start = 0.0
    for part, fill, hint in parts:
        length = max(0.0, min(1.0, part)) * width
        if length > 0:
            place = {"x": start, "y": 0, "width": max(0.6, length), "height": height, "fill": fill}
            drawn.append(tag("rect", *_hint(hint), attributes=place))
            start += length
    return _in_cell(drawn, width, height)


def interval_of(
    low: Number, value: Number, high: Number, axis: Axis, fill: str, *, width: float = 220, height: float = 18
) -> Html:
    """A point with its interval against a zero line, for a table's cell; cells that share an axis can be compared."""
    middle = height / 2
    drawn = []
    zero = axis.place(0.0)
    if zero is not None and 0 <= zero <= 1:
        drawn.append(_stroke(zero * width, 0, zero * width, height, "#888"))
    places = [axis.place(each) for each in (low, value, high)]
    ends = [None if place is None else max(0.0, min(1.0, place)) * width for place in places]
    if ends[0] is not None and ends[2] is not None:
        drawn.append(_stroke(ends[0], middle, ends[2], middle, fill, width=2))
    if ends[1] is not None:
        drawn.append(tag("path", attributes={"d": _marker_path("circle", ends[1], middle, 4), "fill": fill}))
    return _in_cell(drawn, width, height)


def dots_of(values: Sequence[Number], axis: Axis, fill: str, *, width: float = 220, height: float = 18) -> Html:
    """Single values as dots on a line, for a table's cell; cells that share an axis can be compared."""
    middle = height / 2
    drawn = [_stroke(0, middle, width, middle, "#e4e6ea")]
    for value in values:
        place = axis.place(value)
        if place is not None and -0.001 <= place <= 1.001:
            shape = {"d": _marker_path("circle", place * width, middle, 3.4), "fill": fill, "fill-opacity": 0.75}
            drawn.append(tag("path", attributes=shape))
    return _in_cell(drawn, width, height)


def _in_cell(drawn: Sequence[Html], width: float, height: float) -> Html:
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}", "aria-hidden": "true"}
    return tag("svg.bar", drawn, attributes=size)


def _near(place: float) -> float:
    return max(-20.0, min(21.0, place))


def _hint(hint: str | None) -> list[Html]:
    return [tag("title", shortened(hint, 600))] if hint else []


def _stroke(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    stroke: str,
    *,
    width: float = 1,
    dash: str | None = None,
) -> Html:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    look = {"stroke": stroke, "stroke-width": width, "stroke-dasharray": dash}
    return tag("line", attributes=ends | look)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


_SHAPES = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
    "inverted": ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    "cross": (
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
        (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ),
}  # fmt: skip


def _marker_path(shape: str, x: float, y: float, radius: float) -> str:
    if shape == "circle":
        across = 2 * radius
        return f"M{x - radius:.1f} {y:.1f}a{radius} {radius} 0 1 0 {across} 0a{radius} {radius} 0 1 0 {-across} 0Z"
    return _path([(x + dx * radius, y + dy * radius) for dx, dy in _SHAPES[shape]]) + "Z"
