"""Line charts and scatter plots as inline SVG: text stays text, and colours follow the page's light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from launch.report.markup import Content, node

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 8, 26
_MOST_POINTS = 240
_RUN_COLOURS, _CLASS_COLOURS = 6, 8  # --r0 to --r5 and --c0 to --c7 of style.css, over again where there are more
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 2", "12 4")


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        label: of its run.
        run: number of the run, which decides colour and dash.
        x: steps.
        y: values.
    """

    label: str
    run: int
    x: Sequence[float]
    y: Sequence[float]


def line_chart(title: str, series: Sequence[Series], *, from_zero: bool = False, meaning: str = "") -> Element:
    """A figure of lines over steps, with the last value of each in words; long logs are averaged in equal parts.

    Args:
        title: what is drawn.
        series: a line each.
        from_zero: let the axis begin there, so that a small change looks small.
        meaning: a line below the title that says what the numbers are.
    """
    drawn = [_thinned(one) for one in series]
    x_low, x_high = _range([x for one in drawn for x in one.x], padded=False)
    y_low, y_high = _range([*(y for one in drawn for y in one.y), *[0.0] * from_zero], padded=True)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + across, 1), round(_HEIGHT - _BOTTOM - up, 1)

    grid: list[Content] = []
    for value in ticks(y_low, y_high):
        _, y = place(x_low, value)
        grid.append(node("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        grid.append(node("text", short(value), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for value in ticks(x_low, x_high):
        if value.is_integer():  # there is no half step
            x, _ = place(value, y_low)
            anchor = "end" if x > _WIDTH - 30 else "middle"
            grid.append(node("text", short(value), x=x, y=_HEIGHT - 8, text_anchor=anchor))
    grid.append(node("text", "step", x=_LEFT - 6, y=_HEIGHT - 8, text_anchor="end"))
    lines = [_line(one, [place(x, y) for x, y in zip(one.x, one.y, strict=True)]) for one in drawn]
    told = "; ".join(
        f"{f'{one.label}: ' if len(series) > 1 else ''}{number(one.y[0])} at step {one.x[0]:.0f}, "
        f"{number(one.y[-1])} at step {one.x[-1]:.0f}"
        for one in series
    )
    return node(
        "figure",
        node("figcaption", title, " ", _last(series), node("div", meaning, class_="meaning") if meaning else None),
        node(
            "svg", node("title", f"{title} over steps. {told}."), grid, lines,
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=f"{title} over steps. {told}.",
        ),
        class_="chart",
    )  # fmt: skip


def _last(series: Sequence[Series]) -> Element:
    """The last value of a line, or of each in the colour of its run."""
    if len(series) == 1:
        return node("span", f"last {number(series[0].y[-1])}", class_="last")
    coloured = [
        [" ", node("span", number(one.y[-1]), style=f"color: var(--r{one.run % _RUN_COLOURS})")] for one in series
    ]
    return node("span", "last", coloured, class_="last")


def _line(series: Series, points: Sequence[tuple[float, float]]) -> list[Content]:
    colour = f"var(--r{series.run % _RUN_COLOURS})"
    path = " ".join(f"{x},{y}" for x, y in points)
    dash = _DASHES[series.run % len(_DASHES)]
    x, y = points[-1]
    return [
        node("polyline", class_="line", points=path, style=f"stroke: {colour}", stroke_dasharray=dash),
        node("circle", class_="end", cx=x, cy=y, r=2.6, style=f"fill: {colour}"),
    ]


def run_key(run: int) -> Element:
    """A piece of a run's line, for the legend."""
    stroke = f"stroke: var(--r{run % _RUN_COLOURS})"
    line = node(
        "polyline", class_="line", points="1,6 33,6", style=stroke, stroke_dasharray=_DASHES[run % len(_DASHES)]
    )
    return node("svg", line, viewBox="0 0 34 12", aria_hidden="true")


def scatter(alt: str, points: Sequence[tuple[float, float]], kinds: Sequence[int], names: Sequence[str]) -> Element:
    """Marks at points of the unit square, coloured and shaped by class; a mark's name shows when pointed at.

    Args:
        alt: what is seen, in words.
        points: (x, y) in [0, 1].
        kinds: class of each.
        names: of each.
    """
    marks = [
        node("g", node("title", name), _mark(kind, 8 + x * 584, 8 + (1 - y) * 404))
        for (x, y), kind, name in zip(points, kinds, names, strict=True)
    ]
    return node("svg", marks, viewBox="0 0 600 420", role="img", aria_label=alt)


def class_key(kind: int) -> Element:
    """The mark of a class, for the legend."""
    return node("svg", _mark(kind, 6, 6, size=4.6), viewBox="0 0 12 12", aria_hidden="true")


def _mark(kind: int, x: float, y: float, *, size: float = 4.0) -> Element:
    fill = f"fill: var(--c{kind % _CLASS_COLOURS})"
    shape = (kind + kind // _CLASS_COLOURS) % 4
    x, y = round(x, 1), round(y, 1)
    if shape == 0:
        return node("circle", cx=x, cy=y, r=size, style=fill)
    if shape == 1:
        side = round(1.8 * size, 1)
        return node("rect", x=round(x - side / 2, 1), y=round(y - side / 2, 1), width=side, height=side, style=fill)
    reach = round(1.35 * size, 1)
    corners = [(0, -reach), (reach, reach * 0.8), (-reach, reach * 0.8)]
    if shape == 3:
        corners = [(0, -reach), (reach, 0), (0, reach), (-reach, 0)]
    return node("polygon", points=" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners), style=fill)


def bars(values: Sequence[float], alt: str) -> Element:
    """Bars of values in [0, 1] over the whole width, the largest in full colour."""
    width, largest = 100 / len(values), max(values)
    drawn = [
        node(
            "rect", x=round(place * width + 0.03 * width, 2), width=round(0.94 * width, 2), y=round(29 - 27 * value, 1),
            height=round(27 * value + 1, 1), class_="bar" if value < largest else "bar peak",
        )
        for place, value in enumerate(values)
    ]  # fmt: skip
    return node("svg", drawn, viewBox="0 0 100 30", role="img", aria_label=alt, preserveAspectRatio="none")


def scale(value: float, marks: Mapping[str, float], name: str) -> Element:
    """A bar from 0 to 100 per cent with a line of words below it for each mark.

    Args:
        value: length of the bar.
        marks: name to place of what it is compared with.
        name: what the bar shows, with its number.
    """
    lines: list[Content] = [
        node("rect", class_="ground", x=0, y=4, width=300, height=10, rx=2),
        node("rect", x=0, y=4, width=round(3 * min(value, 100.0), 1), height=10, rx=2, style="fill: var(--accent)"),
    ]
    # Words point to the middle, and the outermost mark has the lowest line, so that no mark runs through words.
    ordered = sorted(marks.items(), key=lambda one: abs(50 - one[1]))
    for line, (title, place) in enumerate(ordered):
        x, y = round(3 * place, 1), 30 + 15 * line
        right = x > 150
        lines.append(node("path", class_="mark", d=f"M{x},1 V{y}"))
        words = f"{title} {place:.1f}"
        lines.append(node("text", words, x=x - 4 if right else x + 4, y=y, text_anchor="end" if right else None))
    told = ", ".join([name, *(f"{title} {place:.1f} %" for title, place in ordered)])
    height = 20 + 15 * len(ordered)
    return node("svg", lines, viewBox=f"0 0 300 {height}", role="img", aria_label=told, class_="scale")


def _thinned(series: Series) -> Series:
    """At most so many points, each the mean of equally many neighbours; the first and the last stay themselves."""
    count = len(series.x)
    if count <= _MOST_POINTS:
        return series
    edges = [1 + place * (count - 2) // (_MOST_POINTS - 2) for place in range(_MOST_POINTS - 1)]
    parts = [slice(first, end) for first, end in pairwise(edges)]
    x, y = (
        [values[0], *(sum(values[part]) / len(values[part]) for part in parts), values[-1]]
        for values in (series.x, series.y)
    )
    return Series(series.label, series.run, x, y)


def _range(values: Sequence[float], *, padded: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        # Whole numbers on both sides, as steps are; a fraction of a value that may be small.
        room = 1.0 if not padded else abs(low) / 2 or 0.5
        return (max(low - room, 0.0) if low >= 0 else low - room), high + room
    room = 0.06 * (high - low) if padded else 0.0
    # A quantity that cannot be negative is not drawn as if it could.
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers between two others, at most so many.

    >>> ticks(0.0, 480.0)
    [0.0, 100.0, 200.0, 300.0, 400.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(place * step, 12) for place in range(first, last + 1)]
    return [low, high]


def short(value: float) -> str:
    """A number for an axis.

    >>> [short(value) for value in (1500000.0, 20000.0, 0.002, 0.0)]
    ['1.5M', '20k', '0.002', '0']
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):g}{letter}"
    return f"{value:.6g}"


def number(value: float) -> str:
    """A measured value in four digits."""
    return f"{value:.4g}"
