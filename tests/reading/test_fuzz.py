"""Files written by an oracle, so that the truth is known: read as meant, or refused in one line.

Never a traceback, never a number that is not the one written. The default suite tries the first
hundred; ``pytest -m slow tests/reading/test_fuzz.py`` tries thousands. Each file is drawn from its
number alone, so that one that fails can be written again.
"""

import json
import random
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading import Reading, Table, TableSpec, lines, read_table
from steadygrad.reading.prose import is_table
from tests.reading.oracle import Written, draw_file

LONGEST = 900  # letters of a refusal


def truth_order(written: Written, table: Table) -> np.ndarray:
    """Return the order that the rows should come in."""
    rows = len(next(iter(written.cells.values())))
    if written.stamps is None or table.dates is None:
        order = np.arange(rows)
        stamps = order
    else:
        stamps = np.array(written.stamps, "datetime64[us]")
        if (stamps[1:] <= stamps[:-1]).all():  # newest first is turned round as it stands
            stamps_order = np.arange(rows)[::-1]
            order = stamps_order[np.argsort(stamps[::-1], kind="stable")]
        else:
            order = np.argsort(stamps, kind="stable")
    if written.series is not None and table.spec.series is not None:
        names = np.array(written.cells[written.series])[order]
        order = order[np.argsort(names, kind="stable")]
    return order


def misread(written: Written, table: Table, names: dict[str, str]) -> str:
    """Return what of a table is not as it was written, or nothing.

    Args:
        written: The truth.
        table: What was read.
        names: How each column is called in the table.
    """
    order = truth_order(written, table)
    told = "\n".join(table.notes)
    if written.stamps is not None and table.dates is not None:
        stamps = np.array(written.stamps, "datetime64[us]")[order]
        if len(stamps) != len(table.dates):
            return f"{len(table.dates)} dates of {len(stamps)}"
        wrong = np.flatnonzero(stamps != table.dates)
        if len(wrong):
            return f"dates: {table.dates[wrong[0]]} is {stamps[wrong[0]]}"
    elif written.stamps is None and table.dates is not None:
        return f"dates made up: {table.dates[:2]}"
    for name, truth in written.numbers.items():
        truth = truth[order]
        column = table.spec.column(names[name])
        if column is None and "read as" in told:  # names of another encoding; numbers are the same
            return ""
        if column is None:
            return f"column {name!r} is called otherwise: {list(table.numbers)}"
        if names[name] not in table.numbers:
            is_told = f"column {names[name]!r}" in told
            if not (is_told or np.isnan(truth).all()) or column.role == "date":
                return f"number {name!r} became {column.role}, told: {is_told}"
            continue
        values, missing = table.numbers[names[name]], table.missing[names[name]]
        is_bare = not written.texts and written.stamps is None
        if len(values) != len(truth) and is_bare and "without any value" in told:
            return ""  # empty lines at the ends are no gaps
        if written.path.suffix == ".xlsx" and is_bare:
            is_empty = np.isnan(truth[len(values) :]).all()
            truth = truth[: len(values)] if is_empty else truth  # a sheet ends with a filled cell
        if len(values) != len(truth):
            return f"{len(values)} rows of {len(truth)}"
        known = ~np.isnan(truth)
        wrong = np.flatnonzero(known & ~missing & ~np.isclose(values, truth, rtol=1e-12, atol=0))
        if len(wrong):
            return f"number {name!r}: {values[wrong[0]]} is {truth[wrong[0]]}"
        code = written.codes.get(name)
        untold = ~known & ~missing
        if code is not None and f"stands for a missing value, pass --missing={code:g}" in told:
            untold &= values != code
        if untold.any():
            return f"number {name!r}: nothing became {values[untold][0]}"
        if (known & missing).any() and not any(
            names[name] in n and "read as missing" in n for n in table.notes
        ):
            return f"number {name!r}: {truth[known & missing][0]} was lost"
    for name, texts in written.texts.items():
        if (found := table.categories.get(names[name])) is not None:
            kinds = np.array([*found.kinds, ""])[found.codes]
            is_same = list(kinds) == [texts[i].strip() for i in order]
            if not is_same and "read as" not in told:
                return f"category {name!r}"
    return ""


