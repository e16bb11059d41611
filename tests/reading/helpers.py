"""Files written for a test, and their reading."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from steadygrad.reading import Reading, Table, read_table

RNG = np.random.default_rng(7)


def stamps(rows: int, step: timedelta, first: datetime = datetime(2020, 1, 1)) -> list[datetime]:
    return [first + i * step for i in range(rows)]


def written(stamps: Sequence[datetime], form: str) -> list[str]:
    return [s.strftime(form) for s in stamps]


def wave(rows: int, low: float = 10, high: float = 30, digits: int = 2) -> np.ndarray:
    """A series whose values have exactly ``digits`` decimals."""
    middle, half = (high + low) / 2, (high - low) / 2.2
    values = middle + half * np.sin(np.arange(rows) / 3.7) * RNG.uniform(0.9, 1, rows)
    return np.round(values, digits)


def save(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    delimiter: str = ",",
    encoding: str = "utf-8",
    tail: Sequence[str] = (),
    head: Sequence[str] = (),
) -> Path:
    """Write columns of cells; a cell that holds the delimiter is quoted."""

    def quoted(cell: str) -> str:
        return f'"{cell}"' if delimiter in cell else cell

    rows = zip(*columns.values(), strict=True)
    lines = [delimiter.join(map(quoted, row)) for row in [list(columns), *rows]]
    path.write_bytes("\n".join([*head, *lines, *tail, ""]).encode(encoding))
    return path


def read(path: Path, **options: object) -> Table:
    return read_table(path, Reading(**options))  # pyright: ignore[reportArgumentType]


def told(table: Table) -> str:
    return "\n".join(table.notes)


def hours(table: Table) -> np.ndarray:
    """Distances between rows."""
    assert table.dates is not None
    return np.diff(table.dates).astype("timedelta64[s]").astype(int) / 3600
