"""How each combination of a grid learnt its task: medians over seeds with bands, as one chart."""

from collections.abc import Sequence

import numpy as np

from steadygrad.report.grid_table import Row
from steadygrad.report.plot import Line, Plot, Rule
from steadygrad.report.spread import spread_line
from steadygrad.report.strokes import STYLES


def curve_plot(found: Sequence[Row]) -> Plot:
    """Return the chart of all rows of one task."""
    bounds = {"without memory": found[0].without_memory, "solved": found[0].solved_if}
    return Plot(
        title="How it was learnt",
        about="Validation part: median over seeds, and a band from the lowest to the highest.",
        lines=[_line(row, STYLES[i % len(STYLES)]) for i, row in enumerate(found)],
        x_name="update",
        y_name=found[0].unit,
        is_log=True,
        rules=[Rule(float(np.log10(v)), name, across=True) for name, v in bounds.items() if v],
    )


def _line(row: Row, style: str) -> Line:
    """A seed that has ended stays where it ended."""
    curves = [np.asarray(c, dtype=np.float64).reshape(-1, 2) for c in row.curves]
    with np.errstate(divide="ignore", invalid="ignore"):
        return spread_line(row.label, [(c[:, 0], np.log10(c[:, 1])) for c in curves], style)
