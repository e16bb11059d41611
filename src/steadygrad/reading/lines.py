"""A delimited text as chunks of columns of strings, each row with the line that it came from."""

import codecs
import csv
import io
import itertools
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.dates import looks_like_date
from steadygrad.reading.numbers import INFINITE, MISSING, Evidence, measure_of, split_number

NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}
WORDS = {"tab": "\t", "blank": " ", "\\t": "\t", "": " "}
MAX_LINE = 2**20
CHUNK = 50_000  # rows
SAMPLE = 100  # lines that the delimiter is chosen by
COMMENTS = frozenset("#%")  # a line that begins with one is no row, unless it is the header
BLANKS = re.compile(r"[ \t\r\n\f\v]+")
WIDE = re.compile(r"\S(?:\t| {2,})\S")  # the gap between columns of print
FOOTER = 20  # lines below the table that may be of another width
HAS_DAY = re.compile(r"\d{4}[-/.]\d\d[-/.]\d\d")
BORDER = re.compile(r"[-+=|: ]*-{3}[-+=|: ]*")  # as programs print them around a table

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Block:
    """Rows of a table.

    Args:
        columns: Cells by column; numbers where numpy has read them.
        lines: The line of each row.
    """

    columns: list[list[str] | np.ndarray]
    lines: np.ndarray


@dataclass
class Skipped:
    """What was passed over, for the reader: blank lines, repeated headers, comments, footers."""

    blank: int = 0
    headers: int = 0
    first_header: int = 0
    comments: int = 0
    footer: list[tuple[int, str]] = field(default_factory=list)


