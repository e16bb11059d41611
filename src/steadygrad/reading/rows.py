"""Rows that are no data: units below the header, totals at the end. What else is wrong is named."""

from pathlib import Path

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.numbers import MISSING

ABOVE = 5  # rows below the header that may hold units, kinds of sums and other notes
FOOTER = 5  # rows at the end that may be a total and its like
TOTALS = frozenset(
    {
        *(
            "total",
            "totals",
            "sum",
            "summe",
            "gesamt",
            "gesamtsumme",
            "insgesamt",
            "somme",
            "totale",
        ),
        *("suma", "soma", "totaal", "average", "mean", "mittelwert", "durchschnitt", "moyenne"),
        *(
            "media",
            "grand total",
            "итого",
            "всего",
            "сумма",
            "合计",
            "合計",
            "总计",
            "總計",
            "小计",
        ),
        *("합계", "총계", "평균", "平均", "source", "quelle", "celkem", "razem"),
    }
)

MOST_UNDATED = 0.05  # of the rows may lack a date and be left out


def is_total(cell: str) -> bool:
    """Whether a cell says that its row is a total, an average or the like."""
    word = cell.strip().lower().rstrip(":. ")
    return word in TOTALS or word.split(" ")[0] in TOTALS


class Rows:
    """Collects cells that could not be read, and decides what becomes of their rows.

    Args:
        lines: The line of each row.
        path: The file, for messages.
        trained: How dates were written in the file that a model was trained on, if there is one.
    """

    def __init__(self, lines: np.ndarray, path: Path, *, trained: str | None = None) -> None:
        self.lines = lines
        self.trained = trained
        self.path = path
        self.width = 1  # columns that could be wrong: those of numbers
        self._bad: dict[int, list[tuple[str, str, str]]] = {}
        self._counts: dict[str, int] = {}
        self._left: dict[int, str] | None = None

    def bad(self, row: int, column: str, cell: str, expected: str, count: int) -> None:
        """Take in a cell that is not what its column holds."""
        self._bad.setdefault(row, []).append((column, cell, expected))
        self._counts[column] = count
        self._left = None

    def of(self, column: str) -> list[str]:
        """Return the bad cells of a column."""
        return [cell for found in self._bad.values() for name, cell, _ in found if name == column]

    def clean(self) -> np.ndarray:
        """Return which rows have no bad cell so far."""
        mask = np.ones(len(self.lines), bool)
        mask[list(self._bad)] = False
        return mask

    def keep(self) -> np.ndarray:
        """Return which rows hold data.

        Raises:
            InputError: A cell is wrong in a row that is neither units, total, nor without a date.
        """
        mask = np.ones(len(self.lines), bool)
        mask[list(self._decide())] = False
        return mask

    def tell(self, notes: list[str]) -> None:
        """Say which rows are left out, and why."""
        left = self._decide()
        empty = [row for row, why in left.items() if not why]
        for row, why in sorted(left.items()):
            if why:
                notes.append(f"line {self.lines[row]}: {why}; not used as a row of data")
        if empty:
            notes.append(
                f"{len(empty)} rows without a date, the first at line {self.lines[empty[0]]}:"
                " not used"
            )

    def _decide(self) -> dict[int, str]:
        if self._left is None:
            self._left = self._judge()
        return self._left

    def _judge(self) -> dict[int, str]:
        """Return the rows to leave out, each with its reason; without a date: an empty one."""
        total = len(self.lines)
        left: dict[int, str] = {}
        footer = True
        for row in sorted(self._bad, reverse=True):
            cells = self._bad[row]
            column, cell, expected = cells[0]
            text = cell.strip()
            # From the end upwards: a footer has no row of data below it.
            footer = (
                footer and row >= total - FOOTER and all(r in left for r in range(row + 1, total))
            )
            undated = all(e == "a date" and c.strip().lower() in MISSING for _, c, e in cells)
            if undated and (footer or self._counts[column] <= max(1, MOST_UNDATED * total)):
                left[row] = f"no date in column {column!r}" if footer else ""
                continue
            if footer and (
                any(is_total(c) for _, c, _ in cells) or any(e == "a date" for _, _, e in cells)
            ):
                left[row] = f"{text!r} in column {column!r} is not {expected}"
                continue
            if self._is_note(row):
                told = ", ".join(repr(c.strip()) for _, c, _ in cells[:3])
                left[row] = f"units or notes below the header ({told})"
                continue
            raise InputError(
                self._message(min(r for r in self._bad if r <= row and not self._is_note(r)))
            )
        return left

    def _message(self, row: int) -> str:
        column, cell, expected = self._bad[row][0]
        count = self._counts[column]
        if self.trained is not None:
            form = f" ({self.trained})" if expected == "a date" and self.trained else ""
            what = f"write it as in the file that the model was trained on{form}"
        elif expected == "a number":
            what = "correct it, leave it empty, or pass --missing with it"
        else:
            what = "correct it, or pass --date-format or --date none"
        return (
            f"{self.path}: line {self.lines[row]}, column {column!r}: expected {expected}, got"
            f" {cell!r} ({count} such cell{'s' if count > 1 else ''}); {what}"
        )

    def _notes(self) -> int:
        """Return how many rows at the beginning have bad cells, all of them; 0: too many."""
        count = next(r for r in range(len(self._bad) + 1) if r not in self._bad)
        return count if count <= ABOVE else 0

    def _is_note(self, row: int) -> bool:
        """Whether a row with bad cells is one of the units or notes below the header."""
        return row < self._notes() < len(self.lines) and self._is_units(self._bad[row])

    def _is_units(self, cells: list[tuple[str, str, str]]) -> bool:
        """Whether a first row is one of units: every later row of these columns can be read."""
        if 2 * len(cells) < self.width:
            return False
        return all(self._counts[column] == 1 or self._first_only(column) for column, _, _ in cells)

    def _first_only(self, column: str) -> bool:
        rows = [r for r, found in self._bad.items() if any(n == column for n, _, _ in found)]
        total = len(self.lines)
        return all(r < self._notes() or r >= total - FOOTER for r in rows)