def read_again(table: Table, path: Path) -> str:
    """Read as a model reads a new file: by what was understood, kept as JSON, nothing decided."""
    spec = TableSpec.of(json.loads(json.dumps(table.spec.plain())))
    again = read_table(path, spec=spec)
    if again.numbers.keys() != table.numbers.keys():
        return "again: other columns"
    for name, values in table.numbers.items():
        if not np.array_equal(again.numbers[name], values):
            return f"again: number {name!r}"
    for name, category in table.categories.items():
        if not np.array_equal(again.categories[name].codes, category.codes):
            return f"again: category {name!r}"
    if table.dates is not None and not np.array_equal(np.asarray(again.dates), table.dates):
        return "again: dates"
    return ""


def judge(seed: int, folder: Path) -> tuple[str, str, Written]:
    """Read a drawn file; return ``read``, ``asked`` or ``wrong``, and what was said.

    Every third file is read in blocks of 25 rows, as large files are in blocks of thousands.
    """
    with patch.object(lines, "CHUNK", 25 if seed % 3 == 0 else lines.CHUNK):
        return _judged(seed, folder)


def _judged(seed: int, folder: Path) -> tuple[str, str, Written]:
    draw = random.Random(seed)
    written = draw_file(draw, folder)
    reading = Reading(
        header="auto" if written.header else "none",
        series=None if written.series is None or draw.random() < 0.3 else written.series,
    )
    names = {n: n for n in written.cells}
    try:
        if not is_table(written.path):
            return "wrong", "taken for prose", written
        if not written.header:
            try:
                read_table(written.path)
            except InputError as error:
                if "header none" not in str(error):
                    return _refused(str(error), written)
            else:
                return "wrong", "data taken for a header", written
            shift = written.parts.get("index column") is not None
            names = {n: str(i + 1 + shift) for i, n in enumerate(written.cells)}
            if written.series:
                reading = Reading(header="none", series=names[written.series])
        table = read_table(written.path, reading)
    except InputError as error:
        return _refused(str(error), written)
    if wrong := misread(written, table, names) or read_again(table, written.path):
        return "wrong", wrong, written
    if written.stamps is not None and table.dates is None:
        told = "; ".join(table.notes)
        is_told = (
            "dates in any known form" in told or "nor dates" in told or "are not taken" in told
        )
        # Without names, parts of dates are numbers like any other.
        is_told |= not written.header
        return "undated" if is_told else "wrong", f"no dates: {told}", written
    if written.series is not None and table.spec.series is None:
        return "wrong", "several series read as one", written
    return "read", "", written


def _refused(told: str, written: Written) -> tuple[str, str, Written]:
    is_short = "\n" not in told and len(told) < LONGEST
    return ("asked" if is_short else "wrong"), told, written


@pytest.mark.parametrize("block", range(5))
def test_a_hundred_files(block: int, tmp_path: Path) -> None:
    outcomes = [(seed, *judge(seed, tmp_path)) for seed in range(block * 20, block * 20 + 20)]
    wrong = [(seed, told, w.parts) for seed, what, told, w in outcomes if what == "wrong"]
    assert not wrong
    assert sum(what == "read" for _, what, *_ in outcomes) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("block", range(30))
def test_thirty_thousand_files(block: int, tmp_path: Path) -> None:
    for seed in range(1000 + block * 1000, 2000 + block * 1000):
        what, told, written = judge(seed, tmp_path)
        assert what != "wrong", (seed, told, written.parts)


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(b, marks=pytest.mark.slow) for b in range(1, 80))]
)
def test_any_bytes_are_refused_in_one_line(block: int, tmp_path: Path) -> None:
    for seed in range(block * 25, block * 25 + 25):
        draw = random.Random(seed)
        path = draw_file(draw, tmp_path).path
        data = bytearray(path.read_bytes())
        for _ in range(draw.randint(1, 20)):
            at = draw.randrange(len(data))
            data[at : at + draw.choice((0, 1, 1, 5))] = draw.randbytes(draw.choice((0, 1, 1, 3)))
        path.write_bytes(bytes(data[: draw.choice((len(data), len(data) // 2, 40))]) or b"x")
        try:
            is_table(path)
            read_table(path)
        except InputError as error:
            assert len(str(error)) < 1000, seed