def text_lines(file: IO[bytes], encoding: str, path: Path) -> Iterator[str]:
    """Decode line by line; the line ends of old Macs are lines, too.

    Raises:
        InputError: A line longer than `MAX_LINE`: refused before it fills the memory.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    number = 1
    is_last = False
    while not is_last:
        data = file.read(2**20)
        is_last = not data
        text = rest + decoder.decode(data, final=is_last)
        if "\r" in text:
            held = "\r" if text.endswith("\r") and not is_last else ""  # its \n may follow
            text = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n") + held
        lines = text.split("\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE or (lines and max(map(len, lines)) > MAX_LINE):
            number += next((i for i, line in enumerate(lines) if len(line) > MAX_LINE), len(lines))
            raise InputError(
                f"{path}: line {number} is longer than {MAX_LINE // 2**10} KiB;"
                " expected a table with one row a line"
            )
        number += len(lines)
        for line in lines:
            yield line + "\n"
    if rest:
        yield rest


def find_delimiter(sample: Sequence[str]) -> str:
    """Return the delimiter that splits the lines evenly into cells that read best.

    Args:
        sample: The header and lines below it, none blank.
    """
    best, best_score, best_readable = ",", (0.0, 0.0, 0), 0.0
    # A comma stands in numbers, too: of those that split alike, it comes last.
    for delimiter in ("\t", ";", "|", ",", " "):
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
        is_split = best_score[1] > 0.9 and best_readable > 0.3
        is_split &= best_score[1] == 1 or even < 1 or width <= best_score[2]
        if delimiter == " " and (is_split or even < 1 or not _all_blank_split(sample)):
            continue
        body = [cell for row in rows[1:] for cell in row if len(row) == width]
        readable = sum(map(_is_amount, body)) / max(1, len(body))
        # With one row and its header alone, any mark would split evenly.
        score = (round(even, 1) * (0.5 + readable / 2), even, width)
        if score > best_score:
            best, best_score, best_readable = delimiter, score, readable
    return best


def split_rows(lines: Sequence[str] | Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """Split lines at a delimiter, quotes respected; a blank is any white space."""
    if delimiter == " ":
        return map(_words, lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _words(line: str) -> list[str]:
    """Split at blanks and tabs; those of print stand inside numbers."""
    return BLANKS.split(bare) if (bare := line.strip()) else []


def _all_blank_split(sample: Sequence[str]) -> bool:
    """Whether lines split by blanks are a table and not prose: numbers in every line but one."""
    rows = list(map(_words, sample))
    counts = [sum(map(_is_readable, row)) / max(1, len(row)) for row in rows[1:] or rows]
    return min(counts, default=0.0) >= 0.5


def _is_readable(cell: str) -> bool:
    cell = cell.strip()
    key = cell.lower()
    if key in MISSING or key in INFINITE or split_number(cell) is not None:
        return True
    return looks_like_date(cell)


def _is_amount(cell: str) -> bool:
    """Whether a cell is readable, a unit behind its number taken off."""
    return _is_readable(cell) or bool(measure_of([cell]))


def is_number(cell: str) -> bool:
    """Whether a cell is a number and could not be a name such as nan."""
    parts = split_number(cell)
    return parts is not None and Evidence.nothing().see_body(parts, cell)


class Collector:
    """Collects rows into blocks, all of one width, and passes over what is no row.

    Args:
        names: The header's cells; all empty: no line can be a repeated header.
        delimiter: For the message about a row of another width.
        path: For messages.
        skipped: Is told of what is passed over.
    """

    def __init__(self, names: Sequence[str], delimiter: str, path: Path, skipped: Skipped) -> None:
        self.width = len(names)
        self.header = [name.strip() for name in names] if any(map(str.strip, names)) else None
        self.delimiter, self.path, self.skipped = delimiter, path, skipped
        self.kept: list[list[str]] = []
        self.lines: list[int] = []
        # Rows without any value: inside the table they are gaps, at its ends nothing.
        self.empty: list[int] = []
        self.below: list[tuple[int, list[str]]] = []
        self.is_begun = False

    def add(self, line: int, row: list[str]) -> None:
        """Take in a row.

        Raises:
            InputError: A row of another width inside the table.
        """
        if len(row) != self.width:
            fitted = self._fitted(line, row)
            if fitted is None:
                return
            row = fitted
        if not row[0].strip() and not any(cell.strip() for cell in row):
            self.empty.append(line)
            return
        if self.below:
            raise _ragged(self.path, *self.below[0], self.width, self.delimiter)
        if self.header is not None and row[0].strip() == self.header[0]:
            if [cell.strip() for cell in row] == self.header:
                self.skipped.headers += 1
                self.skipped.first_header = self.skipped.first_header or line
                return
        if self.empty and not self.is_begun:
            self.skipped.blank += len(self.empty)
            self.empty.clear()
        self.is_begun = True
        self.kept += [[""] * self.width for _ in self.empty]
        self.lines += self.empty
        self.empty.clear()
        self.kept.append(row)
        self.lines.append(line)

    def _fitted(self, line: int, row: list[str]) -> list[str] | None:
        """Return a row of another width cut to that of the table; None if it is no row."""
        if not any(cell.strip() for cell in row):
            if self.width == 1:
                self.empty.append(line)
            return None
        # Empty cells too many at the end of a line say nothing.
        if len(row) > self.width and not any(cell.strip() for cell in row[self.width :]):
            return row[: self.width]
        if _is_comment(row):
            self.skipped.comments += 1
            return None
        if len(row) < self.width and not _is_readable(row[0]):
            self.below.append((line, row))  # a footer, if nothing but its like follows
            return None
        raise _ragged(self.path, line, row, self.width, self.delimiter)

    def take(self) -> Block | None:
        """Return the rows collected since the last call."""
        if not self.kept:
            return None
        columns: list[list[str] | np.ndarray] = list(map(list, zip(*self.kept, strict=True)))
        block = Block(columns, np.array(self.lines, np.int64))
        self.kept, self.lines = [], []
        return block

    def split(self, lines: Sequence[str], first: int, decimal: Sequence[int]) -> Block | None:
        """Split many lines at once; None if any is not a plain row of the table.

        Args:
            lines: With their ends.
            first: The number of the first of them.
            decimal: The columns that hold numbers with decimal points, as far as has been seen.
        """
        text = "".join(lines)
        mark = self.delimiter
        if self.empty or self.below or mark == " " or '"' in text or mark + " " in text:
            return None
        text = text if text.endswith("\n") else text + "\n"
        columns = self._numbers(lines, text, decimal) or self._cells(text, len(lines))
        if columns is None:
            return None
        front = columns[0]
        if isinstance(front, np.ndarray):
            if np.isnan(front).any() or (self.header and is_number(self.header[0])):
                return None
        elif "" in front or any(map(str.isspace, front)):
            return None
        elif self.header and self.header[0] in front:
            return None
        self.is_begun = True
        return Block(columns, np.arange(first, first + len(lines), dtype=np.int64))

    def _cells(self, text: str, count: int) -> list[list[str] | np.ndarray] | None:
        mark = self.delimiter
        cells = text.replace("\n", f"\n{mark}").split(mark)
        cells.pop()
        ends = cells[self.width - 1 :: self.width]
        if len(cells) != count * self.width or len(ends) != count:
            return None
        # As many line ends as rows, and each at the end of a row: no row is of another width.
        if not all(map(_ENDS, ends)):
            return None
        return [*(cells[i :: self.width] for i in range(self.width - 1)), [e[:-1] for e in ends]]

    def _numbers(
        self, lines: Sequence[str], text: str, decimal: Sequence[int]
    ) -> list[list[str] | np.ndarray] | None:
        """Let numpy read most columns, which is faster by far; None if it cannot."""
        mark = self.delimiter
        others = [i for i in range(self.width) if i not in decimal]
        if len(decimal) < max(len(others), 1) or self.width == 1:
            return None
        if not all(line.count(mark) == self.width - 1 for line in lines):
            return None
        if mark * 2 in text or f"{mark}\n" in text or f"\n{mark}" in text:
            text = text.replace(mark * 2, f"{mark}nan{mark}").replace(mark * 2, f"{mark}nan{mark}")
            text = text.replace(f"{mark}\n", f"{mark}nan\n").replace(f"\n{mark}", f"\nnan{mark}")
            read = text[:-1].split("\n")
        else:
            read = lines
        try:
            values = np.loadtxt(
                read, delimiter=mark, usecols=decimal, comments=None, ndmin=2, encoding=None
            )
        except ValueError:  # a text among them
            return None
        columns: list[list[str] | np.ndarray] = [[] for _ in range(self.width)]
        for place, values_of in zip(decimal, values.T, strict=True):
            columns[place] = values_of.copy()
        for place in others:
            cells = [line.split(mark, place + 1)[place] for line in lines]
            columns[place] = (
                [c.removesuffix("\n") for c in cells] if place == self.width - 1 else cells
            )
        return columns

    def end(self) -> None:
        """Decide what the rows at the end are.

        Raises:
            InputError: Rows of another width that are no footer.
        """
        if len(self.below) > FOOTER or (self.below and not self.is_begun):
            raise _ragged(self.path, *self.below[0], self.width, self.delimiter)
        self.skipped.footer = [(line, " ".join(row).strip()) for line, row in self.below]
        self.skipped.blank += len(self.empty)


_ENDS = operator.methodcaller("endswith", "\n")


def blocks(
    lines: Iterator[str],
    names: Sequence[str],
    delimiter: str,
    path: Path,
    skipped: Skipped,
    first: int,
    decimal: Callable[[], Sequence[int]],
) -> Iterator[Block]:
    """Split lines into blocks of rows; all must be of one width.

    Args:
        lines: Below the header.
        names: The header's cells.
        delimiter: Between cells.
        path: For messages.
        skipped: Is told of what is passed over.
        first: The number of the first of the lines.
        decimal: Returns the columns that hold numbers with decimal points, as far as has been seen.

    Raises:
        InputError: A row of another width, or text that is no table.
    """
    collector = Collector(names, delimiter, path, skipped)
    while batch := list(itertools.islice(lines, CHUNK)):
        if (block := collector.split(batch, first, decimal())) is not None:
            yield block
            first += len(batch)
            continue
        # A quoted cell may go on in the lines that follow.
        is_open = any('"' in line for line in batch)
        source = itertools.chain(batch, lines) if is_open else iter(batch)
        try:
            for line, row in numbered(source, delimiter, first):
                collector.add(line, row)
                if len(collector.kept) >= CHUNK and (block := collector.take()) is not None:
                    yield block
        except csv.Error as error:
            raise InputError(f"{path}: is not a CSV ({error}); check its quotes") from None
        if (block := collector.take()) is not None:
            yield block
        first += len(batch)
    collector.end()


def lines_above(top: Sequence[str], delimiter: str, *, has_header: bool) -> int:
    """Return how many of the first lines are none of the table: comments, a title, a source.

    The table begins with the first line that has as many cells as most have, half of them filled. A
    comment can be the header, if what follows is a row of data: the first of those that have as
    many cells, since units may stand below it. A header over several lines, whose words belong
    together from top to bottom, is none: its last line alone would misname the columns.
    """
    rows = [row for row in numbered(iter(top), delimiter, 1) if row[1]]
    widths = [len(row) for _, row in rows if not _is_comment(row)]
    width = max(set(widths), key=widths.count) if widths else 1
    filled = sorted(sum(map(bool, map(str.strip, row))) for _, row in rows if len(row) == width)
    least = filled[len(filled) // 2] / 2 if filled else 0
    start = 0
    header: int | None = None  # where a comment begins that has the width of the table
    is_in_columns = False  # whether the line above is a comment that is set in columns
    are_comments = True
    for end, row in rows:
        # A mark above a column that counts the rows is a name.
        if _is_comment(row) and not (row[0].strip() == "#" and len(row) == width > 1):
            line = top[end - 1]
            is_header = len(row) - _is_mark(row) == width > 1
            if not is_header or is_in_columns:
                header = header if is_header else None
            elif header is None:
                header = start
            is_in_columns = not is_header and delimiter == " " and len(WIDE.findall(line)) > 2
        elif len(row) == width and sum(map(bool, map(str.strip, row))) >= least:
            cells = [c for c in row if c.strip()]
            if has_header and header is not None and any(map(_is_readable, cells)):
                return header
            # A line that is too short, and then data: a header that lacks a name, and no title.
            is_short_header = has_header and not are_comments and all(map(_is_readable, cells))
            if (
                has_header
                and end < len(top)
                and (_is_header_below(row, rows) or _is_apart(row, rows, top[end]))
            ):
                are_comments, start = False, end
                continue
            return 0 if is_short_header else start
        else:
            are_comments = False
        start = end
    return 0


def _is_header_below(row: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether a line tells a file's kind and day, and the names stand in the line below it."""
    days = [i for i, cell in enumerate(row) if HAS_DAY.fullmatch(cell.strip())]
    at = next(i for i, (_, other) in enumerate(rows) if other is row)
    below, data = ([other for _, other in rows[at + 1 : at + 3]] + [[], []])[:2]
    if len(days) != 1 or not len(below) == len(data) == len(row):
        return False
    named = sum(map(_is_readable, below)) < sum(map(_is_readable, data))
    return named and not _is_readable(below[days[0]])


