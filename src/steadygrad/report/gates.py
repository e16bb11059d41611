"""Gate health: the share of each gate's units that pass no gradient."""

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.chapter import ROWS, Chapter
from steadygrad.report.line_styles import STYLES
from steadygrad.report.markup import el, table
from steadygrad.report.plot import Line, Plot
from steadygrad.report.sections import Section, section

_ABOUT = (
    "A gate is a valve of the cell, between 0 (shut) and 1 (open). A unit that stays at one end "
    "has no slope there and passes no gradient on: it counts as dead."
)
_MOST_LAYERS = 6


def gates(chapters: list[Chapter]) -> Section | None:
    """Draw the share of dead units of each gate over training; None if not recorded."""
    if all(len(grid) < 2 for c in chapters for *_, grid in _health(c)):
        return _once(chapters)
    plots = [plot.html() for c in chapters for plot in _gates(c, len(chapters) > 1)]
    if not plots:
        return None
    return section(
        "Health of the gates",
        el("p", _ABOUT),
        el("div", *plots, class_="pair"),
    )


def _gates(chapter: Chapter, is_one_of_many: bool) -> list[Plot]:
    """One chart for each layer, the first few."""
    health = _health(chapter)
    layers = list(dict.fromkeys(layer for _, layer, *_ in health))[:_MOST_LAYERS]
    where = f"{chapter.label}, " if is_one_of_many else ""
    return [
        Plot(
            title=f"Dead units: {where}{layer}",
            about="Mean over the time steps.",
            lines=[
                Line(gate, steps.astype(np.float64), share, style)
                for (gate, _, steps, share), style in zip(
                    (h for h in health if h[1] == layer), STYLES, strict=False
                )
            ],
            x_name="training step",
            y_name="share of units that are dead",
            floor=0.0,
        )
        for layer in layers
    ]


Health = tuple[str, str, NDArray[np.int64], NDArray[np.float64]]  # gate, layer, steps, share


def _health(chapter: Chapter) -> list[Health]:
    """Share of dead units of each gate, the mean over time steps."""
    health = [q for q in chapter.run.quantities() if q[0].startswith("gate:")]
    out = []
    for quantity, layer, state in health:
        steps, grid = chapter.run.rows(quantity, layer, state, limit=ROWS)
        share = np.ma.filled(np.ma.mean(grid, axis=1).astype(np.float64), np.nan)
        out.append((quantity.removeprefix("gate:"), layer, steps, np.atleast_1d(share)))
    return out


def _once(chapters: list[Chapter]) -> Section | None:
    """A table of layers by gates, where each was measured at a single training step."""
    shares = {
        (layer if len(chapters) == 1 else f"{layer}, {c.label}", gate): f"{100 * share[0]:.1f} %"
        for c in chapters
        for gate, layer, _, share in _health(c)
    }
    if not shares:
        return None
    names = list(dict.fromkeys(gate for _, gate in shares))
    layers = list(dict.fromkeys(layer for layer, _ in shares))
    rows = [[layer, *(shares.get((layer, gate), "\u2013") for gate in names)] for layer in layers]
    body = table(("Share dead", *names), rows)
    return section("Health of the gates", el("p", _ABOUT), body)
