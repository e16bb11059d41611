"""A CSV as columns of strings: delimiter found, header required, every line of one width."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steadygrad.errors import InputError
from steadygrad.tasks.calendar import parse_dates
from steadygrad.tasks.source import decode, read_bytes

DELIMITERS = (",", ";", "\t")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}
MAX_LINE = 2**20


@dataclass(frozen=True)
class Table:
    """Columns of strings by name, and the file line that each row came from."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]
    delimiter: str


def read_table(path: Path) -> Table:
    """Read a CSV with a header line.

    Raises:
        InputError: No such file, no header, lines of different widths, mixed delimiters, ...
    """
    return parse_table(read_bytes(path), path)


def parse_table(data: bytes, path: Path) -> Table:
    """Read the bytes of a CSV; ``path`` is where they come from, for the messages.

    Raises:
        InputError: As `read_table`.
    """
    end = data.find(b"\n")
    if max(end, len(data) if end < 0 else 0) > MAX_LINE:
        raise InputError(
            f"{path}: line 1 is longer than {MAX_LINE // 2**10} KiB;"
            " expected a CSV with one row a line"
        )
    text = decode(data, path)
    header, _, rest = text.lstrip("\r\n").partition("\n")
    delimiter = find_delimiter(header, rest[:MAX_LINE].splitlines()[:50], path)
    try:
        rows = list(_rows(text, delimiter))
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV ({error}); check its quotes") from None
    if not rows:
        raise InputError(f"{path}: holds blank lines only, no header line and no rows")
    body = rows[1:]
    names = _check_header(rows[0][1], body[:1000], path)
    if not body:
        raise InputError(f"{path}: a header line and no rows; expected numbers below it")
    _check_widths(names, body, delimiter, path)
    by_column = dict(zip(names, map(list, zip(*(r for _, r in body), strict=True)), strict=True))
    # A delimiter at the end of every line leaves one nameless, empty column: nothing is lost.
    if not names[-1] and not any(by_column[""]):
        del by_column[""]
    return Table(path, by_column, [line for line, _ in body], delimiter)


def find_delimiter(header: str, sample: Sequence[str], path: Path) -> str:
    """Return the delimiter of the header; the lines below must agree with it."""
    counts = {d: header.count(d) for d in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: counts[d])
    if counts[delimiter] == 0:
        return ","
    for number, line in enumerate(sample, start=2):
        other = next((d for d in DELIMITERS if d in line), None)
        if line.strip() and delimiter not in line and other is not None:
            raise InputError(
                f"{path}: mixed delimiters: line 1 is split by {NAMES[delimiter]}, line {number}"
                f" by {NAMES[other]}; use one of them throughout"
            )
    return delimiter


def _rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]


def _check_header(names: list[str], body: list[tuple[int, list[str]]], path: Path) -> list[str]:
    names = [name.strip() for name in names]
    numbers = [name for name in names if _is_number(name)]
    # A column may be called 2020. But where no cell of the line can only be a name, it is data.
    seen = [{row[i].strip() for _, row in body if i < len(row)} for i in range(len(names))]
    if numbers and all(
        _is_number(name) or name in below or not name or parse_dates([name]) is not None
        for name, below in zip(names, seen, strict=True)
    ):
        raise InputError(
            f"{path}: line 1 holds the number {numbers[0]} where a column's name is expected;"
            " add a header line"
        )
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise InputError(f"{path}: line 1 names column {sorted(doubled)[0]!r} more than once")
    return names


def _check_widths(
    names: list[str], body: list[tuple[int, list[str]]], delimiter: str, path: Path
) -> None:
    for line, row in body:
        if len(row) != len(names):
            raise InputError(
                f"{path}: line {line} has {len(row)} fields, line 1 has {len(names)}"
                f" (split by {NAMES[delimiter]}); check that line's delimiters and quotes"
            )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower() not in {"nan", "inf", "infinity"}
