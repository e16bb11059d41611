"""The bytes of a file as columns of cells: delimited text, ARFF, .tsf, and what pandas reads."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading import attributes, encoding
from steadygrad.reading.cells import SEPARATOR, ColumnCells, clean
from steadygrad.reading.container import HEAD, UNREADABLE, check_path, format_of, open_file
from steadygrad.reading.date_names import is_clock_name
from steadygrad.reading.dates import looks_like_date, need_pandas
from steadygrad.reading.json_tables import frame_of_json
from steadygrad.reading.lines import (
    COMMENTS,
    NAMES,
    SAMPLE,
    WORDS,
    Block,
    Progress,
    Skipped,
    blocks,
    find_delimiter,
    is_number,
    joined_levels,
    lines_above,
    skip_row,
    split_rows,
    text_lines,
    without_mark,
)
from steadygrad.reading.numbers import MISSING, NAMES_TOO
from steadygrad.reading.options import Reading
from steadygrad.reading.spec import TableSpec

MIDNIGHT = "T00:00:00"
STAMP = "%Y-%m-%dT%H:%M:%S.%f"  # how `_stamps` writes dates
LEVELS = 6  # lines that may name the columns together, and one below them
MOST_IN_MEMORY = 2 * 2**30  # of formats that are read as a whole
ENGINES = {"xlsx": "openpyxl", "xls": "xlrd", "parquet": "pyarrow", "feather": "pyarrow"}


@dataclass
class Raw:
    """Columns of cells as the file has them.

    Args:
        columns: By name, without those left out.
        lines: The line of each row.
        format: Of the file.
        order: All names, in the order of the file.
    """

    columns: dict[str, ColumnCells]
    lines: np.ndarray
    format: str = "text"
    encoding: str = "utf-8"
    delimiter: str = ","
    has_header: bool = True
    points_are_decimal: bool = False  # the format itself says so
    series: str | None = None  # the column that names series, where the format has one
    notes: list[str] = field(default_factory=list)
    nameless: set[str] = field(default_factory=set)
    many: dict[str, np.ndarray] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    stamps: set[str] = field(default_factory=set)  # columns that the file holds as dates


def read_raw(
    path: Path,
    reading: Reading,
    data: bytes | None,
    progress: Progress | None,
    spec: TableSpec | None,
) -> Raw:
    """Read the cells of a file.

    Raises:
        InputError: It is no table, or cannot be read.
    """
    raw, unpacked, name = open_file(path, data)
    with raw, unpacked:
        size = check_path(path) if data is None else len(data)
        try:
            head = unpacked.read(HEAD)
            kind = format_of(head, name, path)
            if kind in ("arff", "tsf"):
                read = attributes.read_arff if kind == "arff" else attributes.read_tsf
                found = _declared(path, _text(unpacked, path), read, kind)
            elif kind == "text":
                found = _delimited(path, raw, unpacked, head, size, reading, progress, spec)
            else:
                unpacked.seek(0)
                found = _by_pandas(path, unpacked, kind, size)
        except UNREADABLE as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    found.order = tuple(found.columns)
    if name != path.name and name != path.stem and kind != "xlsx":
        found.notes.append(f"read from {name} inside {path.name}")
    return found


def _text(file: IO[bytes], path: Path) -> str:
    file.seek(0)
    data = file.read(MOST_IN_MEMORY)
    name = encoding.by_mark(data[:HEAD], path) or "utf-8"
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return data.decode(encoding.guess(data, path)[0], "replace")


def _declared(
    path: Path, text: str, read: Callable[[str, Path], attributes.Declared], kind: str
) -> Raw:
    declared = read(text, path)
    columns = {n: ColumnCells(n) for n in declared.names}
    for name, cells in zip(declared.names, declared.columns, strict=True):
        columns[name].add([clean(c) for c in cells])
    lines = np.array(declared.lines, np.int64)
    return Raw(
        columns,
        lines,
        kind,
        points_are_decimal=True,
        series=declared.series,
        notes=list(declared.notes),
    )


def _delimited(
    path: Path,
    raw: IO[bytes],
    unpacked: IO[bytes],
    head: bytes,
    size: int,
    reading: Reading,
    progress: Progress | None,
    spec: TableSpec | None,
) -> Raw:
    """Read a delimited text; if it is not in the encoding that its head is in, start again."""
    known = reading.encoding or encoding.by_mark(head, path) or (spec.encoding if spec else None)
    tries = [known] if known else ["utf-8", None]
    for name in tries:
        unpacked.seek(0)
        notes: list[str] = []
        if name is None:
            name, words = encoding.guess(unpacked.read(2**22), path)
            unpacked.seek(0)
            notes.append(
                f"read as {name}, by its bytes ({words}); pass --encoding if that reads wrong"
            )
        try:
            found = _stream(path, raw, unpacked, name, size, reading, progress, spec)
        except UnicodeDecodeError as error:
            if known:
                raise InputError(
                    f"{path}: byte {error.start} is not {name}; pass another --encoding"
                ) from None
            continue
        found.notes = notes + found.notes
        return found
    raise InputError(f"{path}: its encoding could not be told; pass --encoding")


def _stream(
    path: Path,
    raw: IO[bytes],
    unpacked: IO[bytes],
    name: str,
    size: int,
    reading: Reading,
    progress: Progress | None,
    spec: TableSpec | None,
) -> Raw:
    lines = text_lines(unpacked, name, path)
    notes: list[str] = []
    first = 1
    top: list[str] = []
    skip = spec.skip_rows if spec else reading.skip_rows
    for _ in itertools.islice(lines, skip):
        first += 1
    for line in lines:
        bare = line.strip()
        if first == 1 and re.fullmatch(r"sep=.?", line.strip("\r\n \ufeff"), re.IGNORECASE):
            first += 1  # how Excel notes the delimiter
            continue
        if not bare and not top:
            first += 1
            continue
        top.append(line)
        if len(top) > SAMPLE:
            break
    sample = [line for line in top if line.strip() and line.lstrip()[:1] not in COMMENTS]
    if not sample:
        raise InputError(f"{path}: holds blank lines only, no header line and no rows")
    given = reading.delimiter
    if spec is not None:
        is_alike = not spec.has_header or spec.is_turned or _has_names(sample[:20], spec)
        delimiter = spec.delimiter if is_alike else find_delimiter(sample[:50])
    elif given is not None:
        delimiter = WORDS.get(given.lower(), given)
        if len(delimiter) != 1:
            raise InputError(f"--delimiter {given}: expected one character, tab or blank")
    else:
        delimiter = find_delimiter(sample[:50])
        if (
            delimiter == " "
            and all(map(is_number, below := sample[1:]))
            and " " in below[0].strip()
        ):
            cell = below[0].strip()
            raise InputError(
                f"{path}: {cell!r} is one number with its thousands marked, or"
                f" {len(cell.split())} numbers; pass --delimiter , for the first, --delimiter blank"
                " for the second"
            )
        if delimiter == "," and _are_decimals(list(split_rows(sample, delimiter))):
            cell = sample[0].strip()
            raise InputError(
                f"{path}: {cell!r} is one number with a decimal comma, or two numbers; pass"
                " --delimiter ';' for the first, --delimiter , for the second"
            )
    has_header = spec.has_header if spec else reading.header == "auto"
    above = lines_above(top, delimiter, has_header=has_header)
    if above:
        notes.append(
            f"{above} line{'s' if above > 1 else ''} above the table, from line {first}:"
            f" {top[0].strip()[:40]!r}: not used"
        )
        while above < len(top) and not top[above].strip():
            above += 1
        first += above
        del top[:above]
    elif first - 1 - skip > 0:
        notes.append(f"the table begins at line {first}")
    if has_header:
        top[0] = without_mark(top[0])
        levels, joined = joined_levels(top[:LEVELS], delimiter)
        if levels:
            notes.append(f"names from {levels} lines of names above the rows")
            first += levels - 1
            top[:levels] = [joined]
    stream = itertools.chain(top, lines)
    sample = [line for line in top if line.strip()]
    header = list(next(split_rows(sample, delimiter)))
    below = list(split_rows(sample[1:], delimiter))
    body = [r for r in below if r != header and any(map(str.strip, r))]
    if has_header and _counts_rows(body, len(header) + 1):  # as R writes the names of rows
        header.insert(0, "")
    skipped = Skipped()
    if has_header:
        _refuse_missing(header, header in below, path, first)
        names, nameless = _header(header, body, path, first)
        first += skip_row(stream, delimiter)
    else:
        names, nameless = [str(i + 1) for i in range(len(header))], set()
    if delimiter == " ":
        notes.append("columns are split by blanks")
    points = spec is not None or reading.marks[0] in (None, ".")
    columns = [ColumnCells(n, points_are_decimal=points, is_clock=is_clock_name(n)) for n in names]
    rows: list[np.ndarray] = []
    marks = header if has_header else [""] * len(header)

    def decimal() -> list[int]:
        return [i for i, column in enumerate(columns) if column.is_decimal]

    for block in blocks(stream, marks, delimiter, path, skipped, first, decimal):
        for column, cells in zip(columns, _cleaned(block), strict=True):
            if isinstance(cells, np.ndarray):
                column.add_values(cells)
            else:
                column.add(cells)
        rows.append(block.lines)
        if progress is not None:
            progress(min(raw.tell(), size), size)
    if not rows:
        raise InputError(f"{path}: a header line and no rows; expected numbers below it")
    if skipped.headers:
        notes.append(
            f"{skipped.headers} repeated header line{'s' if skipped.headers > 1 else ''} (the first"
            f" at line {skipped.first_header}): not used"
        )
    if skipped.comments:
        notes.append(f"{skipped.comments} comment lines inside the table: not used")
    for number, text in skipped.footer[:2]:
        notes.append(f"line {number}, below the table: {text[:40]!r}: not used")
    if len(skipped.footer) > 2:
        notes.append(f"{len(skipped.footer) - 2} more lines below the table: not used")
    if skipped.blank:
        notes.append(f"{skipped.blank} rows without any value: not used")
    return Raw(
        dict(zip(names, columns, strict=True)),
        np.concatenate(rows),
        encoding=name,
        delimiter=delimiter,
        has_header=has_header,
        notes=notes,
        nameless=nameless,
    )


def _has_names(sample: Sequence[str], spec: TableSpec) -> bool:
    """Whether a line has a name of the training's columns, split as its file was."""
    names = {c.name for c in spec.columns if c.role != "dropped"}
    return any(names & set(map(str.strip, row)) for row in split_rows(sample, spec.delimiter))


