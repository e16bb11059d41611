"""A delimited text as chunks of columns of strings, each row with the line that it came from."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.dates import looks_like_date
from steadygrad.reading.numbers import INFINITE, MISSING, Evidence, split_number

NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}
WORDS = {"tab": "\t", "blank": " ", "\\t": "\t", "": " "}
MAX_LINE = 2**20
CHUNK = 50_000  # rows
SAMPLE = 100  # lines that the delimiter is chosen by
COMMENTS = frozenset("#%")  # a line that begins with one is no row, unless it is the header
FOOTER = 5  # lines below the table that may be of another width

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Block:
    """Rows of a table.

    Args:
        columns: Cells by column.
        lines: The line of each row.
    """

    columns: list[list[str]]
    lines: np.ndarray


@dataclass
class Skipped:
    """What was passed over, for the reader: blank lines, repeated headers, comments, footers."""

    blank: int = 0
    headers: int = 0
    first_header: int = 0
    comments: int = 0
    footer: list[tuple[int, str]] = field(default_factory=list)


def text_lines(file: IO[bytes], encoding: str) -> Iterator[str]:
    """Decode line by line; a line longer than `MAX_LINE` is refused before it fills the memory."""
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    while data := file.read(2**20):
        text = rest + decoder.decode(data)
        lines = text.split("\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise _TooLong
        for line in lines:
            yield line + "\n"
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


class _TooLong(Exception):
    pass


def too_long(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """Turn a line without end into the reader's error, and old Mac line ends into lines."""
    number = 0
    try:
        for line in lines:
            number += 1
            if "\r" in line.rstrip("\r\n"):
                yield from (part + "\n" for part in line.rstrip("\r\n").split("\r"))
            else:
                yield line
    except _TooLong:
        raise InputError(
            f"{path}: line {number + 1} is longer than {MAX_LINE // 2**10} KiB;"
            " expected a table with one row a line"
        ) from None


