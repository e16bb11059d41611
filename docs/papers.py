"""The page of published results, from those committed: ``python -m docs.papers``."""

from pathlib import Path

from steadygrad.bench.paper_table import LEGEND, Paper, find, has_scaled, remarks, sheet

PAGE = Path(__file__).with_suffix(".md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "papers"
TOP = """\
# Published results, trained again

<!-- Made by `python -m docs.papers`; edit benchmarks/papers instead. -->

Every row is reproduced by the command under its table (from the root of the repository; what needs
data reads it from the folder `STEADYGRAD_DATA`), from the configuration in its folder of
`benchmarks/papers`. `--full` runs the published budget where ours is scaled down, `--help` lists
the options. Ours is the median over seeds unless the figure says otherwise, beside the lowest and
the highest; minutes are per run, on one thread of a busy machine. `steadygrad bench papers` prints
all this; `--json` and `--out FOLDER` (CSV, LaTeX, HTML) hand it on. The best of each set for which
others keep a table: [leaderboard](leaderboard.md).
"""


def section(paper: Paper) -> str:
    """One paper: its rows, and what is to be said of them."""
    found = sheet(paper)
    rule = "|" + "---|" * found.texts + "--:|" * (len(found.head) - found.texts)
    lines = [f"## {paper.title}", "", _row(found.head), rule, *map(_row, found.lines)]
    lines += ["", *(f"- {_code(text)}" for text in remarks(paper))]
    return "\n".join(lines)


def _row(texts: tuple[str, ...]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _code(text: str) -> str:
    start, _, rest = text.partition(": ")
    return f"{start}: `{rest}`" if start == "again" else text


def page() -> str:
    """The whole page."""
    papers = find(RESULTS)
    legend = [LEGEND + "."] if has_scaled(papers) else []
    return "\n\n".join([TOP.rstrip(), *legend, *map(section, papers)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
