"""The standalone picture of a grid: learning curves, and the score of every seed."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steadygrad.report.axis import Axis, around
from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_table import Row
from steadygrad.report.line_styles import drawing_rules
from steadygrad.report.markup import Html, el, join
from steadygrad.report.page import save
from steadygrad.report.plot import Plot, band, path

LEFT, WIDE, HIGH, TOP = 66, 380, 250, 64
MIDDLE, DOTS = 620, 260  # left edge and width of the second drawing
TALL = TOP + HIGH + 66  # height of a task


def write_picture(rows: Sequence[Row], path: str | Path) -> Path:
    """Write the picture of the rows as a standalone SVG or PDF."""
    return save(grid_svg(rows), path)


def seeds_svg(rows: Sequence[Row]) -> Html:
    """Draw a dot for each seed of one task's rows."""
    labels = 50 + 7 * max(len(row.label) + 11 * bool(row.failed) for row in rows)
    width, height = labels + DOTS + 24, 26 * len(rows) + 34
    styles = [line.style for line in curve_plot(rows).lines]
    shift = f"translate({labels - MIDDLE} {6 - TOP})"
    return el(
        "svg",
        el("g", _dots(rows, styles), transform=shift),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label="Scores by seed: " + ", ".join(row.label for row in rows),
    )


def grid_svg(rows: Sequence[Row]) -> Html:
    """Draw for each task the learning curves, and beside them a dot for each seed."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    parts = [[row for row in rows if row.task == task] for task in tasks]
    tops = np.cumsum([0, *(_tall(part) for part in parts)]).tolist()
    width, height = MIDDLE + DOTS + 30, tops[-1]
    return el(
        "svg",
        el("style", Html(drawing_rules())),
        el("rect", width=width, height=height, fill="#fff"),
        *(
            el("g", _task(part), transform=f"translate(0 {top})")
            for part, top in zip(parts, tops[:-1], strict=True)
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=f"Learning curves and scores by seed: {', '.join(tasks)}",
    )


def _tall(part: Sequence[Row]) -> int:
    return max(TALL, TOP + 26 * len(part) + 40)


def _task(part: Sequence[Row]) -> Html:
    plot = curve_plot(part)
    styles = [line.style for line in plot.lines]
    first = part[0]
    return join(
        [
            _text(f"{first.task}: {first.unit}, {first.better} is better", 20, 28, "t"),
            _text("validation part, median and range of the seeds", LEFT, TOP - 10, ""),
            _text("test part, one dot a seed, a bar at the median", MIDDLE, TOP - 10, ""),
            _curves(plot),
            _dots(part, styles),
        ]
    )


def _curves(plot: Plot) -> Html:
    x, y = plot.axes()
    fitted = f"translate({LEFT} {TOP}) scale({WIDE / 1000} {HIGH / 1000})"
    drawn = [band(n, x, y) for n in plot.lines]
    drawn += [el("path", d=path(n, x, y), class_=f"line {n.style}") for n in plot.lines]
    ticks = [t for t in x.ticks() if "." not in t[1]]
    return join(
        [
            *(_level(place, text) for place, text in y.ticks()),
            *(_text(t, LEFT + p * WIDE, TOP + HIGH + 20, "m") for p, t in ticks),
            _text("update", LEFT + WIDE, TOP + HIGH + 40, "e"),
            el("g", *drawn, transform=fitted),
            *(_across(rule.text, y.at(rule.at)) for rule in plot.rules),
        ]
    )


def _level(place: float, text: str) -> Html:
    at = TOP + (1 - place) * HIGH
    line = el("path", d=f"M{LEFT} {at:.1f}h{WIDE}", class_="grid")
    return join([line, _text(text, LEFT - 8, at + 4, "e")])


def _across(text: str, place: float) -> Html:
    if not 0 <= place <= 1:
        return Html("")
    at = TOP + (1 - place) * HIGH
    line = el("path", d=f"M{LEFT} {at:.1f}h{WIDE}", class_="rule")
    return join([line, _text(text, LEFT + WIDE - 4, at - 5, "e")])


def _dots(part: Sequence[Row], styles: Sequence[str]) -> Html:
    values = np.array([v for row in part for v in row.values])
    is_log = bool((values[np.isfinite(values)] > 0).all())
    axis = around(np.log10(values) if is_log else values, is_log=is_log)
    foot = TOP + 26 * len(part)
    rows = [
        _row(row, style, axis, TOP + 26 * i)
        for i, (row, style) in enumerate(zip(part, styles, strict=True))
    ]
    ticks = axis.ticks()
    grid = "".join(f"M{MIDDLE + p * DOTS:.1f} {TOP}V{foot}" for p, _ in ticks)
    return join(
        [
            el("path", d=grid, class_="grid"),
            *(_text(t, MIDDLE + p * DOTS, foot + 20, "m") for p, t in ticks),
            *rows,
        ]
    )


def _row(row: Row, style: str, axis: Axis, top: int) -> Html:
    kind = style.split()[0]
    at = top + 13

    def place(value: float) -> float:
        there = math.log10(value) if axis.is_log else value
        return MIDDLE + axis.at(there) * DOTS

    dots = [
        el("circle", cx=f"{place(v):.1f}", cy=at, r=4, class_=f"dot {kind}")
        for v in row.values
        if math.isfinite(v)
    ]
    bar = (
        [el("path", d=f"M{place(row.median):.1f} {at - 9}v18", class_=f"line {kind}")]
        if math.isfinite(row.median)
        else []
    )
    failed = f" ({row.failed} failed)" if row.failed else ""
    stroke = el("path", d=f"M{MIDDLE - 32} {at}h20", class_=f"line {style}")
    return join([stroke, _text(row.label + failed, MIDDLE - 40, at + 4, "e"), *dots, *bar])


def _text(text: str, x: float, y: float, style: str) -> Html:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=style or None)
