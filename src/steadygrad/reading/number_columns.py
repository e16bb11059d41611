"""Columns of numbers: which they are, how their numbers are written, their values."""

import re
from dataclasses import replace

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.cells import TIMES, ColumnCells
from steadygrad.reading.date_names import is_clock_name, is_date_name
from steadygrad.reading.draft import MAX_CATEGORIES, Draft, is_missing, missing_marks
from steadygrad.reading.numbers import (
    Evidence,
    NumberStyle,
    convert,
    decide,
    measure_of,
    split_number,
)
from steadygrad.reading.rows import Rows
from steadygrad.reading.spec import ColumnSpec

PADDED = re.compile(r"[+-]?0\d+,\d+")
TEXT_SHARE = 0.5  # a column with more text than this was never meant to be numbers
FEW = 2  # texts in a column of numbers are mistakes; more of them may be codes


def read_numbers(draft: Draft, rows: Rows) -> None:
    """Read every column that is one of numbers; what else there is goes to ``texts``."""
    extra = missing_marks(draft)
    for name, cells in draft.raw.columns.items():
        known = draft.spec.column(name) if draft.spec else None
        if known is not None and known.role != "number" and not _is_date_of_digits(draft, name):
            draft.texts[name] = cells
            continue
        if name == draft.reading.series or _is_clock(name, cells):
            draft.texts[name] = cells
            continue
        if not cells.is_plain and not _is_of_numbers(cells, extra):
            draft.texts[name] = cells
            continue
        draft.styles[name] = known.style if known is not None else NumberStyle()
    if draft.spec is None:
        _decide_styles(draft)
    rows.width = len(draft.styles.keys() - draft.raw.nameless)
    for name, style in draft.styles.items():
        cells = draft.raw.columns[name]
        values, bad = _converted(cells, style, extra)
        for row, cell in bad[:1000]:
            rows.bad(row, name, cell, "a number", len(bad))
        if not np.isfinite(values).any():
            if name in draft.styles and not bad:
                _drop_empty(draft, name, cells)
                continue
        draft.numbers[name] = values
    for name in [n for n in draft.styles if n in draft.dropped]:
        del draft.styles[name]


def _is_clock(name: str, cells: ColumnCells) -> bool:
    """Whether a column holds times of day that read like decimal numbers: 00.30."""
    if cells.is_plain or not is_clock_name(name):
        return False
    sample = cells.sample()
    return bool(sample) and all(TIMES.fullmatch(cell) for cell in sample)


def _is_date_of_digits(draft: Draft, name: str) -> bool:
    dates = draft.spec.dates if draft.spec is not None else None
    return dates is not None and name in dates.columns and dates.is_number(name)


def _drop_empty(draft: Draft, name: str, cells: ColumnCells) -> None:
    nameless = name in draft.raw.nameless
    if nameless and not cells.first:
        draft.dropped[name] = ColumnSpec(name, "dropped", why="no name and no values")
        return
    draft.drop(name, "holds no number in any row", 0, cells.first)


def _is_of_numbers(cells: ColumnCells, missing: frozenset[str]) -> bool:
    """Gather the evidence of a column; whether it is one of numbers."""
    sample = [c for c in cells.sample() if c.lower() not in missing]
    cells.evidence.measure = measure_of(sample)
    numbers, texts, _ = replace(Evidence.nothing(), measure=cells.evidence.measure).see(sample)
    if texts > TEXT_SHARE * (numbers + texts):
        return False
    total = texts = 0
    for _, chunk in cells.texts():
        told = [c for c in chunk if c.strip().lower() not in missing] if missing else chunk
        found, wrong, _ = cells.evidence.see(told)
        total, texts = total + found, texts + wrong
    plain = sum(len(c) for c in cells.chunks if isinstance(c, np.ndarray))
    is_text = texts > TEXT_SHARE * (total + texts + plain)
    return not is_text and not (texts > FEW and _is_coded(cells))


def _is_coded(cells: ColumnCells) -> bool:
    """Whether a column holds few different codes, at least half of them texts: 0, a, b."""
    kinds: set[str] = set()
    for chunk in cells.strings():
        kinds.update(c.strip() for c in chunk if not is_missing(c))
        if len(kinds) > MAX_CATEGORIES:
            return False
    return sum(split_number(c) is None for c in kinds) >= 0.5 * len(kinds)


def _decide_styles(draft: Draft) -> None:
    """Decide every column's style; a column that proves its decimal mark speaks for the file."""
    marks = (".", None) if draft.raw.points_are_decimal else draft.reading.marks
    proofs: dict[str, str] = {}
    for name in draft.styles:
        # The point of 06.1981 and of 00.30 is no decimal mark.
        if is_date_name(name) or is_clock_name(name):
            continue
        evidence = draft.raw.columns[name].evidence
        for mark in evidence.decimal:
            proofs.setdefault(mark, name)
        for mark, decimal in ((".", ","), (",", ".")):
            if mark in evidence.thousands:
                proofs.setdefault(decimal, name)
    file = next(iter(proofs.items())) if len(proofs) == 1 else None
    for name in draft.styles:
        evidence = draft.raw.columns[name].evidence
        style = decide(evidence, name, draft.where, marks, file)
        draft.styles[name] = style
        _refuse_parts(draft, name, style)
        if style.text:
            other = (
                ""
                if file is None or file[1] == name or evidence.decimal
                else (
                    f" (column {file[1]!r} tells)"
                    if evidence.either and not evidence.thousands
                    else ""
                )
            )
            draft.notes.append(f"column {name!r}: {style.text}{other}")


def _refuse_parts(draft: Draft, name: str, style: NumberStyle) -> None:
    """Ask about +0123,1 where commas part the cells: a value and a flag, and no decimal comma."""
    if draft.raw.delimiter != "," or style.decimal != "," or draft.reading.marks[0] is not None:
        return
    cell = next(filter(PADDED.fullmatch, draft.raw.columns[name].sample()), None)
    if cell is not None:
        raise InputError(
            f"{draft.where}: column {name!r}: {cell!r} is a number with a decimal comma, or"
            " a value and what is told of it, such as its quality; pass --decimal , for the"
            f" first, for the second split the column, or leave it out by --drop '{name}'"
        )


def _converted(
    cells: ColumnCells, style: NumberStyle, missing: frozenset[str]
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    parts: list[np.ndarray] = []
    bad: list[tuple[int, str]] = []
    row = 0
    for chunk, texts in zip(cells.chunks, _chunks(cells), strict=True):
        if texts is None:
            assert isinstance(chunk, np.ndarray)
            parts.append(chunk)
            row += len(chunk)
            continue
        values, wrong = convert(texts, style, missing)
        bad += [(row + i, texts[i]) for i in wrong]
        parts.append(values)
        row += len(texts)
    values = np.concatenate(parts) if parts else np.empty(0)
    cells.chunks.clear()  # each column is held once
    for code in missing:
        try:
            values[values == float(code)] = np.nan
        except ValueError:
            continue
    return values, bad


def _chunks(cells: ColumnCells) -> list[list[str] | None]:
    strings = dict(cells.texts())
    found: list[list[str] | None] = []
    row = 0
    for size in cells.sizes:
        found.append(strings.get(row) if size else [])
        row += size
    return found