def _cleaned(block: Block) -> Iterator[list[str] | np.ndarray]:
    for cells in block.columns:
        if isinstance(cells, np.ndarray):
            yield cells
            continue
        text = "\x1e".join(cells)
        if '="' in text:  # so that a spreadsheet does not change them
            cells = [c[2:-1] if c.startswith('="') and c.endswith('"') else c for c in cells]
        if "\n" in text or "\r" in text or SEPARATOR in text:
            yield [clean(c) for c in cells]
        else:
            yield cells


def _are_decimals(rows: Sequence[Sequence[str]]) -> bool:
    """Whether pairs of whole numbers read like decimal commas: -745,6456 and 234,0135.

    The second ones have all the same number of digits, in some with zeros in front.
    """
    if any(len(row) != 2 for row in rows) or len(rows) < 2:
        return False
    ends = [row[1] for row in rows]
    are_whole = all(re.fullmatch(r"[+-]?\d+", row[0].strip()) for row in rows)
    are_whole = are_whole and all(end.isdigit() and end.isascii() for end in ends)
    size = len(ends[0])
    return (
        are_whole
        and size > 1
        and all(len(e) == size for e in ends)
        and any(e[0] == "0" for e in ends)
    )


def _refuse_missing(cells: Sequence[str], is_repeated: bool, path: Path, line: int) -> None:
    """Refuse a header of nothing but missing values, as the first row of a file without one."""
    names = [name.strip() for name in cells if name.strip()]
    if not names or not all(name.lower() in MISSING for name in names):
        return
    if is_repeated or any(name.lower() not in NAMES_TOO for name in names):
        raise InputError(
            f"{path}: line {line} holds {names[0]}, a missing value, where a column's name is"
            " expected; add a header line, or pass --header none"
        )


