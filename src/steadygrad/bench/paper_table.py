"""Table of published numbers beside ours, from the results in ``benchmarks/papers``.

A row whose run was smaller or shorter than the published one is *scaled*; its published number is
always marked.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from steadygrad.report.markup import el, table
from steadygrad.report.page import document

TITLE = "Published results beside ours"
MARK = "\u2020"
LEGEND = (
    f"{MARK} scaled: ours was smaller or shorter than the published run, so not directly comparable"
)


Layout = Literal["long", "wide"]


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
    """The rows of one folder.

    Attributes:
        name: The folder.
        title, note: What stands over and under the rows.
        rows: Its numbers.
        layout: ``"long"``, a line for each row, or ``"wide"``: a line for each method in each
            setting, its figures side by side.
    """

    name: str
    title: str
    note: str
    rows: tuple[PaperRow, ...]
    layout: Layout = "long"


HEAD = (
    "setting", "method", "figure", "ours", "lowest", "highest", "published", "seeds", "minutes",
)  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A paper's table as texts.

    Attributes:
        head: The names of the columns; the first ``texts`` of them hold texts, the others numbers.
        lines: As many cells each.
        scaled: Of each line, whether it is scaled.
        texts: How many columns hold texts.
    """

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    scaled: tuple[bool, ...]
    texts: int


def sheet(paper: Paper) -> Sheet:
    """Lay a paper's rows out.

    In the wide layout a scaled line has its mark behind the setting; lowest and highest are those
    of the first figure.
    """
    if paper.layout == "long":
        lines = tuple(tuple(cells(row)) for row in paper.rows)
        return Sheet(HEAD, lines, tuple(row.scaled for row in paper.rows), 3)
    units = tuple(dict.fromkeys(row.unit for row in paper.rows))
    groups: dict[tuple[str, str], dict[str, PaperRow]] = {}
    for row in paper.rows:
        groups.setdefault((row.setting, row.method), {})[row.unit] = row
    head = ("setting", "method", units[0], "lowest", "highest", *units[1:], "seeds", "minutes")
    lines = tuple(_wide(group, units) for group in groups.values())
    marks = tuple(any(row.scaled for row in group.values()) for group in groups.values())
    return Sheet(head, lines, marks, 2)


def _wide(group: Mapping[str, PaperRow], units: Sequence[str]) -> tuple[str, ...]:
    any_row = next(iter(group.values()))
    first = group.get(units[0])
    spread = (first.ours, first.low, first.high) if first is not None else (None,) * 3
    others = [group[unit].ours if unit in group else None for unit in units[1:]]
    return (
        any_row.setting + f" {MARK}" * any_row.scaled,
        any_row.method,
        *map(_short, (*spread, *others)),
        str(any_row.seeds),
        f"{any_row.seconds / 60:.1f}",
    )


def _short(value: float | None) -> str:
    """Three digits: many numbers stand side by side."""
    if value is None or not math.isfinite(value) or value == round(value):
        return _number(value)
    return f"{value:.3g}" if abs(value) < 1e3 else f"{value:,.0f}"


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
            Paper(
                p["name"],
                p["title"],
                p["note"],
                tuple(_row(r, names) for r in p["rows"]),
                p["layout"],
            )
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
    sheets = [sheet(paper) for paper in papers]
    widths: dict[tuple[str, ...], list[int]] = {}  # those of tables with the same columns
    for found in sheets:
        sizes = [max(map(len, column)) for column in zip(found.head, *found.lines, strict=True)]
        before = widths.get(found.head, sizes)
        widths[found.head] = [max(pair) for pair in zip(before, sizes, strict=True)]
    lines: list[str] = []
    for paper, found in zip(papers, sheets, strict=True):
        lines += ["", paper.title]
        lines += [_line(t, widths[found.head], found.texts) for t in (found.head, *found.lines)]
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


def _line(texts: Sequence[str], wide: Sequence[int], left: int) -> str:
    parts = [
        text.ljust(size) if i < left else text.rjust(size)
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
    """A ``longtable`` for each run of papers with the same columns; scaled rows are marked."""
    sheets = [sheet(paper) for paper in papers]
    grouped = groupby(sheets, key=lambda found: (found.head, found.texts))
    return "\n".join(
        _longtable(head, [line for found in group for line in found.lines], texts)
        for (head, texts), group in grouped
    )


def _longtable(head: Sequence[str], lines: Iterable[Sequence[str]], left: int) -> str:
    """With booktabs."""
    special = str.maketrans({c: "\\" + c for c in "&%$#_{}"} | {MARK: r"\dag{}"})
    texts = [" & ".join(c.translate(special) for c in line) for line in (head, *lines)]
    body = " \\\\\n".join(texts[1:])
    return (
        f"\\begin{{longtable}}{{{'l' * left}{'r' * (len(head) - left)}}}\n"
        f"\\toprule {texts[0]} \\\\ \\midrule\n{body} \\\\ \\bottomrule\n\\end{{longtable}}\n"
    )


def as_html(papers: Sequence[Paper]) -> str:
    """One offline page."""
    sections = [
        el(
            "section",
            el("h2", paper.title),
            table(found.head, found.lines, class_="stack"),
            el("ul", *(el("li", text) for text in remarks(paper))),
        )
        for paper, found in ((paper, sheet(paper)) for paper in papers)
    ]
    header = el("header", el("p", "benchmarks/papers", class_="kicker"), el("h1", TITLE))
    legend = el("p", LEGEND) if has_scaled(papers) else ""
    return document(TITLE, el("main", header, legend, *sections))
