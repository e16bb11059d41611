"""ARFF and .tsf: texts that declare their columns before the data."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.dates import need_pandas, read_dates

ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)
STEPS = {  # of .tsf, as pandas has them
    "yearly": "YS",
    "quarterly": "QS",
    "monthly": "MS",
    "weekly": "7D",
    "daily": "1D",
    "hourly": "1h",
    "half_hourly": "30min",
    "30_minutes": "30min",
    "15_minutes": "15min",
    "10_minutes": "10min",
    "minutely": "1min",
    "4_seconds": "4s",
    "seconds": "1s",
}


@dataclass(frozen=True)
class Declared:
    """A table whose columns are declared.

    Args:
        names: Of the columns.
        columns: Their cells.
        lines: The line of each row.
        series: The column that names the series.
        notes: What was done.
    """

    names: list[str]
    columns: list[list[str]]
    lines: list[int]
    series: str | None = None
    notes: tuple[str, ...] = ()


def _split(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the declarations and the lines of data, each with its number."""
    declared: list[str] = []
    data: list[tuple[int, str]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare[0] in "%#":
            continue
        if inside:
            data.append((number, bare))
        elif bare.lower() == "@data":
            inside = True
        else:
            declared.append(bare)
    return declared, data


def read_arff(text: str, path: Path) -> Declared:
    """Read ARFF (Weka), not the sparse form.

    References:
        Attribute-Relation File Format, University of Waikato, 2008.

    Raises:
        InputError: No data, the sparse form, or a row of another width.
    """
    declared, data = _split(text)
    names = [m[1].strip("'\"") for line in declared if (m := ATTRIBUTE.match(line))]
    if not data or not names:
        raise InputError(f"{path}: an ARFF file without @attribute or without rows after @data")
    if data[0][1].startswith("{"):
        raise InputError(f"{path}: a sparse ARFF file; save it as CSV")
    rows: list[list[str]] = []
    for number, line in data:
        quote = "'" if "'" in line else '"'
        row = next(csv.reader([line], quotechar=quote, skipinitialspace=True))
        if len(row) != len(names):
            raise InputError(
                f"{path}: line {number} has {len(row)} fields, {len(names)} attributes are declared"
            )
        rows.append([c.strip() for c in row])
    columns = list(map(list, zip(*rows, strict=True)))
    return Declared(names, columns, [number for number, _ in data])


def read_tsf(text: str, path: Path) -> Declared:
    """Read .tsf, many series with a start and a frequency, as one row per value.

    References:
        Godahewa et al., *Monash Time Series Forecasting Archive*, 2021.

    Raises:
        InputError: A frequency that is unknown, or a line without its attributes.
    """
    declared, data = _split(text)
    attributes = [(m[1], m[2].strip().lower()) for d in declared if (m := ATTRIBUTE.match(d))]
    options = {
        key.lower(): value.strip()
        for key, _, value in (d[1:].partition(" ") for d in declared)
        if key.lower() != "attribute"
    }
    frequency = options.get("frequency", "").lower()
    if frequency and frequency not in STEPS:
        raise InputError(f"{path}: @frequency {frequency} is not known; save the file as CSV")
    if not data:
        raise InputError(f"{path}: no series after @data")
    names = [name for name, _ in attributes]
    start = next((i for i, (_, kind) in enumerate(attributes) if kind == "date"), None)
    label = next((i for i, (_, kind) in enumerate(attributes) if kind == "string"), None)
    cells: dict[str, list[str]] = {n: [] for i, n in enumerate(names) if i != start}
    dated = start is not None and bool(frequency)
    dates: list[str] = []
    values: list[str] = []
    lines: list[int] = []
    for number, line in data:
        parts = line.split(":")
        if len(parts) < len(names) + 1:
            raise InputError(f"{path}: line {number} has not the {len(names)} attributes declared")
        numbers = [v.strip() for v in parts[-1].split(",")]
        told = parts[: len(names)]
        values += numbers
        lines += [number] * len(numbers)
        for i, name in enumerate(names):
            if i != start:
                cells[name] += [told[i].strip()] * len(numbers)
        if dated and start is not None:
            dates += _timestamps(told[start].strip(), frequency, len(numbers), path, number)
    found = {("date" if "date" not in cells else "timestamp"): dates} if dated else {}
    found |= cells
    series = names[label] if label is not None and len(data) > 1 else None
    if series is None and label is not None:
        del found[names[label]]
    found["value"] = values
    return Declared(
        list(found),
        list(found.values()),
        lines,
        series,
        (f"{len(data)} series, {frequency or 'no frequency declared'}",),
    )


def _timestamps(start: str, frequency: str, rows: int, path: Path, line: int) -> list[str]:
    pandas = need_pandas(".tsf with dates")
    first = read_dates([start], ("%Y-%m-%d %H-%M-%S", "%Y-%m-%d"))[0]
    if np.isnat(first):
        raise InputError(f"{path}: line {line}: {start!r} is no date")
    step = pandas.tseries.frequencies.to_offset(STEPS[frequency])
    index = pandas.date_range(pandas.Timestamp(first), periods=rows, freq=step)
    return index.to_numpy().astype("datetime64[s]").astype(str).tolist()