def _is_apart(row: Sequence[str], rows: Sequence[tuple[int, list[str]]], below: str) -> bool:
    """Whether words stand above an empty line, and the names and the data below it."""
    if below.strip(" ,;\t|\r\n"):
        return False
    at = next(i for i, (_, other) in enumerate(rows) if other is row)
    full = [other for _, other in rows[at + 1 : at + 4] if any(map(str.strip, other))]
    names, data = ([*full, [], []])[:2]
    if any(map(_is_readable, row)) or not len(names) == len(data) == len(row):
        return False
    return sum(map(_is_amount, names)) < sum(map(_is_amount, data))


def skip_row(lines: Iterator[str], delimiter: str) -> int:
    """Pass over one row; return how many lines it took."""
    if delimiter == " ":
        next(lines)
        return 1
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    next(reader)
    return reader.line_num


def joined_levels(top: Sequence[str], delimiter: str) -> tuple[int, str]:
    """Join the names of several levels, as pandas writes them, to one line.

    Their last line names the index alone: ``Date,,``. Of a level that is the same for all columns,
    such as the only ticker, nothing is kept.

    Returns:
        How many lines the names take, and one in their place; 0 if they are not of that form.
    """
    if delimiter == " ":
        return 0, ""
    rows = list(csv.reader(iter(top), delimiter=delimiter))
    for last in range(1, len(rows) - 1):
        row, *above = rows[last], *rows[:last]
        if any(len(other) != len(row) or len(row) < 2 for other in (*above, rows[last + 1])):
            return 0, ""
        if row[0].strip() and not any(map(str.strip, row[1:])):
            if any(map(_is_readable, (row[0], *above[0][1:]))) or not _is_readable(
                rows[last + 1][0]
            ):
                return 0, ""
            told = [level for level in above if len(set(level[1:])) > 1] or above[:1]
            names = [" ".join(filter(None, map(str.strip, n))) for n in zip(*told, strict=True)]
            out = io.StringIO()
            csv.writer(out, delimiter=delimiter, lineterminator="\n").writerow([row[0], *names[1:]])
            return last + 1, out.getvalue()
    return 0, ""


def without_mark(line: str) -> str:
    """Return a header that is written as a comment without the mark in front of it."""
    bare = line.lstrip()
    if bare[:1] in COMMENTS and bare.strip().lower() not in MISSING:
        return bare[1:].lstrip(" ")
    return line


def _is_comment(row: Sequence[str]) -> bool:
    """Whether a row is a comment or a border."""
    first = row[0].strip()
    if first[:1] in COMMENTS:
        return first.lower() not in MISSING  # #N/A
    return len(row) == 1 and bool(BORDER.fullmatch(row[0]))


def _is_mark(row: Sequence[str]) -> bool:
    """Whether the mark of a comment stands in a cell of its own: ``# t y``."""
    return row[0].strip() in COMMENTS


def numbered(lines: Iterator[str], delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Split lines into cells; each row with the number of its last line, counted from ``first``."""
    if delimiter == " ":
        for number, line in enumerate(lines, first):
            yield number, _words(line)
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