def find_delimiter(sample: Sequence[str]) -> str:
    """Return the delimiter that splits the lines evenly into cells that read best.

    Args:
        sample: The header and lines below it, none blank.
    """
    best, best_score = ",", (0.0, 0.0, 0)
    for delimiter in (",", ";", "\t", "|", " "):
        try:
            rows = [row for row in split_rows(sample, delimiter) if row]
        except csv.Error:
            continue
        if not rows:
            continue
        widths = [len(row) for row in rows]
        width = max(set(widths), key=widths.count)
        if width < 2:
            continue
        even = widths.count(width) / len(rows)
        # Blanks stand in cells, too: they split only what nothing else does.
        if delimiter == " " and (best_score[1] > 0.9 or even < 1 or not _all_blank_split(sample)):
            continue
        body = [cell for row in rows[1:] for cell in row if len(row) == width]
        readable = sum(map(_is_readable, body)) / max(1, len(body))
        # With one row and its header alone, any mark would split evenly.
        score = (round(even, 1) * (0.5 + readable / 2), even, width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def split_rows(lines: Sequence[str] | Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """Split lines at a delimiter, quotes respected; a blank is any white space."""
    if delimiter == " ":
        return (line.split() for line in lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _all_blank_split(sample: Sequence[str]) -> bool:
    """Whether lines split by blanks are a table and not prose: numbers in every line but one."""
    rows = [line.split() for line in sample]
    counts = [sum(map(_is_readable, row)) / max(1, len(row)) for row in rows[1:] or rows]
    return min(counts, default=0.0) >= 0.5


def _is_readable(cell: str) -> bool:
    cell = cell.strip()
    key = cell.lower()
    if key in MISSING or key in INFINITE or split_number(cell) is not None:
        return True
    return looks_like_date(cell)


def is_number(cell: str) -> bool:
    """Whether a cell is a number and could not be a name such as nan."""
    parts = split_number(cell)
    return parts is not None and Evidence.nothing().see_body(parts, cell)


def blocks(
    rows: Iterator[tuple[int, list[str]]],
    names: Sequence[str],
    delimiter: str,
    path: Path,
    skipped: Skipped,
) -> Iterator[Block]:
    """Collect rows into blocks; all must be of one width.

    Args:
        rows: Line number and cells.
        names: The header's cells.
        delimiter: For the message about a row of another width.
        path: For messages.
        skipped: Is told of what is passed over.

    Raises:
        InputError: A row of another width, or text that is no table.
    """
    width = len(names)
    kept: list[list[str]] = []
    lines: list[int] = []
    header = [name.strip() for name in names]
    wanted = header if any(header) else None
    # Rows without any value: inside the table they are gaps, at its ends nothing.
    empty: list[int] = []
    below: list[tuple[int, list[str]]] = []
    is_begun = False
    try:
        for line, row in rows:
            if len(row) != width:
                if not any(cell.strip() for cell in row):
                    if width == 1:
                        empty.append(line)
                    continue
                # Empty cells too many at the end of a line say nothing.
                if len(row) > width and not any(cell.strip() for cell in row[width:]):
                    row = row[:width]
                elif _is_comment(row):
                    skipped.comments += 1
                    continue
                elif len(row) < width and not _is_readable(row[0]):
                    below.append((line, row))  # a footer, if nothing but its like follows
                    continue
                else:
                    raise _ragged(path, line, row, width, delimiter)
            if not row[0].strip() and not any(cell.strip() for cell in row):
                empty.append(line)
                continue
            if below:
                raise _ragged(path, *below[0], width, delimiter)
            if wanted is not None and row[0].strip() == wanted[0]:
                if [cell.strip() for cell in row] == wanted:
                    skipped.headers += 1
                    skipped.first_header = skipped.first_header or line
                    continue
            if empty and not is_begun:
                skipped.blank += len(empty)
                empty.clear()
            is_begun = True
            kept += [[""] * width for _ in empty]
            lines += empty
            empty.clear()
            kept.append(row)
            lines.append(line)
            if len(kept) >= CHUNK:
                yield Block(list(map(list, zip(*kept, strict=True))), np.array(lines, np.int64))
                kept, lines = [], []
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV ({error}); check its quotes") from None
    if len(below) > FOOTER or (below and not is_begun):
        raise _ragged(path, *below[0], width, delimiter)
    skipped.footer = [(line, " ".join(row).strip()) for line, row in below]
    skipped.blank += len(empty)
    if kept:
        yield Block(list(map(list, zip(*kept, strict=True))), np.array(lines, np.int64))


def lines_above(top: Sequence[str], delimiter: str, *, has_header: bool) -> int:
    """Return how many of the first lines are none of the table: comments, a title, a source.

    The table begins with the first line that has as many cells as most have, half of them filled. A
    comment can be the header, if what follows is a row of data.
    """
    rows = [row for row in numbered(iter(top), delimiter, 1) if row[1]]
    widths = [len(row) for _, row in rows if not _is_comment(row)]
    width = max(set(widths), key=widths.count) if widths else 1
    filled = sorted(sum(map(bool, map(str.strip, row))) for _, row in rows if len(row) == width)
    least = filled[len(filled) // 2] / 2 if filled else 0
    start = 0
    header: int | None = None  # where a comment begins that has the width of the table
    are_comments = True
    for end, row in rows:
        if _is_comment(row):
            header = start if len(row) == width and width > 1 else None
        elif len(row) == width and sum(map(bool, map(str.strip, row))) >= least:
            cells = [c for c in row if c.strip()]
            if has_header and header is not None and any(map(_is_readable, cells)):
                return header
            # A line that is too short, and then data: a header that lacks a name, and no title.
            is_short_header = has_header and not are_comments and all(map(_is_readable, cells))
            return 0 if is_short_header else start
        else:
            are_comments = False
        start = end
    return 0


def _is_comment(row: Sequence[str]) -> bool:
    return row[0].lstrip()[:1] in COMMENTS


def numbered(lines: Iterator[str], delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Split lines into cells; each row with the number of its last line, counted from ``first``."""
    if delimiter == " ":
        for number, line in enumerate(lines, first):
            yield number, line.split()
        return
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        yield reader.line_num + first - 1, row


def _ragged(path: Path, line: int, row: list[str], width: int, delimiter: str) -> InputError:
    other = next((d for d in ";,\t|" if d != delimiter and d in "".join(row)), None)
    if len(row) == 1 and other is not None and width > 1:
        return InputError(
            f"{path}: mixed delimiters: line 1 is split by {NAMES.get(delimiter, delimiter)},"
            f" line {line} by {NAMES[other]}; use one of them throughout"
        )
    told = NAMES.get(delimiter, repr(delimiter))
    hint = ""
    if width == 1:
        hint = (
            f"; if the table begins further below, pass --skip-rows {line - 1} or less; if it is"
            " one column with decimal commas, --delimiter ';'"
        )
    elif delimiter == "," and len(row) == 2 * width:
        hint = "; decimal commas need quotes, or another delimiter"
    return InputError(
        f"{path}: line {line} has {len(row)} fields, line 1 has {width}"
        f" (split by {told}); check that line's delimiters and quotes{hint}"
    )


def wrap(file: IO[bytes], encoding: str, path: Path) -> Iterator[str]:
    """Return the lines of a file."""
    return too_long(path, text_lines(file, encoding))


def from_string(text: str) -> Iterator[str]:
    """Return the lines of a text that is in memory."""
    return iter(io.StringIO(text, newline="\n"))