def _header(
    cells: list[str], body: Sequence[Sequence[str]], path: Path, line: int
) -> tuple[list[str], set[str]]:
    """Check that a line names the columns; give those without a name one."""
    names = [name.strip() for name in cells]
    data = [name for name in names if is_number(name) or looks_like_date(name)]
    # A column may be called 2020. But where no cell of the line can only be a name, it is data.
    seen = [{row[i].strip() for row in body if i < len(row)} for i in range(len(names))]
    like = [_is_like(name, below) for name, below in zip(names, seen, strict=True)]
    is_row = all(n in data or n.lower() in MISSING or i for n, i in zip(names, like, strict=True))
    if is_row and (data or any(like)):
        told = f"the number {data[0]}" if data else f"{names[like.index(True)]}, as the rows below,"
        raise InputError(
            f"{path}: line {line} holds {told} where a column's name is expected; add a header"
            " line, or pass --header none"
        )
    nameless: set[str] = set()
    for i, name in enumerate(names):
        if not name or name.lower().startswith("unnamed: "):
            names[i] = f"column {i + 1}"
            nameless.add(names[i])
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise InputError(f"{path}: line {line} names column {sorted(doubled)[0]!r} more than once")
    return names, nameless


def _counts_rows(body: Sequence[Sequence[str]], width: int) -> bool:
    """Whether rows have one cell more than the header, and the first one counts them."""
    counts = [row[0].strip() for row in body]
    if len(counts) < 3 or any(len(row) != width for row in body) or not counts[0].isdigit():
        return False
    return counts == [str(int(counts[0]) + i) for i in range(len(counts))]


