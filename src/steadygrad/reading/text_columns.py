"""Columns of texts: few different ones are categories, and a total at the end is no row."""

import numpy as np

from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.dates import formats_of
from steadygrad.reading.draft import MAX_CATEGORIES, Category, Draft
from steadygrad.reading.rows import FOOTER, Rows, is_total


def _totals(cells: ColumnCells, name: str, rows: Rows) -> None:
    """Name the rows at the end that are a total, by a text that stands in no other row."""
    last = cells.last(FOOTER)
    count = next((i for i, cell in enumerate(reversed(last)) if not is_total(cell)), len(last))
    if not count or sum(is_total(c) for chunk in cells.strings() for c in chunk) > count:
        return
    for i in range(count):
        row = cells.rows - 1 - i
        rows.bad(row, name, last[-1 - i], "that of a row of data", count)


def read_texts(draft: Draft, rows: Rows) -> None:
    """Turn columns of few different texts into categories; leave out the rest, with a cell."""
    for name, cells in draft.unused.items():
        _totals(cells, name, rows)
    for name, cells in draft.texts.items():
        if name in draft.used:
            continue
        _totals(cells, name, rows)
        known = draft.spec.column(name) if draft.spec else None
        is_series = name == (draft.spec.series if draft.spec else draft.reading.series)
        limit = cells.rows if is_series else min(MAX_CATEGORIES, max(2, cells.rows // 10))
        kinds = known.kinds if known and not is_series else None
        if kinds:  # few rows of a new file do not make fewer categories
            limit = len(kinds)
        category, first = _category(cells, limit, kinds)
        if category is not None:
            if kinds and (strange := int((category.codes < 0).sum())):
                draft.notes.append(
                    f"column {name!r}: {strange} rows hold a text that was not there in training:"
                    " read as none of its categories"
                )
            draft.categories[name] = category
            continue
        kind = "dates" if formats_of(first[1]) else "texts"
        what = (
            "holds dates, but they are not taken as those of the rows"
            if kind == "dates"
            else f"holds neither numbers nor dates, and too many different texts (over {limit})"
        )
        draft.drop(name, what, *first)
        # Names of series are looked for among them, too; without dates, what repeats.
        if kind == "texts":
            share = 0.1 if draft.dates is not None else 0.9  # times of no known form are many
            many, _ = _category(cells, max(20, int(share * cells.rows)), None)
            if many is not None:
                draft.raw.many[name] = many.codes


def _category(
    cells: ColumnCells, limit: int, kinds: tuple[str, ...] | None
) -> tuple[Category | None, tuple[int, str]]:
    """Number the texts of a column; None if there are more than ``limit``. And its first cell."""
    number: dict[str, int] = {kind: i for i, kind in enumerate(kinds or ())}
    codes: list[np.ndarray] = []
    first: tuple[int, str] = (-1, "")
    row = 0
    for chunk in cells.strings():
        found = np.empty(len(chunk), np.int64)
        for i, cell in enumerate(chunk):
            text = cell.strip()
            if kinds is None:
                found[i] = number.setdefault(text, len(number))
            else:
                found[i] = number.get(text, -1)
            if first[0] < 0 and text:
                first = (row + i, text)
        if len(number) > limit:
            return None, first
        codes.append(found)
        row += len(chunk)
    ordered = tuple(sorted(number))
    place = {kind: i for i, kind in enumerate(ordered)}
    turned = np.array([place[kind] for kind in number] + [-1], np.int64)
    return Category(turned[np.concatenate(codes or [np.empty(0, np.int64)])], ordered), first
