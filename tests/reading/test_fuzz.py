"""Files written by an oracle, so that the truth is known: read as meant, or refused in one line.

Never a traceback, never a number that is not the one written.
"""

import json
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading import Table, TableSpec, read_table
from steadygrad.reading.prose import is_table

DAY_FORMS = (
    *(
        "%Y-%m-%d",
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%d/%m/%Y",
        "%d.%m.%y",
        "%d-%b-%Y",
        "%b %d, %Y",
        "%Y%m%d",
    ),
    *("%Y/%m/%d", "%d %B %Y", "%Y年%m月%d日", "%d-%b-%y"),
)
CLOCK_FORMS = (" %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
STEPS = (timedelta(minutes=10), timedelta(hours=1), timedelta(days=1), timedelta(days=7))
MISSING = ("", "NA", "n/a", "?", "NaN", "null", "-")
SIGNS = ("$", "€", "£", "%", " €", " %", " kr")
TOTALS = ("Total", "Summe", "合计", "Sum:")
# Why a file may be refused: it can be read in two ways, or says nothing that could be read.
REASONS = (
    *("no cell tells", "two ways", "every date comes", "name is expected", "per cent"),
    "one column with decimal",
)
WORDS = ("north", "south", "east", "Größe", "a b", "x-1", "No")


@dataclass
class Written:
    """What the oracle wrote: cells by column, and what they mean."""

    cells: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    stamps: list[datetime] | None = None
    delimiter: str = ","
    encoding: str = "utf-8"


def write_number(value: float, digits: int, style: tuple[str, str]) -> str:
    thousands, decimal = style
    marks = str.maketrans({",": thousands or "_", ".": decimal})
    text = f"{abs(value):,.{digits}f}".translate(marks)
    return ("-" if value < 0 else "") + text.replace("_", "")


def draw_numbers(
    draw: random.Random, rows: int, style: tuple[str, str]
) -> tuple[list[str], np.ndarray]:
    digits = draw.choice((0, 0, 1, 2, 3, 4))
    size = draw.choice((1, 20, 900, 5_000, 3_000_000))
    low = draw.choice((-1, 0, 0.3)) * size
    values = np.array([round(draw.uniform(low, size), digits) for _ in range(rows)]) + 0.0
    unit = draw.choice(SIGNS) if draw.random() < 0.2 else ""
    cells: list[str] = []
    for row, value in enumerate(values):
        if draw.random() < 0.03:
            values[row] = np.nan
            cells.append(draw.choice(MISSING))
            continue
        text = write_number(value, digits, style)
        cells.append(text if not unit else unit + text if unit in "$€£" else text + unit)
    return cells, values


def draw_stamps(draw: random.Random, rows: int, written: Written) -> None:
    step = draw.choice(STEPS)
    first = datetime(draw.randint(1975, 2024), draw.randint(1, 12), draw.randint(1, 28))
    stamps = [first + i * step for i in range(rows)]
    day = draw.choice(DAY_FORMS)
    if step >= timedelta(days=1):
        written.cells["Date"] = [s.strftime(day) for s in stamps]
    elif draw.random() < 0.5:
        clock = draw.choice(CLOCK_FORMS)
        written.cells["Zeit"] = [s.strftime(day + clock) for s in stamps]
    else:
        clock = draw.choice(CLOCK_FORMS).strip()
        written.cells["Date"] = [s.strftime(day) for s in stamps]
        written.cells["Time"] = [s.strftime(clock) for s in stamps]
    written.stamps = stamps


def draw_file(draw: random.Random, path: Path) -> Written:
    written = Written()
    rows = draw.randint(30, 150)
    style = draw.choice((("", "."), (",", "."), ("", ","), (".", ","), (" ", ","), ("'", ".")))
    written.delimiter = draw.choice(",;\t|")
    if draw.random() < 0.8:
        draw_stamps(draw, rows, written)
    for number in range(draw.randint(1, 4)):
        name = draw.choice(("v", "Größe", "Temp (°C)", "2020", "x y")) + str(number)
        written.cells[name], written.numbers[name] = draw_numbers(draw, rows, style)
    if draw.random() < 0.3:
        some = draw.sample(WORDS, draw.randint(2, 4))
        written.cells["kind"] = [draw.choice(some) for _ in range(rows)]
    written.encoding = draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))
    backwards = draw.random() < 0.2
    names = list(written.cells)
    table = [list(row) for row in zip(*written.cells.values(), strict=True)]
    if backwards:
        table.reverse()
        if written.stamps is None:
            written.numbers = {n: v[::-1] for n, v in written.numbers.items()}
    lines = [names, *table]
    if draw.random() < 0.1:
        lines.insert(len(lines) // 2, names)
    tail = [""] * draw.choice((0, 0, 0, 1, 2))
    if draw.random() < 0.1 and written.stamps is not None:
        totals = [write_number(1e6 + 0.25, 2, style) for _ in names[1:]]
        lines.append([draw.choice(TOTALS), *totals])
    if draw.random() < 0.1:
        lines += [[""] * len(names)] * 2
    quote = draw.random() < 0.2

    def cell(text: str) -> str:
        return f'"{text}"' if quote or written.delimiter in text else text

    ending = draw.choice(("\n", "\r\n"))
    text = ending.join(written.delimiter.join([*map(cell, line), *tail]) for line in lines) + ending
    path.write_bytes(text.encode(written.encoding))
    return written


def assert_as_written(table: Table, written: Written, seed: int) -> None:
    for name, truth in written.numbers.items():
        if name not in table.numbers:
            column = table.spec.column(name)
            assert column is not None, (seed, name)
            assert column.role == "dropped" or np.isnan(truth).all(), (seed, name, column)
            continue
        values = table.numbers[name]
        assert len(values) == len(truth), (seed, name, len(values), len(truth))
        known = ~np.isnan(truth)
        wrong = known & ~table.missing[name] & ~np.isclose(values, truth, rtol=1e-12, atol=0)
        assert not wrong.any(), (seed, name, values[wrong][:3], truth[wrong][:3])
        assert (table.missing[name] >= ~known).all(), (seed, name)
        # A value that was written may be read as missing only if that is told.
        lost = known & table.missing[name]
        assert not lost.any() or any(name in n and "read as missing" in n for n in table.notes)
    if written.stamps is not None and table.dates is not None:
        stamps = np.array(written.stamps, "datetime64[us]")
        np.testing.assert_array_equal(table.dates, stamps, err_msg=str(seed))


def check(seed: int, path: Path) -> str:
    """Read one drawn file; return what became of it."""
    draw = random.Random(seed)
    written = draw_file(draw, path)
    assert is_table(path), seed
    try:
        table = read_table(path)
    except InputError as error:
        told = str(error)
        assert "\n" not in told and len(told) < 700, seed
        # What is refused must be for one of the reasons that leave no choice, with what to pass.
        assert any(
            said in told
            for said in (
                "no cell tells",
                "two ways",
                "every date comes",
                "name is expected",
                "per cent",
                "one column with decimal",
            )
        ), (seed, told)
        return "asked"
    assert_as_written(table, written, seed)
    if written.stamps is not None:
        assert table.dates is not None, (seed, table.notes)
    assert_read_alike(table, path, seed)
    return "read"


def assert_read_alike(table: Table, path: Path, seed: int) -> None:
    """As a model reads a new file: by what was understood, kept as JSON, and nothing decided."""
    spec = TableSpec.of(json.loads(json.dumps(table.spec.plain())))
    again = read_table(path, spec=spec)
    assert again.numbers.keys() == table.numbers.keys(), seed
    for name, values in table.numbers.items():
        np.testing.assert_array_equal(again.numbers[name], values, err_msg=f"{seed} {name}")
    for name, category in table.categories.items():
        np.testing.assert_array_equal(again.categories[name].codes, category.codes, err_msg=name)
    if table.dates is not None:
        assert again.dates is not None
        np.testing.assert_array_equal(again.dates, table.dates, err_msg=str(seed))


@pytest.mark.parametrize("block", range(10))
def test_three_hundred_files(block: int, tmp_path: Path) -> None:
    seeds = range(block * 30, block * 30 + 30)
    outcomes = [check(seed, tmp_path / "a.csv") for seed in seeds]
    assert outcomes.count("read") >= 20


@pytest.mark.slow
@pytest.mark.parametrize("block", range(30))
def test_thirty_thousand_files(block: int, tmp_path: Path) -> None:
    for seed in range(1000 + block * 1000, 2000 + block * 1000):
        check(seed, tmp_path / "a.csv")


@pytest.mark.parametrize("block", range(6))
def test_any_bytes_are_refused_in_one_line(block: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for seed in range(block * 50, block * 50 + 50):
        draw = random.Random(seed)
        draw_file(draw, path)
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
