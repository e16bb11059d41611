"""Learning curves of the combinations of a grid: medians over seeds with bands."""

from collections.abc import Sequence

import numpy as np

from steadygrad.report.grid_table import Row
from steadygrad.report.line_styles import STYLES
from steadygrad.report.median_band import spread_line
from steadygrad.report.plot import Line, Plot, Rule


def curve_plot(rows: Sequence[Row]) -> Plot:
    """Return the chart of all rows of one task."""
    bounds = {"without memory": rows[0].without_memory, "solved": rows[0].solved_if}
    return Plot(
        title="How it was learnt",
        about="Validation part: median over seeds, and a band from the lowest to the highest.",
        lines=[_line(row, STYLES[i % len(STYLES)]) for i, row in enumerate(rows)],
        x_name="update",
        y_name=rows[0].unit,
        is_log=True,
        rules=[Rule(float(np.log10(v)), name, across=True) for name, v in bounds.items() if v],
    )


def _line(row: Row, style: str) -> Line:
    """A seed that stopped early keeps its last value."""
    curves = [np.asarray(c, dtype=np.float64).reshape(-1, 2) for c in row.curves]
    with np.errstate(divide="ignore", invalid="ignore"):
        return spread_line(row.label, [(c[:, 0], np.log10(c[:, 1])) for c in curves], style)
