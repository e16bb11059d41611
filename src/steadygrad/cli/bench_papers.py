"""``steadygrad bench papers``: published numbers beside ours."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadygrad.bench import paper_table
from steadygrad.bench.paper_table import Paper
from steadygrad.errors import InputError
from steadygrad.report.page import put

# in the current folder, or in the checkout that the package was imported from
PLACES = tuple(root / "benchmarks" / "papers" for root in (Path(), Path(__file__).parents[3]))
WRITTEN: dict[str, Callable[[Sequence[Paper]], str]] = {
    "papers.csv": paper_table.as_csv,
    "papers.tex": paper_table.as_latex,
    "papers.html": paper_table.as_html,
}


def bench_papers(folder: Path | None, out: Path | None, json: bool) -> int:
    """Print the table of all committed results; write it as CSV, LaTeX and HTML into ``out``."""
    try:
        papers = paper_table.find(folder or next(filter(Path.is_dir, PLACES), PLACES[0]))
    except (FileNotFoundError, ValueError) as error:
        hint = "" if folder else "; an installed package has none: give --folder of a checkout"
        raise InputError(f"{error}{hint}") from None
    if out is not None:
        for name, text in WRITTEN.items():
            put(text(papers), out / name)
    if json:
        print(paper_table.to_json(papers))
    else:
        _print(Console(), papers)
    return 0


def _print(console: Console, papers: Sequence[Paper]) -> None:
    if not console.is_terminal:  # no line width for a file or a pipe
        print(paper_table.as_text(papers))
        return
    for paper in papers:
        found = paper_table.sheet(paper)
        table = Table(*found.head, title=Text(paper.title), title_justify="left", box=None)
        for column in table.columns[found.texts :]:
            column.justify = "right"
        for line, is_scaled in zip(found.lines, found.scaled, strict=True):
            table.add_row(*map(Text, line), style="dim" if is_scaled else "")
        console.print(table)
        for text in paper_table.remarks(paper):
            console.print(Text(f"  {text}"), style="italic")
        console.print()
    if paper_table.has_scaled(papers):
        console.print(Text(paper_table.LEGEND))