def _is_like(name: str, below: set[str]) -> bool:
    """Whether a cell is written as those below it are: it is no name then."""
    if name in below:
        return True
    shape = _shape(name)
    return "9" in shape and any(shape == _shape(cell) for cell in below)


def _shape(cell: str) -> str:
    """A cell without its words and numbers: 5,33 °C is like 11,20 °C."""
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d]+", "a", cell))


def _by_pandas(path: Path, file: IO[bytes], kind: str, size: int) -> Raw:
    """Read what a library of its own reads."""
    if size > MOST_IN_MEMORY:
        raise InputError(f"{path}: a {kind} file of over 2 GiB is not read; save it as CSV")
    pandas = need_pandas(f"{path}: is {kind}")
    try:
        if kind in ("xlsx", "xls"):
            frame = _first_sheet(pandas, file, path)
        elif kind == "parquet":
            frame = pandas.read_parquet(file)
        elif kind == "feather":
            frame = pandas.read_feather(file)
        elif kind == "json":
            frame = frame_of_json(pandas, file, path)
        else:
            frame = pandas.read_json(file, lines=True, dtype=False, precise_float=True)
    except ImportError:
        engine = ENGINES.get(kind, "pyarrow")
        raise InputError(
            f"{path}: is {kind}; reading it needs {engine}: pip install {engine}"
        ) from None
    except InputError:
        raise
    except Exception as error:  # of any library, about a file that is damaged
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: this {kind} file cannot be read ({told})") from None
    found = raw_of_frame(frame, str(path))
    found.format = kind
    if kind in ("xlsx", "xls"):
        found.lines += 1 + frame.attrs.get("above", 0)  # below the header
        if above := frame.attrs.get("above"):
            found.notes.append(f"{above} rows above the table: not used")
    return found


