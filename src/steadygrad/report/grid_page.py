"""A grid of finished runs as one offline page: by task the table, the curves and every seed."""

from collections.abc import Sequence
from pathlib import Path

from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_picture import seeds_svg
from steadygrad.report.grid_table import Row, as_html
from steadygrad.report.markup import el
from steadygrad.report.page import document, save
from steadygrad.report.sections import Section, contents, section


def grid_html(found: Sequence[Row], title: str) -> str:
    """Return the page.

    Args:
        found: The rows of the table.
        title: What the grid was about.
    """
    tasks = list(dict.fromkeys(row.task for row in found))
    best = [f"{t}: {_best([r for r in found if r.task == t])}" for t in tasks]
    sections = [_task(task, [row for row in found if row.task == task]) for task in tasks]
    body = el(
        "main",
        el(
            "header",
            el("p", title, class_="kicker"),
            el("h1", "What learnt the task, and what did not"),
        ),
        el("p", "; ".join(best), class_="lead"),
        contents(sections),
        *sections,
        el("footer", "Made by Steadygrad."),
    )
    return document(title, body)


def write_grid(found: Sequence[Row], title: str, path: str | Path) -> Path:
    """Write the page, HTML or PDF by its ending, replacing in one step what stands there."""
    return save(grid_html(found, title), path)


def _best(found: Sequence[Row]) -> str:
    solved = [row for row in found if 2 * row.solved > len(row.values)]
    names = ", ".join(row.label for row in solved) or "nothing"
    return f"{names} solved it in most seeds"


def _task(task: str, found: Sequence[Row]) -> Section:
    first = found[0]
    seeds = el(
        "figure",
        el(
            "figcaption",
            el("strong", "Every seed"),
            el("span", f"Test part, {first.unit}: a dot for each seed, a bar at the median."),
        ),
        el("div", seeds_svg(found), class_="drawing"),
    )
    return section(
        task,
        el("p", f"Decided by {first.unit}; {first.better} is better."),
        as_html(found),
        curve_plot(found).html(),
        seeds,
    )
