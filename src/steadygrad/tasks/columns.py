"""Columns of strings become numbers, dates or categories; what was done is said in notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from steadygrad.errors import InputError
from steadygrad.tasks.calendar import parse_dates, parse_split_dates
from steadygrad.tasks.table import Table

MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})
MAX_CATEGORIES = 20
TEXT_SHARE = 0.5  # a column with more text than this was never meant to be numbers


@dataclass(frozen=True)
class Columns:
    """Numeric columns by name (float64, gaps filled), dates if there are any, and what was done.

    Args:
        numbers: Values in file order, or in order of date.
        dates: One per row, or None.
        constant: Names of columns dropped because they never change.
        missing: Which rows were missing or not finite and are filled forward, by column.
        notes: One sentence for every decision.
    """

    numbers: dict[str, np.ndarray]
    categories: dict[str, np.ndarray]
    dates: np.ndarray | None
    constant: tuple[str, ...]
    missing: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)


def read_columns(table: Table) -> Columns:
    """Sort the columns of ``table`` into numbers, categories and dates.

    Raises:
        InputError: Text inside a column of numbers, with its row and column.
    """
    notes: list[str] = []
    numbers: dict[str, np.ndarray] = {}
    categories: dict[str, np.ndarray] = {}
    dates: np.ndarray | None = None
    for name, cells in table.columns.items():
        values = parse_numbers(name, cells, table)
        if values is not None:
            numbers[name] = values
        elif dates is None and (parsed := parse_dates(cells)) is not None:
            dates = parsed
        else:
            categories |= _one_hot(name, cells, notes)
    if dates is None and (split := parse_split_dates(numbers)) is not None:
        dates, used = split
        numbers = {name: values for name, values in numbers.items() if name not in used}
        notes.append(f"columns {', '.join(used)} read as the date")
    if dates is not None:
        numbers, categories, dates = _in_order(numbers, categories, dates, notes)
    missing = {name: _fill(name, values, notes) for name, values in numbers.items()}
    constant = tuple(n for n, v in (numbers | categories).items() if np.ptp(v) == 0)
    return Columns(numbers, categories, dates, constant, missing, notes)


def parse_numbers(name: str, cells: list[str], table: Table) -> np.ndarray | None:
    """Return the cells as float64 with NaN where missing, or None if they are not numbers."""
    try:
        return np.array(cells, dtype=np.float64)  # the fast path: every cell a number
    except ValueError:
        pass
    values = np.full(len(cells), np.nan)
    text: list[int] = []
    present = 0
    for row, cell in enumerate(cells):
        if cell.strip().lower() in MISSING:
            continue
        present += 1
        try:
            values[row] = float(cell.replace(",", ".") if table.delimiter == ";" else cell)
        except ValueError:
            text.append(row)
    if not text:
        return values if present else None
    if len(text) > TEXT_SHARE * present:
        return None
    raise InputError(
        f"{table.path}: line {table.lines[text[0]]}, column {name!r}: expected a number, got"
        f" {cells[text[0]]!r} ({len(text)} such cell{'s' if len(text) > 1 else ''});"
        " correct it, or leave it empty"
    )


def drop_counters(numbers: Mapping[str, np.ndarray], keep: str, notes: list[str]) -> list[str]:
    """Return the names without row counters and clocks: columns that grow by one fixed step."""
    kept: list[str] = []
    for name, values in numbers.items():
        steps = np.diff(values)
        even = (
            len(steps) > 0
            and bool(np.allclose(steps, steps.mean(), rtol=1e-3, atol=0))
            and steps.mean() != 0
        )
        if even and name != keep:
            notes.append(f"column {name!r} only counts the rows: dropped")
        else:
            kept.append(name)
    return kept


def _fill(name: str, values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Fill gaps forward in place (at the start: backward) and return where they were."""
    infinite = int(np.isinf(values).sum())
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    if count == 0:
        return bad
    last_good = np.maximum.accumulate(np.where(bad, -1, np.arange(len(values))))
    leading = last_good < 0
    # The rows before the first value have no past; the training part starts there, so its first
    # value leaks nothing into validation or test.
    last_good[leading] = int(np.argmin(bad))
    values[:] = values[last_good]
    kinds = f"{count - infinite} missing" if count > infinite else ""
    kinds += (" and " if kinds and infinite else "") + (f"{infinite} infinite" if infinite else "")
    notes.append(f"column {name!r}: {kinds} values filled forward")
    return bad


def _one_hot(name: str, cells: list[str], notes: list[str]) -> dict[str, np.ndarray]:
    words = np.array([cell.strip() for cell in cells])
    kinds = sorted(set(words.tolist()))
    if len(kinds) > min(MAX_CATEGORIES, max(2, len(cells) // 10)):
        notes.append(
            f"column {name!r} holds neither numbers nor dates, and too many ({len(kinds)})"
            " different texts: dropped"
        )
        return {}
    notes.append(f"column {name!r}: {len(kinds)} categories, one input each")
    return {f"{name}={kind}": (words == kind).astype(np.float64) for kind in kinds}


def _in_order(
    numbers: dict[str, np.ndarray],
    categories: dict[str, np.ndarray],
    dates: np.ndarray,
    notes: list[str],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    if (np.diff(dates) >= np.timedelta64(0, "s")).all():
        return numbers, categories, dates
    order = np.argsort(dates, kind="stable")
    notes.append("rows were not in order of date: sorted")
    return (
        {name: values[order] for name, values in numbers.items()},
        {name: values[order] for name, values in categories.items()},
        dates[order],
    )