def raw_of_frame(frame: Any, path: str, index_name: str | None = None) -> Raw:
    """Take the columns out of a pandas frame.

    Args:
        frame: A ``pandas.DataFrame``; not changed.
        path: Where it is from, for messages.
        index_name: What an index of dates without a name is called.

    Raises:
        InputError: No rows, or two columns of one name.
    """
    pandas = need_pandas(f"{path}: a frame")
    if not isinstance(frame, pandas.DataFrame):
        raise InputError(
            f"{path}: expected the path of a file or a pandas.DataFrame, got {type(frame).__name__}"
        )
    frame = frame.copy(deep=False)
    if isinstance(frame.columns, pandas.MultiIndex):
        frame.columns = [" ".join(map(str, c)).strip() for c in frame.columns]
    index = frame.index
    if index.name is not None or isinstance(index, pandas.DatetimeIndex):
        frame = frame.reset_index(names=index.name or index_name or "index")
    if len(frame) == 0 or len(frame.columns) == 0:
        raise InputError(f"{path}: holds no rows")
    columns: dict[str, ColumnCells] = {}
    nameless: set[str] = set()
    stamps: set[str] = set()
    for number, label in enumerate(frame.columns):
        name = str(label).strip()
        if not name or name.lower().startswith("unnamed: "):
            name = f"column {number + 1}"
            nameless.add(name)
        if name in columns:
            raise InputError(f"{path}: has two columns called {name!r}")
        columns[name] = _from_frame(pandas, name, frame.iloc[:, number])
        if pandas.api.types.is_datetime64_any_dtype(frame.iloc[:, number]):
            stamps.add(name)
    return Raw(
        columns,
        np.arange(len(frame)) + 1,
        "frame",
        nameless=nameless,
        points_are_decimal=False,
        order=tuple(columns),
        stamps=stamps,
    )


def _first_sheet(pandas: Any, file: IO[bytes], path: Path) -> Any:
    sheets = pandas.read_excel(file, sheet_name=None, dtype=object, header=None)
    sheets = {name: _below_header(pandas, sheet) for name, sheet in sheets.items()}
    filled = [(name, frame) for name, frame in sheets.items() if len(frame) > 0]
    if not filled:
        raise InputError(f"{path}: holds no rows")
    if len(filled) > 1:
        told = ", ".join(n for n, _ in filled)
        raise InputError(f"{path}: has {len(filled)} sheets ({told}); save the one you mean as CSV")
    frame = filled[0][1].dropna(axis=1, how="all")
    # Rows without any value: inside the table they are gaps, at its ends nothing.
    held = np.flatnonzero(frame.notna().any(axis=1).to_numpy())
    return frame.iloc[held[0] : held[-1] + 1] if len(held) else frame


def _below_header(pandas: Any, sheet: Any) -> Any:
    """Take the names of a sheet's columns from the first row that is full enough to be a header.

    What stands above it is a title or a remark.
    """
    filled = sheet.notna().sum(axis=1).to_numpy()
    if not filled.any():
        return sheet
    at = int(np.flatnonzero(filled > np.median(filled[filled > 0]) / 2)[0])
    frame = sheet.iloc[at + 1 :].reset_index(drop=True)
    frame.columns = ["" if pandas.isna(name) else name for name in sheet.iloc[at]]
    frame.attrs["above"] = at
    return frame


def _from_frame(pandas: Any, name: str, column: Any) -> ColumnCells:
    cells = ColumnCells(name)
    kinds = pandas.api.types
    if kinds.is_bool_dtype(column):
        cells.add([str(v) for v in column])
    elif kinds.is_numeric_dtype(column):
        cells.add_values(column.to_numpy(np.float64, na_value=np.nan))
    elif kinds.is_datetime64_any_dtype(column):
        cells.add(_stamps(column))
    else:
        texts = [clean(_cell(pandas, v)) for v in column]
        if all(text.endswith(MIDNIGHT) for text in texts if text):  # days; a time may stand beside
            texts = [text.removesuffix(MIDNIGHT) for text in texts]
        cells.add(texts)
    return cells


def _stamps(column: Any) -> list[str]:
    bare = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
    stamps = np.datetime_as_string(bare.to_numpy().astype("datetime64[us]"), unit="us")
    return ["" if s == "NaT" else s for s in stamps.tolist()]


def _cell(pandas: Any, value: Any) -> str:
    """Write a cell that pandas holds as an object."""
    if value is None or value is pandas.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:.17g}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(value)


def describe(raw: Raw) -> str:
    """Return the form of a file in words."""
    if raw.format != "text":
        return raw.format
    return f"text, {raw.encoding}, split by {NAMES.get(raw.delimiter, repr(raw.delimiter))}"


def is_empty(cells: Sequence[str]) -> bool:
    """Whether all cells stand for nothing."""
    return all(c.strip().lower() in MISSING for c in cells)
