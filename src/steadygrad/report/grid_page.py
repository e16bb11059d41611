"""A grid of finished runs as one offline page: the table, and how each combination learnt."""

import base64
from collections.abc import Sequence
from pathlib import Path

from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_picture import grid_svg
from steadygrad.report.grid_table import Row, as_html
from steadygrad.report.markup import Html, el
from steadygrad.report.page import document, put


def grid_html(found: Sequence[Row], title: str) -> str:
    """Return the page.

    Args:
        found: The rows of the table.
        title: What the grid was about.
    """
    tasks = list(dict.fromkeys(row.task for row in found))
    best = [f"{t}: {_best([r for r in found if r.task == t])}" for t in tasks]
    svg = base64.b64encode(str(grid_svg(found)).encode()).decode()
    image = f"data:image/svg+xml;base64,{svg}"
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
        el("section", el("h2", "Every seed"), el("img", src=image, alt="", class_="wide")),
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
    plot = curve_plot(found)
    return el("section", el("h2", f"How {task} was learnt"), plot.html())
