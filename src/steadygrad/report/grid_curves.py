"""How each combination of a grid learnt its task: medians over seeds, as one chart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.grid_table import Row
from steadygrad.report.plot import Line, Plot, Rule

STYLES = ("main", "before", "second", "third", "fourth")
STYLES += tuple(f"{style} dashed" for style in STYLES)


def curve_plot(found: Sequence[Row]) -> Plot:
    """Return the chart of all rows of one task."""
    lines = [
        Line(row.label, *median_curve(row), STYLES[i % len(STYLES)]) for i, row in enumerate(found)
    ]
    bounds = {"without memory": found[0].without_memory, "solved": found[0].solved_if}
    return Plot(
        title=found[0].task,
        about="validation part, median over seeds, while they run",
        lines=lines,
        x_name="update",
        y_name=found[0].unit,
        is_log=True,
        rules=[Rule(float(np.log10(v)), name, across=True) for name, v in bounds.items() if v],
    )


def median_curve(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median over seeds at each update; a seed that has ended stays where it ended."""
    updates = sorted({step for curve in row.curves for step, _ in curve})
    held = np.full((len(row.curves), len(updates)), np.nan)
    for values, curve in zip(held, row.curves, strict=True):
        at = dict(curve)
        last = np.nan
        for i, step in enumerate(updates):
            last = at.get(step, last)
            values[i] = last
    x = np.asarray(updates, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return x, np.log10(np.median(held, axis=0)) if len(held) else x
