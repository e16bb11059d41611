"""Describe how a file was understood, row by row, for the user to check before training."""

from steadygrad.reading.spec import ColumnSpec, TableSpec
from steadygrad.reading.steps import duration
from steadygrad.tasks.base import Split, Task
from steadygrad.tasks.forecast import Forecast
from steadygrad.tasks.forecast_spec import ForecastSpec
from steadygrad.tasks.text import Text

FORMS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}
MOST = 12  # names listed in one row
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Rows = tuple[tuple[str, str], ...]


def understood(task: Task) -> Rows:
    """Return title and text of each row; the last rows are notes on the preparation."""
    if isinstance(task, Forecast) and task.spec is not None:
        return _forecast(task, task.spec)
    if isinstance(task, Text):
        return _text(task)
    return tuple(("note", note) for note in task.notes)


def _text(task: Text) -> Rows:
    rows = [
        ("file", f"{task.origin.get('file', '')}: text, {len(task.codes)} {task.symbol} symbols"),
        ("symbols", f"{len(task.vocabulary)} different"),
        ("window", f"{task.window} symbols"),
    ]
    return (*rows, *(("note", note) for note in task.notes))


def _forecast(task: Forecast, spec: ForecastSpec) -> Rows:
    table = spec.table
    rows = [
        ("file", f"{task.origin.get('file', '')}: {_form(table)}, {len(task.y)} rows"),
        ("target", _target(spec)),
        ("horizon", _long(task.horizon, table)),
        ("window", _long(task.window, table)),
        ("step of time", _step(table)),
    ]
    if table.dates is not None:
        gaps = f"{table.gaps}, the longest {duration(table.longest_gap)}" if table.gaps else "none"
        rows.append(("gaps", gaps))
    if len(table.names) > 1:
        rows.append(("series", f"{len(table.names)} by {table.series!r}: {_some(table.names)}"))
    for title, source in (
        ("inputs, numbers", "number"),
        ("inputs, categories", "category"),
        ("inputs, clock", "calendar"),
        ("inputs, known ahead", "known"),
    ):
        names = [i.name for i in spec.inputs if i.source == source]
        if names:
            rows.append((title, _some(names)))
    windows = ", ".join(f"{split} {len(task.origins(split))}" for split in SPLITS)
    rows.append(("windows", windows))
    rows += [("dropped", _dropped(column)) for column in table.columns if _is_told(column)]
    covered = [c.name for c in table.columns if _is_told(c)]
    left = [n for n in task.notes if not _covers(n, covered)]
    return (*rows, *(("note", note) for note in left))


def _form(table: TableSpec) -> str:
    if table.format != "text":
        return table.format
    header = "" if table.has_header else ", no header"
    return f"{table.encoding}, split by {FORMS.get(table.delimiter, table.delimiter)}{header}"


def _target(spec: ForecastSpec) -> str:
    column = spec.table.column(spec.target)
    style = column.style.text if column is not None else ""
    return spec.target + (f" ({style})" if style else "") + "; --target chooses another"


def _long(rows: int, table: TableSpec) -> str:
    counted = f"{rows} row{'s' if rows != 1 else ''}"
    if not table.step or table.frequency in ("", "business day", "1 month", "3 months", "1 year"):
        unit = table.frequency.removeprefix("1 ").removesuffix("s")
        if unit and not table.frequency.startswith("3"):
            return f"{counted} ({rows} {unit}{'s' if rows != 1 else ''})"
        return counted
    return f"{counted} ({duration(rows * table.step)})"


def _step(table: TableSpec) -> str:
    if table.dates is None:
        return "none: no column of dates, rows in the order of the file; --date names one"
    told = table.frequency or "none"
    return told + (f", on a grid of {table.every}" if table.every else "")


def _is_told(column: ColumnSpec) -> bool:
    return column.role == "dropped" and column.why != "no name and no values"


def _dropped(column: ColumnSpec) -> str:
    at = f" (line {column.line}: {column.cell!r})" if column.line and column.cell else ""
    hint = ""
    if at and "asked" not in column.why:
        hint = "; if that is wrong: --decimal, --date-format or --missing say how it is written"
        if column.why.startswith("holds dates"):
            hint = f"; --date {column.name!r} takes them"
    return f"{column.name}: {column.why}{at}{hint}"


def _covers(note: str, names: list[str]) -> bool:
    return note.endswith(": dropped") and any(note.startswith(f"column {n!r} ") for n in names)


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:MOST])
    return shown + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
