"""Line styles: colours for light and dark background, and dash patterns.

Pages and standalone drawings take their rules from here.
"""

from collections.abc import Callable

from steadygrad.report.markup import Html, el

COLOURS = {
    "main": ("#1f6191", "#79b8e8"),
    "before": ("#b5562a", "#eb9566"),
    "second": ("#4f7d3a", "#93c47d"),
    "third": ("#7b5aa6", "#b99be0"),
    "fourth": ("#8a7420", "#d6bf5f"),
}
"""Style: colour on light and on dark background, with a contrast of at least 3:1."""
DASHES = {
    "main": "none",
    "before": "9 5",
    "second": "2 4",
    "third": "11 4 2 4",
    "fourth": "18 5",
    "main.dashed": "5 3",
    "before.dashed": "9 3 3 3",
    "second.dashed": "2 3 6 3",
    "third.dashed": "11 3 2 3 2 3",
    "fourth.dashed": "18 4 6 4",
}
"""Style, and style with a modifier: dashes and gaps in pixels. No two are equal."""
_DRAWING = (
    "text{font:13px 'Helvetica Neue',Helvetica,Arial,sans-serif;fill:#55575c}"
    ".h{font-size:17px;font-weight:600;fill:#1e1f22}.t{font-weight:600;fill:#1e1f22}"
    ".e{text-anchor:end}.m{text-anchor:middle}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}"
    ".band{fill-opacity:.18;stroke:none}.dot{fill-opacity:.75}"
    ".grid{stroke:#dcdcdc;fill:none}.rule{stroke:#55575c;stroke-dasharray:4 4;fill:none}"
)
STYLES = (*COLOURS, *(f"{style} dashed" for style in COLOURS))
"""Ten styles that can be told apart, also without colour."""


def page_rules() -> str:
    """Return the style sheet of lines on a page, with colours as CSS variables."""
    return _variables(0) + _dark(_variables(1)) + _rules(lambda style: f"var(--{style})")


def drawing_rules() -> str:
    """Return the style sheet of a standalone drawing on white: texts, grid, lines."""
    return _DRAWING + _rules(lambda style: COLOURS[style][0])


def print_rules() -> str:
    """Return the style sheet for print, with the colours of light background; it must come last."""
    return "@media print{" + _variables(0) + "}"


def key(style: str) -> Html:
    """Return a short piece of a line, for the key of a chart."""
    piece = el("path", d="M0 4H32", class_=f"line {style}")
    return el("svg", piece, viewBox="0 0 32 8", class_="stroke", aria_hidden="true")


def _variables(index: int) -> str:
    return ":root{" + "".join(f"--{n}:{pair[index]};" for n, pair in COLOURS.items()) + "}"


def _dark(rules: str) -> str:
    return "@media (prefers-color-scheme: dark){" + rules + "}"


def _rules(colour: Callable[[str], str]) -> str:
    lines = "".join(
        f".line.{style}{{stroke:{colour(style)}}}.band.{style},.dot.{style}{{fill:{colour(style)}}}"
        for style in COLOURS
    )
    return lines + "".join(f".line.{s}{{stroke-dasharray:{d}}}" for s, d in DASHES.items())
