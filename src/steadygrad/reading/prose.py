"""A file as text, and whether a text is a table after all."""

import codecs
import contextlib
import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from steadygrad.errors import InputError
from steadygrad.reading import encoding
from steadygrad.reading.container import HEAD, UNREADABLE, format_of, open_file
from steadygrad.reading.dates import looks_like_date
from steadygrad.reading.lines import find_delimiter, is_number, split_rows
from steadygrad.reading.numbers import MISSING, measure_of

MARKUP = (b"<!doctype html", b"<html", b"<?xml", b"<table", b"<svg", b"<gpx", b"<kml")
LOG = 0.9  # of the lines are alike but for their numbers: no prose is
TABLE_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".psv"})
BINARY_ENDINGS = frozenset({".xlsx", ".xls", ".parquet", ".feather", ".arff", ".tsf"})
MOST_ABOVE = 3  # lines of text above a column of numbers
EVEN = 20  # lines of two cells each, as no prose has
LINES = 40  # that are looked at


def read_prose(
    path: Path, *, limit: int, given: str | None = None, data: bytes | None = None
) -> tuple[str, str]:
    """Return a file as text, and a note about its encoding, if there is something to say.

    Args:
        path: The file, packed or not.
        limit: Bytes that may be read at most.
        given: Its encoding, if it is known.
        data: Its content, if it is in memory already.

    Raises:
        InputError: It cannot be read, is binary or too large, or its encoding cannot be told.
    """
    raw, unpacked, _ = open_file(path, data)
    with raw, unpacked:
        try:
            content = unpacked.read(limit + 1)
        except UNREADABLE as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    if len(content) > limit:
        raise InputError(
            f"{path}: holds over {limit / 2**20:.0f} MiB, more than the {limit / 2**20:.0f} MiB"
            " read at once; cut it into smaller files"
        )
    name = given or encoding.by_mark(content[:HEAD], path) or "utf-8"
    try:
        return content.decode(name), ""
    except UnicodeDecodeError as error:
        if given:
            raise InputError(
                f"{path}: byte {error.start} is not {given}; pass another --encoding"
            ) from None
    name, words = encoding.guess(content, path)
    note = f"read as {name}, by its bytes ({words}); pass --encoding if that reads wrong"
    return content.decode(name, "replace"), note


def has_table_ending(path: Path) -> bool:
    """Whether the name alone says that the file is a table."""
    return path.suffix.lower() in TABLE_ENDINGS | BINARY_ENDINGS


def is_table(path: Path) -> bool:
    """Whether a file is a table: by its form, its ending, or how its first lines look.

    Raises:
        InputError: It cannot be read, is of a kind that cannot be either, or a log or markup, which
            a table must first be made of.
    """
    raw, unpacked, name = open_file(path)
    with raw, unpacked:
        try:
            head = unpacked.read(HEAD)
        except UNREADABLE as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        kind = format_of(head, name, path)
    if kind == "text" and head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(MARKUP):
        raise InputError(
            f"{path}: is HTML or XML; save its table as CSV. If it is a text to be learnt, pass"
            " --kind text"
        )
    if kind != "text" or Path(name).suffix.lower() in TABLE_ENDINGS:
        return True
    text = _decoded(head, path)
    lines = [line for line in text.splitlines() if line.strip() and line[0] not in "#%"]
    if len(head) == HEAD:
        lines = lines[:-1]  # it may be cut off
    # Of a file with a long head, the table is what its last lines are.
    if any(len(some) >= 3 and _looks_split(some) for some in (lines[:LINES], lines[-LINES:])):
        return True
    if log := _log_line(lines):
        raise InputError(
            f"{path}: its lines are alike but for their numbers ({log!r}), as those of a log or"
            " of a printed table; write them as CSV. If it is a text to be learnt, pass --kind text"
        )
    return False


def _log_line(lines: Sequence[str]) -> str:
    """Return a line of a log: nearly all are the same but for their numbers; else nothing."""
    shapes = [re.sub(r"[-+]?\d+(?:[.,:/-]\d+)*|[AP]M", "0", " ".join(x.split())) for x in lines]
    common, count = Counter(shapes).most_common(1)[0] if shapes else ("", 0)
    is_log = "0" in common and len(lines) >= 10 and count >= LOG * len(lines)
    return lines[shapes.index(common)].strip()[:60] if is_log else ""


def _decoded(head: bytes, path: Path) -> str:
    """Decode the beginning of a file; what is neither UTF-8 nor guessed keeps its ASCII letters."""
    name = encoding.by_mark(head, path)
    if name is not None:
        return head.decode(name, "replace")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)  # it may be cut in a letter
    except UnicodeDecodeError:
        with contextlib.suppress(InputError):
            return head.decode(encoding.guess(head, path)[0], "replace")
    return head.decode("utf-8", "ignore")  # of a sign that nothing reads, the numbers are left


def _looks_split(lines: list[str]) -> bool:
    """Whether lines have one number of fields, and numbers in nearly each below the first."""
    delimiter = find_delimiter(lines)
    try:
        rows = list(split_rows(lines, delimiter))
    except csv.Error:
        return False
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    if width < 2 or widths.count(width) < 0.9 * len(rows):
        return _is_one_column(lines)
    is_even = delimiter in "\t;|" and widths.count(width) == len(rows)
    if is_even and (width > 2 or len(rows) >= EVEN):
        return True  # no prose is so even
    body = [row for row in rows[1:] if len(row) == width]
    with_numbers = sum(any(map(_is_value, row)) for row in body)
    lacking = [row for row in body if not any(map(_is_value, row))]
    without = sum(any(c.strip().lower() in MISSING for c in row) for row in lacking)
    # A row may lack its numbers, but not most.
    has_numbers = with_numbers >= 0.3 * len(body) and with_numbers + without >= 0.9 * len(body)
    return has_numbers or _is_one_column(lines)


def _is_amount(cell: str) -> bool:
    return is_number(cell) or bool(measure_of([cell]))


def _is_value(cell: str) -> bool:
    return _is_amount(cell) or looks_like_date(cell)


def _is_one_column(lines: list[str]) -> bool:
    """Whether each line is one number, below the name and at most a title."""
    cells = [line.strip().strip('"') for line in lines]
    first = next((i for i, c in enumerate(cells) if _is_amount(c) or c.lower() in MISSING), 0)
    below = [c for c in cells[max(1, first) :] if c not in cells[:first]]
    numbers = sum(map(_is_amount, below))
    is_column = all(_is_amount(c) or c.lower() in MISSING for c in below)
    return first <= MOST_ABOVE and numbers > 0 and is_column
