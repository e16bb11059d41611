"""Parts of a report for the output cell of a notebook: no script, and inline styles only."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steadygrad.record import Results, Run
from steadygrad.report import sentence
from steadygrad.report.chapter import chapter
from steadygrad.report.grid_picture import grid_svg
from steadygrad.report.grid_table import PAGE_HEAD, page_cells, rows
from steadygrad.report.markup import Html, el, join
from steadygrad.report.picture import drawn

_TABLE = "border-collapse:collapse;margin:.5em 0;text-align:left"
_CELL = "padding:.2em 1em .2em 0;text-align:left;vertical-align:top"


def fragment(run: Run) -> str:
    """Return the verdict, one figure, the layers and the findings of a record as HTML."""
    data = chapter(run, "this run")
    layers = [
        [y.get("name"), y.get("cell"), _steps(y.get("time_steps")), _steps(y.get("horizon"))]
        for y in data.layers
    ]
    picture = None
    if data.main is not None:
        words = f"Gradient by time step. {sentence.verdict(data)}"
        picture = image(drawn([data]), words)
    return join(
        [
            el("p", el("strong", sentence.verdict(data))),
            picture,
            plain_table(("layer", "cell", "time steps", "horizon"), layers) if layers else None,
            *(_finding(f) for f in data.findings),
        ]
    )


def grid(results: Path) -> str:
    """Return the table of the finished runs of a grid, and its figure, as HTML."""
    with Results(results) as found:
        table = rows(found.rows())
    if not table:
        return el("p", "No run of this grid has finished yet.")
    body = [[row.task, *page_cells(row)] for row in table]
    return join(
        [
            plain_table(("Task", *PAGE_HEAD), body),
            image(grid_svg(table), "Learning curves, and the scores of every seed."),
        ]
    )


def image(svg: str, words: str) -> Html:
    """Return a drawing as an image, which isolates its style."""
    data = base64.b64encode(svg.encode()).decode("ascii")
    source = f"data:image/svg+xml;base64,{data}"
    return el("img", src=source, alt=words, style="max-width:100%;background:#fff")


def plain_table(head: Sequence[str], body: Iterable[Sequence[object]]) -> Html:
    """Return a table with inline style."""
    top = el("tr", *(el("th", h, scope="col", style=_CELL) for h in head))
    lines = [
        el("tr", *(el("td", str(c) if c is not None else "\u2013", style=_CELL) for c in row))
        for row in body
    ]
    return el("table", el("thead", top), el("tbody", *lines), style=_TABLE)


def _finding(found: Mapping[str, Any]) -> Html:
    remedies, patch = found.get("remedies"), found.get("patch")
    names = [el("code", str(r)) for r in remedies] if isinstance(remedies, list) else []
    return el(
        "div",
        el("p", el("strong", str(found.get("fault") or "finding")), ": ", found.get("text")),
        el("p", "Worth trying: ", join(names, ", ")) if names else None,
        el("pre", el("code", str(patch))) if patch else None,
    )


def _steps(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None
