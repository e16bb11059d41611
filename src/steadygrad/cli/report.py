"""``steadygrad report RUN``: draw the record of a run as a page or as a figure."""

import contextlib
import json as json_format
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.record import Run
    from steadygrad.report.grid_table import Row


def report(
    runs: tuple[Path, ...],
    out: Path | None = None,
    figure: Path | None = None,
    json: bool = False,
) -> int:
    """Draw one record, or several side by side, as one self-contained HTML file.

    Args:
        runs: Records (run.db) or folders of runs, finished or not: before, tried, after; or the
            folder of one grid of steadygrad bench.
        out: The page, .html or .pdf (printed by an installed Chromium); report.html beside the
            first record if not given.
        figure: Write a figure for a paper here instead, .svg or .pdf, on white: the gradient left
            by steps back, with a band over the training; of several runs, those that differ only
            in their seed as one curve with a band.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.record.places import GRID, records_of

    if not runs:
        raise InputError("report: no record given; expected at least one run.db or folder")
    for run in runs:
        if not run.name and not run.is_dir():
            raise InputError(f"report {str(run)!r}: expected the record of a run (run.db)")
    records, rows = [], []
    if len(runs) == 1 and (runs[0] / GRID).exists():
        rows = _grid(runs[0] / GRID)
        beside = runs[0] / "grid.html"
    else:
        records = [record for run in runs for record in records_of(run)]
        beside = records[0].with_name("report.html")
    written: dict[str, str] = {}
    if figure is not None:
        written["figure"] = str(_figure(records, rows, figure))
    if out is not None or figure is None:
        page = out or beside
        written["page"] = str(_grid_page(rows, page) if rows else write_report(records, page))
    print(json_format.dumps(written, indent=2) if json else "\n".join(written.values()))
    return 0


def write_report(records: Sequence[Path], out: Path) -> Path:
    """Draw ``records`` into ``out``, replacing an existing file in one step.

    Raises:
        InputError: ``out`` cannot be written, or is a file that Steadygrad did not write.
        RecordError: A record cannot be read.
    """
    from steadygrad.report import write

    return _write(records, out, lambda opened: write(opened, out), is_drawing=False)


def check_page(out: Path) -> None:
    """Refuse a page that could not be written, before any work.

    Raises:
        InputError: The ending is unsupported, or no program can print a PDF.
    """
    _check(out, is_drawing=False)


def _figure(records: Sequence[Path], rows: "Sequence[Row]", out: Path) -> Path:
    from steadygrad.report import picture
    from steadygrad.report.grid_picture import write_picture

    def draw(opened: "list[Run]") -> Path:
        return write_picture(rows, out) if rows else picture(opened, out)

    return _write(records, out, draw, is_drawing=True)


def _grid(results: Path) -> "list[Row]":
    from steadygrad.record import Results
    from steadygrad.report.grid_table import rows

    with Results(results) as found:
        table = rows(found.rows())
    if not table:
        raise InputError(f"{results}: no run of this grid has finished yet")
    return table


def _grid_page(rows: "Sequence[Row]", out: Path) -> Path:
    from steadygrad.report.grid_page import write_grid

    title = ", ".join(dict.fromkeys(row.task for row in rows))
    return _write((), out, lambda _: write_grid(rows, title, out), is_drawing=False)


def _write(
    records: Sequence[Path], out: Path, draw: "Callable[[list[Run]], Path]", *, is_drawing: bool
) -> Path:
    from steadygrad.record import read
    from steadygrad.record.ownership import refuse_foreign

    _check(out, is_drawing=is_drawing)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(read(path)) for path in records]
        refuse_foreign([out], "page")
        try:
            return draw(opened)
        except OSError as error:
            raise InputError(
                f"{out}: cannot be written ({error.strerror}); give another name"
            ) from None
        except ValueError as error:
            raise InputError(str(error)) from None


def _check(out: Path, *, is_drawing: bool) -> None:
    from steadygrad.report.page import check_format

    try:
        check_format(out, is_drawing=is_drawing)
    except ValueError as error:
        raise InputError(str(error)) from None
