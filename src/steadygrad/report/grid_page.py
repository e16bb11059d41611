"""The page of a grid: for each task a table, learning curves, and the score of every seed."""

from collections.abc import Sequence
from pathlib import Path

from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_picture import seeds_svg
from steadygrad.report.grid_table import Row, as_html
from steadygrad.report.markup import el
from steadygrad.report.page import document, save
from steadygrad.report.sections import Section, contents, section


def grid_html(rows: Sequence[Row], title: str) -> str:
    """Return the page.

    Args:
        rows: The rows of the table.
        title: Title of the grid.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    best = [f"{t}: {_best([r for r in rows if r.task == t])}" for t in tasks]
    sections = [_task(task, [row for row in rows if row.task == task]) for task in tasks]
    body = el(
        "main",
        el(
            "header",
            el("p", title, class_="kicker"),
            el("h1", "Which learnt the task, and which did not"),
        ),
        el("p", "; ".join(best), class_="lead"),
        contents(sections),
        *sections,
        el("footer", "Made by Steadygrad."),
    )
    return document(title, body)


def write_grid(rows: Sequence[Row], title: str, path: str | Path) -> Path:
    """Write the page, HTML or PDF by its ending, replacing an existing file in one step."""
    return save(grid_html(rows, title), path)


def _best(rows: Sequence[Row]) -> str:
    solved = [row for row in rows if 2 * row.solved > len(row.values)]
    names = ", ".join(row.label for row in solved) or "nothing"
    return f"{names} solved it in most seeds"


def _task(task: str, rows: Sequence[Row]) -> Section:
    first = rows[0]
    seeds = el(
        "figure",
        el(
            "figcaption",
            el("strong", "Every seed"),
            el("span", f"Test part, {first.unit}: a dot for each seed, a bar at the median."),
        ),
        el("div", seeds_svg(rows), class_="drawing"),
    )
    return section(
        task,
        el("p", f"Decided by {first.unit}; {first.better} is better."),
        as_html(rows),
        curve_plot(rows).html(),
        seeds,
    )
