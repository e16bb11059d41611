"""Draw a line chart as HTML and SVG; a small script in the page reads values from it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.axis import Axis, around
from steadygrad.report.downsample import spread, thinned
from steadygrad.report.figures import TIMES, plain, power
from steadygrad.report.frame import area, framed
from steadygrad.report.line_styles import key as stroke
from steadygrad.report.markup import Html, el, join, table

_SIDE = 1000  # size of the drawing's coordinates; the page stretches it


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        name: Label in the key.
        x: Ascending positions, ``(N,)``.
        y: Values, ``(N,)``, log10 of them on a log axis; nan, inf and -inf are drawn as marks.
        style: One of `steadygrad.report.line_styles.STYLES`.
        band: Lowest and highest value at each position, ``(N,)`` each, if the curve summarises
            several.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    style: str = "main"
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Band:
    """A filled area between two curves.

    Args:
        name: As in the key.
        x: Ascending positions, ``(N,)``.
        low: Lower edge, finite.
        high: Upper edge, finite.
    """

    name: str
    x: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A labelled straight line through the drawing; horizontal if ``across``."""

    at: float
    text: str
    across: bool


@dataclass(frozen=True)
class Plot:
    """A chart of lines over one axis pair."""

    title: str
    about: str
    lines: Sequence[Line]
    x_name: str
    y_name: str
    is_log: bool = False
    powers: bool = False
    backwards: bool = False
    floor: float | None = None  # the y axis includes this value
    rules: Sequence[Rule] = field(default=())
    bands: Sequence[Band] = field(default=())

    def html(self) -> Html:
        """Draw."""
        x, y = self.axes()
        kept = [
            replace(n, x=x_kept, y=y_kept)
            for n in self.lines
            for x_kept, y_kept in [thinned(n.x, n.y)]
        ]
        drawing = el(
            "svg",
            grid_lines(y),
            *(el("path", d=_outline(b, x, y), class_="band") for b in self.bands),
            *(band(n, x, y) for n in self.lines),
            *(el("path", d=path(n, x, y), class_=f"line {n.style}") for n in kept),
            *(_dots(n, x, y) for n in kept),
            *(marks(n, x) for n in kept),
            viewBox=f"0 0 {_SIDE} {_SIDE}",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        over = [_rule(r, x, y) for r in self.rules if 0 <= (y if r.across else x).at(r.at) <= 1]
        names = ", ".join(n.name for n in kept)
        return framed(
            title=self.title,
            about=self.about,
            area=area(
                drawing,
                label=f"{self.title}: {names}",
                data=self._data(kept, x),
                kind="curve",
                over=over,
            ),
            x=[tick for tick in x.ticks() if "." not in tick[1]],  # steps are whole numbers
            y=y,
            x_name=self.x_name,
            y_name=self.y_name,
            key=_key(kept, self.bands),
            numbers=self._table(kept),
        )

    def axes(self) -> tuple[Axis, Axis]:
        """Return axes that hold every line and every horizontal rule."""
        xs = np.concatenate([n.x for n in (*self.lines, *self.bands)] or [np.zeros(0)])
        low, high = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        ys = [n.y for n in self.lines] + [e for b in self.bands for e in (b.low, b.high)]
        ys += [edge for n in self.lines for edge in n.band or ()]
        ys += [np.array([r.at]) for r in self.rules if r.across]
        y = around(np.concatenate(ys or [np.zeros(0)]), is_log=self.is_log, powers=self.powers)
        if self.floor is not None and y.low > self.floor:
            y = Axis(self.floor, y.high, y.is_log, y.powers)
        if any(not r.across for r in self.rules):  # space above the curves for the label of a rule
            y = Axis(y.low, y.high + 0.12 * (y.high - y.low), y.is_log, y.powers)
        return (Axis(high, low) if self.backwards else Axis(low, high)), y

    def _data(self, lines: Sequence[Line], x: Axis) -> str:
        body = {
            "log": self.is_log,
            "x": self.x_name.split(" (")[0],
            "low": x.low,
            "high": x.high,
            "lines": [
                {"n": n.name, "x": [short(v) for v in n.x], "y": [short(v) for v in n.y]}
                for n in lines
            ],
        }
        return json.dumps(body, allow_nan=False, separators=(",", ":"))

    def _table(self, lines: Sequence[Line]) -> Html:
        rows = [
            (n.name, plain(float(n.x[i])), reading(float(n.y[i]), self.is_log))
            for n in lines
            for i in spread(len(n.x), 12)
            if len(n.x)
        ]
        return table(("Curve", self.x_name.split(" (")[0], self.y_name), rows)


def path(line: Line, x: Axis, y: Axis) -> str:
    """The ``d`` of an SVG path through the finite points, interrupted at the others."""
    out: list[str] = []
    pen = "M"
    for a, b in zip(line.x, line.y, strict=True):
        if not math.isfinite(b):
            pen = "M"
            continue
        # Whole units, a thousandth of the chart, are fine enough; tenths would cost 40 % of a page.
        out.append(f"{pen}{x.at(a) * _SIDE:.0f} {(1 - y.at(b)) * _SIDE:.0f}")
        pen = "L"
    return "".join(out)


def band(line: Line, x: Axis, y: Axis) -> Html | None:
    """The area between the lowest and the highest value of a line that summarises several."""
    if line.band is None:
        return None
    low, high = line.band
    there = np.isfinite(low) & np.isfinite(high)
    if there.sum() < 2:
        return None
    filled = Band(line.name, line.x[there], low[there], high[there])
    return el("path", d=_outline(filled, x, y), class_=f"band {line.style}")


def _dots(line: Line, x: Axis, y: Axis) -> Html | None:
    """Isolated points, which a line cannot show: strokes of zero length with round ends."""
    there = np.concatenate([[False], np.isfinite(line.y), [False]])
    lone = there[1:-1] & ~there[:-2] & ~there[2:]
    at = zip(line.x[lone], line.y[lone], strict=True)
    d = "".join(f"M{x.at(a) * _SIDE:.1f} {(1 - y.at(b)) * _SIDE:.1f}h0" for a, b in at)
    return el("path", d=d, class_=f"line dot {line.style}") if d else None


def _outline(band: Band, x: Axis, y: Axis) -> str:
    """The ``d`` of a closed path: along the upper edge and back along the lower one."""
    there = zip(band.x, band.high, strict=True)
    back = zip(band.x[::-1], band.low[::-1], strict=True)
    points = (f"{x.at(a) * _SIDE:.1f} {(1 - y.at(b)) * _SIDE:.1f}" for a, b in (*there, *back))
    return "M" + "L".join(points) + "Z"


def grid_lines(y: Axis) -> Html:
    """Hair lines at the ticks of ``y``."""
    at = [(1 - p) * _SIDE for p, _ in y.ticks()]
    return el("path", d="".join(f"M0 {v:.1f}H{_SIDE}" for v in at), class_="grid")


def marks(line: Line, x: Axis) -> Html:
    """Marks where a line is not finite: inf at the top, zero at the bottom, NaN at full height."""
    where = {"inf": (0, 70), "nan": (0, _SIDE), "zero": (_SIDE - 70, _SIDE)}
    kinds = {"inf": np.isposinf(line.y), "nan": np.isnan(line.y), "zero": np.isneginf(line.y)}
    bands = []
    for kind, mask in kinds.items():
        top, bottom = where[kind]
        d = "".join(
            f"M{x.at(a) * _SIDE:.1f} {top}H{x.at(b) * _SIDE:.1f}V{bottom}H{x.at(a) * _SIDE:.1f}Z"
            for a, b in _stretches(line.x, mask)
        )
        bands.append(el("path", d=d, class_=f"fault {kind}") if d else None)
    return join(bands)


def reading(value: float, is_log: bool) -> str:
    """A value in words; ``value`` is log10 of it on a log axis."""
    if not is_log or not math.isfinite(value):
        return "0" if is_log and value == -math.inf else plain(float(value))
    if -3 <= value < 6:
        return plain(float(10**value))
    whole = math.floor(value)
    return f"{10 ** (value - whole):.1f}{TIMES}{power(whole)}"


def _stretches(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """First and last ``x`` of each unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(float(x[a]), float(x[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def short(value: float) -> float | str:
    """Round to four digits, which keeps the page small; non-finite values become JSON texts."""
    if math.isfinite(value):
        return int(value) if value == int(value) and abs(value) < 1e12 else float(f"{value:.4g}")
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _rule(rule: Rule, x: Axis, y: Axis) -> Html:
    place = 100 * (y if rule.across else x).at(rule.at)
    if rule.across:
        side = "rule across low" if place < 15 else "rule across"
        return el("div", el("span", rule.text), class_=side, style=f"bottom:{place:.2f}%")
    side = "left" if place > 50 else "right"  # the label goes where there is space
    return el("div", el("span", rule.text), class_=f"rule up {side}", style=f"left:{place:.2f}%")


def _key(lines: Sequence[Line], bands: Sequence[Band]) -> Html | None:
    faults = {
        "inf": any(np.isposinf(n.y).any() for n in lines),
        "nan": any(np.isnan(n.y).any() for n in lines),
        "zero": any(np.isneginf(n.y).any() for n in lines),
    }
    words = {"inf": "infinite", "nan": "not a number", "zero": "exactly zero"}
    entries = [el("span", stroke(n.style), " ", n.name, class_="key") for n in lines]
    entries += [
        el("span", el("i", class_="chip band"), " ", band.name, class_="key") for band in bands
    ]
    entries += [
        el("span", el("i", class_=f"tick fault {kind}"), " ", words[kind], class_="key")
        for kind, there in faults.items()
        if there
    ]
    return el("div", *entries, class_="legend") if len(entries) > 1 else None
