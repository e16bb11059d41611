"""A table while it is being understood: what every part of the reading adds to."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from steadygrad.errors import InputError, did_you_mean
from steadygrad.reading.cells import ColumnCells
from steadygrad.reading.dates import DateSpec
from steadygrad.reading.numbers import MISSING, NumberStyle
from steadygrad.reading.options import Reading, listed
from steadygrad.reading.sources import Raw
from steadygrad.reading.spec import ColumnSpec, TableSpec

MAX_CATEGORIES = 20


@dataclass(frozen=True)
class Category:
    """A column of few different texts.

    Args:
        codes: Of each row, the place of its text in ``kinds``; -1: none of them.
        kinds: The texts, sorted.
    """

    codes: np.ndarray
    kinds: tuple[str, ...]


@dataclass
class Draft:
    """A table while it is being understood."""

    path: Path
    raw: Raw
    reading: Reading
    spec: TableSpec | None
    is_turned: bool = False  # time ran across its columns
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    categories: dict[str, Category] = field(default_factory=dict)
    texts: dict[str, ColumnCells] = field(default_factory=dict)
    unused: dict[str, ColumnCells] = field(default_factory=dict)  # by a model; totals stand there
    styles: dict[str, NumberStyle] = field(default_factory=dict)
    dropped: dict[str, ColumnSpec] = field(default_factory=dict)
    codes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    dates: np.ndarray | None = None
    date_spec: DateSpec | None = None
    used: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The file, for messages."""
        return str(self.path)

    def drop(self, name: str, why: str, row: int = -1, cell: str = "") -> None:
        """Leave a column out, and say so."""
        line = int(self.raw.lines[row]) if 0 <= row < len(self.raw.lines) else 0
        self.dropped[name] = ColumnSpec(name, "dropped", why=why, cell=cell, line=line)
        at = f" (line {line}: {cell!r})" if line and cell else ""
        self.notes.append(f"column {name!r} {why}{at}: dropped")


def no_column(draft: Draft, option: str, name: str) -> InputError:
    """The message that an option names a column that is not there."""
    names = list(draft.raw.columns)
    return InputError(
        f"{draft.path}: {option} {name}: no such column{did_you_mean(name, names)}; there are:"
        f" {', '.join(names)}"
    )


def missing_marks(draft: Draft) -> frozenset[str]:
    """What stands for a missing value beside the usual marks, in lower case."""
    if draft.spec is not None:
        return frozenset(draft.spec.missing)
    given = listed(draft.reading.missing)
    return frozenset(m.lower() for m in given if given != ("none",))


def is_missing(cell: str) -> bool:
    """Whether a cell stands for a missing value."""
    return cell.strip().lower() in MISSING
