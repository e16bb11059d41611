"""A chart of lines as one SVG file that needs no other, for a README or a paper."""

from pathlib import Path

from steadygrad.report.markup import Html, el, join
from steadygrad.report.page import put
from steadygrad.report.plot import Line, Plot, path

_WIDE, _HIGH, _TOP, _LEFT, _KEY = 460, 300, 62, 66, 215
_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#62646a}"
    ".h{font:600 17px Georgia,serif;fill:#1e1f22}"
    ".line{fill:none;stroke:#1f6191;stroke-width:2;stroke-linejoin:round;"
    "vector-effect:non-scaling-stroke}.before{stroke:#b5562a}.second{stroke:#4f7d3a}"
    ".third{stroke:#7b5aa6}.fourth{stroke:#8a7420}.dashed{stroke-dasharray:6 5}"
    ".grid{stroke:#dedbd3;fill:none}.e{text-anchor:end}.m{text-anchor:middle}"
)


def lines(plot: Plot, file: str | Path) -> Path:
    """Write ``plot`` as one SVG: title, axes, curves, and their names at the right.

    Points that are not finite are left out of a curve, which breaks there.

    Raises:
        ValueError: The plot has no line.
        OSError: The file cannot be written.
    """
    if not plot.lines:
        raise ValueError(f"{plot.title!r}: there is no line to draw")
    x, y = plot.axes()
    width, height = _LEFT + _WIDE + _KEY, _TOP + _HIGH + 56
    fitted = f"translate({_LEFT} {_TOP}) scale({_WIDE / 1000} {_HIGH / 1000})"
    curves = [el("path", d=path(n, x, y), class_=f"line {n.style}") for n in plot.lines]
    picture = el(
        "svg",
        el("style", Html(_STYLE)),
        el("rect", width=width, height=height, fill="#fbfaf7", rx=6),
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
    return put(picture, file)


def _rung(place: float, text: str) -> Html:
    at = _TOP + (1 - place) * _HIGH
    line = el("path", d=f"M{_LEFT} {at:.1f}h{_WIDE}", class_="grid")
    return join([line, el("text", text, x=_LEFT - 8, y=f"{at + 4:.1f}", class_="e")])


def _name(line: Line, row: int) -> Html:
    at, left = _TOP + 12 + 22 * row, _LEFT + _WIDE + 12
    stroke = el("path", d=f"M{left} {at - 4}h22", class_=f"line {line.style}")
    return join([stroke, el("text", line.name, x=left + 28, y=at)])
