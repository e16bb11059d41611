"""One standalone picture of a run: the map over training, and what is left in the end."""

from pathlib import Path

from steadygrad.record import Run
from steadygrad.report import palette, sentence
from steadygrad.report.chapter import Chapter, Track, chapter
from steadygrad.report.gradient_by_step import curve
from steadygrad.report.heat import Heat, ordinal
from steadygrad.report.markup import Html, el, join
from steadygrad.report.page import put
from steadygrad.report.plot import Plot, path, reading

_WIDE, _HIGH, _TOP, _LEFT, _GAP = 400, 220, 92, 62, 96
_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#62646a}"
    ".h{font:600 19px Georgia,serif;fill:#1e1f22}.t{font-weight:600;fill:#1e1f22}"
    ".line{fill:none;stroke:#1f6191;stroke-width:2.2;stroke-linejoin:round;"
    "vector-effect:non-scaling-stroke}.line.before{stroke:#b5562a}"
    ".grid{stroke:#dedbd3;fill:none}.rule{stroke:#62646a;stroke-dasharray:4 4;fill:none}"
    ".e{text-anchor:end}.m{text-anchor:middle}"
)


def picture(run: Run, path: str | Path) -> Path:
    """Write heat map and curve of ``run`` as one SVG file that needs no other.

    Raises:
        ValueError: If the run has no gradient by time step, or ``path`` is a folder.
        OSError: If the file cannot be written.
    """
    told = chapter(run, "this run")
    if told.main is None:
        raise ValueError(
            f"{run.path}: no gradient by time step was recorded, so there is nothing to draw. "
            "Record rows of log10_grad, or write the HTML report"
        )
    return put(_svg(told, told.main), path)


def _svg(told: Chapter, track: Track) -> Html:
    width, height = _LEFT + 2 * _WIDE + _GAP + 24, _TOP + _HIGH + 62
    right = _LEFT + _WIDE + _GAP
    return el(
        "svg",
        el("style", Html(_STYLE)),
        el("rect", width=width, height=height, fill="#fbfaf7", rx=6),
        el("text", sentence.verdict(told), x=20, y=36, class_="h"),
        _map(Heat(track.steps, track.grid, 40_000), _LEFT),
        _curve(curve([(told, track)]), right),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=sentence.verdict(told),
    )


def _map(heat: Heat, left: int) -> Html:
    image = el(
        "image",
        href=heat.image(),
        x=left,
        y=_TOP,
        width=_WIDE,
        height=_HIGH,
        preserveAspectRatio="none",
        style="image-rendering:pixelated",
    )
    stops = palette.palette()[: palette.LEVELS : 20]
    ramp = [
        el("rect", x=left + 76 + 10 * i, y=_TOP + _HIGH + 31, width=11, height=9, fill=f"rgb{c}")
        for i, c in enumerate(stops)
    ]
    return join(
        [
            _text("Gradient by time step, over training", left, _TOP - 11, "t"),
            el("g", *ramp),
            _text(reading(heat.low, True), left + 70, _TOP + _HIGH + 40, "e"),
            _text(reading(heat.high, True), left + 202, _TOP + _HIGH + 40, ""),
            image,
            *_ticks_y(ordinal(heat.times), left),
            *_ticks_x(ordinal(heat.steps), left),
            _text("training step", left + _WIDE, _TOP + _HIGH + 40, "e"),
        ]
    )


def _curve(plot: Plot, left: int) -> Html:
    x, y = plot.axes()
    rules = []
    for rule in plot.rules:
        if rule.across:
            at = _TOP + (1 - y.at(rule.at)) * _HIGH
            rules.append(el("path", d=f"M{left} {at:.1f}h{_WIDE}", class_="rule"))
            rules.append(_text(rule.text, left + 6, at + 15, ""))
        elif 0 <= x.at(rule.at) <= 1:
            at = left + x.at(rule.at) * _WIDE
            rules.append(el("path", d=f"M{at:.1f} {_TOP}v{_HIGH}", class_="rule"))
            side, shift = ("e", -5) if x.at(rule.at) > 0.5 else ("", 5)
            rules.append(_text(rule.text, at + shift, _TOP + 14, side))
    lines = [el("path", d=path(n, x, y), class_=f"line {n.style}") for n in plot.lines]
    fitted = f"translate({left} {_TOP}) scale({_WIDE / 1000} {_HIGH / 1000})"
    return join(
        [
            _text("How much is left on the way back", left, _TOP - 11, "t"),
            *_ticks_y(y.ticks(), left, grid=True),
            *_ticks_x(x.ticks(), left),
            *rules,
            el("g", *lines, transform=fitted),
            *(
                _key(n.name.split(" (")[0], n.style, left + 160 * i)
                for i, n in enumerate(plot.lines)
            ),
            _text("steps back", left + _WIDE, _TOP + _HIGH + 40, "e"),
        ]
    )


def _ticks_y(ticks: list[tuple[float, str]], left: int, *, grid: bool = False) -> list[Html]:
    out = []
    for place, text in ticks:
        at = _TOP + (1 - place) * _HIGH
        if grid:
            out.append(el("path", d=f"M{left} {at:.1f}h{_WIDE}", class_="grid"))
        out.append(_text(text, left - 8, at + 4, "e"))
    return out


def _ticks_x(ticks: list[tuple[float, str]], left: int) -> list[Html]:
    return [_text(text, left + p * _WIDE, _TOP + _HIGH + 20, "m") for p, text in ticks]


def _key(name: str, style: str, left: float) -> Html:
    stroke = el("path", d=f"M{left} {_TOP + _HIGH + 36}h18", class_=f"line {style}")
    return join([stroke, _text(name, left + 24, _TOP + _HIGH + 40, "")])


def _text(text: str, x: float, y: float, style: str) -> Html:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=style or None)
