"""Table of published numbers beside ours, from the results in ``benchmarks/papers``.

A row whose run was smaller or shorter than the published one is *scaled*; its published number is
always marked.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from steadygrad.report.markup import el, table
from steadygrad.report.page import document

TITLE = "Published results beside ours"
MARK = "\u2020"
LEGEND = (
    f"{MARK} scaled: ours was smaller or shorter than the published run, so not directly comparable"
)


@dataclass(frozen=True)
class PaperRow:
    """One number of ours beside one of a paper.

    Attributes:
        number: Place of its experiment in the whole table.
        setting, method: The experiment.
        unit, better: Unit of the numbers, and the better direction.
        ours, low, high: Median, lowest and highest over seeds; None if no run has a number.
        published, source: The paper's number, and its place; None if it has none.
        seeds: Number of our seeds.
        budget: Budget of one run.
        seconds: Median time of a run, on one thread.
        scaled: Whether the budget is smaller than the published one.
        command: The command that reproduces it.
        why: Difference from the published number, and its reason.
    """

    number: int
    setting: str
    method: str
    unit: str
    better: str
    ours: float | None
    low: float | None
    high: float | None
    published: float | str | None
    source: str
    seeds: int
    budget: str
    seconds: float
    scaled: bool
    command: str
    why: str


@dataclass(frozen=True)
class Paper:
    """The rows of one folder."""

    name: str
    title: str
    note: str
    rows: tuple[PaperRow, ...]


HEAD = (
    "setting", "method", "figure", "ours", "lowest", "highest", "published", "seeds", "minutes",
)  # fmt: skip


def cells(row: PaperRow) -> list[str]:
    """A row as texts, one per entry of `HEAD`."""
    published = _number(row.published) + f" {MARK}" * (row.scaled and row.published is not None)
    return [
        row.setting,
        row.method,
        row.unit,
        *map(_number, (row.ours, row.low, row.high)),
        published,
        str(row.seeds),
        f"{row.seconds / 60:.1f}",
    ]


def _number(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if not math.isfinite(value) or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def find(folder: Path) -> list[Paper]:
    """Read every ``*result.json`` of the folders in ``folder``, in the order of the table.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A file is not such a table.
    """
    paths = sorted(folder.glob("*/*result.json"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no folder in it holds a result.json")
    found = [paper for path in paths for paper in _read(path)]
    return sorted(found, key=lambda paper: min((r.number for r in paper.rows), default=99))


def _read(path: Path) -> list[Paper]:
    names = [field.name for field in fields(PaperRow)]
    try:
        return [
            Paper(p["name"], p["title"], p["note"], tuple(_row(r, names) for r in p["rows"]))
            for p in json.loads(path.read_text(encoding="utf-8"))["papers"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a table of a paper ({type(error).__name__}: {error}); make it anew:"
            f" python -m benchmarks.papers.{path.parent.name} --table"
        ) from None


def _row(given: dict[str, Any], names: Sequence[str]) -> PaperRow:
    values = {name: given[name] for name in names}
    for name in ("ours", "low", "high"):
        values[name] = None if values[name] is None else float(values[name])
    return PaperRow(**values)


def to_json(papers: Iterable[Paper]) -> str:
    """A JSON document; non-finite numbers are texts: "inf", "nan"."""
    document = {"papers": [asdict(paper) for paper in papers]}
    for paper in document["papers"]:
        for row in paper["rows"]:
            for name in ("ours", "low", "high"):
                if row[name] is not None and not math.isfinite(row[name]):
                    row[name] = str(row[name])
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


def as_text(papers: Sequence[Paper]) -> str:
    """Format all rows, paper by paper, followed by the remarks on each."""
    rows = [cells(row) for paper in papers for row in paper.rows]
    wide = [max(len(r[i]) for r in [HEAD, *rows]) for i in range(len(HEAD))]
    lines: list[str] = []
    for paper in papers:
        lines += ["", paper.title, _line(HEAD, wide)]
        lines += [_line(cells(row), wide) for row in paper.rows]
        lines += [f"  {text}" for text in remarks(paper)]
    if has_scaled(papers):
        lines += ["", LEGEND]
    return "\n".join(lines[1:])


def has_scaled(papers: Iterable[Paper]) -> bool:
    """Whether any row is marked."""
    return any(row.scaled for paper in papers for row in paper.rows)


def remarks(paper: Paper) -> list[str]:
    """Remarks below a paper's rows: sources, reasons, budget, command; each once."""
    found = [paper.note]
    found += [f"{row.setting}, {row.method}: {row.why}" for row in paper.rows if row.why]
    found += [f"budget: {b}" for b in dict.fromkeys(row.budget for row in paper.rows)]
    found += [f"published: {s}" for s in dict.fromkeys(row.source for row in paper.rows) if s]
    found += [f"again: {c}" for c in dict.fromkeys(row.command for row in paper.rows)]
    return [text for text in found if text]


def _line(texts: Sequence[str], wide: Sequence[int]) -> str:
    parts = [
        text.ljust(size) if i < 3 else text.rjust(size)
        for i, (text, size) in enumerate(zip(texts, wide, strict=True))
    ]
    return "  ".join(parts).rstrip()


def as_csv(papers: Iterable[Paper]) -> str:
    """Comma-separated values: all fields of all rows."""
    out = io.StringIO()
    names = [field.name for field in fields(PaperRow)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["paper", *names])
    for paper in papers:
        writer.writerows([paper.name, *(getattr(r, n) for n in names)] for r in paper.rows)
    return out.getvalue()


def as_latex(papers: Iterable[Paper]) -> str:
    """A ``longtable`` for a paper, with booktabs; scaled rows keep their mark."""
    special = str.maketrans({c: "\\" + c for c in "&%$#_{}"} | {MARK: r"\dag{}"})
    lines = [HEAD, *(cells(row) for paper in papers for row in paper.rows)]
    texts = [" & ".join(c.translate(special) for c in line) for line in lines]
    body = " \\\\\n".join(texts[1:])
    return (
        f"\\begin{{longtable}}{{lll{'r' * (len(HEAD) - 3)}}}\n\\toprule {texts[0]} \\\\ \\midrule\n"
        f"{body} \\\\ \\bottomrule\n\\end{{longtable}}\n"
    )


def as_html(papers: Sequence[Paper]) -> str:
    """One offline page."""
    sections = [
        el(
            "section",
            el("h2", paper.title),
            table(HEAD, map(cells, paper.rows), class_="stack"),
            el("ul", *(el("li", text) for text in remarks(paper))),
        )
        for paper in papers
    ]
    header = el("header", el("p", "benchmarks/papers", class_="kicker"), el("h1", TITLE))
    legend = el("p", LEGEND) if has_scaled(papers) else ""
    return document(TITLE, el("main", header, legend, *sections))
