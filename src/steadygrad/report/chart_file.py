"""Write a line chart as a standalone SVG or PDF, for a README or a paper."""

from pathlib import Path

from steadygrad.report.line_styles import drawing_rules
from steadygrad.report.markup import Html, el, join
from steadygrad.report.page import save
from steadygrad.report.plot import Line, Plot, band, path

_WIDE, _HIGH, _TOP, _LEFT, _KEY = 460, 300, 62, 66, 215


def lines(plot: Plot, file: str | Path) -> Path:
    """Write ``plot`` as one SVG or PDF: title, axes, curves, and their names at the right.

    A curve is interrupted at points that are not finite.

    Raises:
        ValueError: The plot has no line.
        OSError: The file cannot be written.
    """
    if not plot.lines:
        raise ValueError(f"{plot.title!r}: there is no line to draw")
    x, y = plot.axes()
    width, height = _LEFT + _WIDE + _KEY, _TOP + _HIGH + 56
    fitted = f"translate({_LEFT} {_TOP}) scale({_WIDE / 1000} {_HIGH / 1000})"
    curves = [band(n, x, y) for n in plot.lines]
    curves += [el("path", d=path(n, x, y), class_=f"line {n.style}") for n in plot.lines]
    picture = el(
        "svg",
        el("style", Html(drawing_rules())),
        el("rect", width=width, height=height, fill="#fff"),
        el("text", plot.title, x=16, y=28, class_="h"),
        el("text", plot.y_name, x=16, y=48),
        join(_rung(place, text) for place, text in y.ticks()),
        join(
            el("text", text, x=f"{_LEFT + p * _WIDE:.1f}", y=_TOP + _HIGH + 20, class_="m")
            for p, text in x.ticks()
        ),
        el("text", plot.x_name, x=_LEFT + _WIDE, y=_TOP + _HIGH + 42, class_="e"),
        el("g", *curves, transform=fitted),
        join(_name(line, row) for row, line in enumerate(plot.lines)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=f"{plot.title}. {plot.about}",
    )
    return save(picture, file)


def _rung(place: float, text: str) -> Html:
    at = _TOP + (1 - place) * _HIGH
    line = el("path", d=f"M{_LEFT} {at:.1f}h{_WIDE}", class_="grid")
    return join([line, el("text", text, x=_LEFT - 8, y=f"{at + 4:.1f}", class_="e")])


def _name(line: Line, row: int) -> Html:
    at, left = _TOP + 12 + 22 * row, _LEFT + _WIDE + 12
    stroke = el("path", d=f"M{left} {at - 4}h22", class_=f"line {line.style}")
    return join([stroke, el("text", line.name, x=left + 28, y=at)])
