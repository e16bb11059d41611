"""A grid of finished runs as one offline page: the table, and how each combination learnt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.grid_table import Row, as_html
from steadygrad.report.markup import Html, el
from steadygrad.report.page import document, put
from steadygrad.report.plot import Line, Plot, Rule

STYLES = ("main", "before", "second", "third", "fourth")
STYLES += tuple(f"{style} dashed" for style in STYLES)


def grid_html(found: Sequence[Row], title: str) -> str:
    """Return the page.

    Args:
        found: The rows of the table.
        title: What the grid was about.
    """
    tasks = list(dict.fromkeys(row.task for row in found))
    best = [f"{t}: {_best([r for r in found if r.task == t])}" for t in tasks]
    body = el(
        "main",
        el(
            "header",
            el("p", title, class_="kicker"),
            el("h1", "What learnt the task, and what did not"),
        ),
        el("p", "; ".join(best), class_="lead"),
        el("section", el("h2", "Table"), as_html(found)),
        *(_task(task, [row for row in found if row.task == task]) for task in tasks),
        el("footer", "Made by Steadygrad."),
    )
    return document(title, body)


def write_grid(found: Sequence[Row], title: str, path: str | Path) -> Path:
    """Write the page, replacing in one step what stands there."""
    return put(grid_html(found, title), path)


def _best(found: Sequence[Row]) -> str:
    solved = [row for row in found if 2 * row.solved > len(row.values)]
    names = ", ".join(row.label for row in solved) or "nothing"
    return f"{names} solved it in most seeds"


def _task(task: str, found: Sequence[Row]) -> Html:
    lines = [
        Line(row.label, *median_curve(row), style)
        for row, style in zip(found, _styles(len(found)), strict=True)
    ]
    bound = found[0].without_memory
    rules = [Rule(float(np.log10(bound)), "without memory", across=True)] if bound else []
    plot = Plot(
        title=task,
        about="validation part, median over seeds, while they run",
        lines=[line for line in lines if len(line.x)],
        x_name="update",
        y_name=found[0].unit,
        is_log=True,
        rules=rules,
    )
    return el("section", el("h2", f"How {task} was learnt"), plot.html())


def _styles(count: int) -> list[str]:
    return [STYLES[i % len(STYLES)] for i in range(count)]


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
