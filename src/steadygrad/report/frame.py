"""The frame of a drawing: ticks, titles, key and read-out.

Texts are HTML placed by percentages and only the drawing is stretched, so that letters have
the same size on all screens.
"""

from collections.abc import Sequence

from steadygrad.report.axis import Axis
from steadygrad.report.markup import Html, el, join


def framed(
    *,
    title: str,
    about: str,
    area: Html,
    x: Axis | Sequence[tuple[float, str]],
    y: Axis | Sequence[tuple[float, str]],
    x_name: str,
    y_name: str,
    key: Html | None = None,
    numbers: Html | None = None,
) -> Html:
    """Put axes, key, read-out and the table of numbers around ``area``."""
    x_ticks = x.ticks() if isinstance(x, Axis) else x
    y_ticks = y.ticks() if isinstance(y, Axis) else y
    left = [el("span", text, style=f"bottom:{100 * p:.2f}%") for p, text in y_ticks]
    below = [el("span", text, style=f"left:{100 * p:.2f}%") for p, text in x_ticks]
    widest = max((len(text) for _, text in y_ticks), default=1)
    grid = el(
        "div",
        el("div", *left, class_="ticks y", aria_hidden="true"),
        area,
        el("div", *below, class_="ticks x", aria_hidden="true"),
        class_="frame",
        style=f"--gutter:{min(max(widest, 2), 8) * 0.52 + 0.7:.2f}rem",
    )
    table = el("details", el("summary", "Numbers as a table"), numbers) if numbers else None
    return el(
        "figure",
        el("figcaption", el("strong", title), el("span", about) if about else None),
        key,
        el("div", y_name, class_="axis y"),
        grid,
        el("div", x_name, class_="axis x"),
        el("output", "\u00a0", class_="readout", aria_live="polite"),
        table,
    )


def area(drawing: Html, *, label: str, data: str, kind: str, over: Sequence[Html] = ()) -> Html:
    """The drawing itself; it can be focused and explored by pointer and arrow keys."""
    return el(
        "div",
        drawing,
        join(over),
        el("i", class_="cursor", hidden=True),
        class_=f"area {kind}",
        tabindex="0",
        role="img",
        aria_label=f"{label}. Arrow keys read the values.",
        data_plot=data,
    )
