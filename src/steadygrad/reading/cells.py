"""The cells of one column, kept small: numbers as float64, all else as blocks of bytes."""

import re
from collections.abc import Iterator

import numpy as np

from steadygrad.reading.numbers import PLAIN, Evidence

SEPARATOR = "\x1f"  # "unit separator": no cell of a text holds it
SAMPLE = 2000
TIMES = re.compile(r"(?:(?:[01]\d|2[0-4])\.[0-5]\d(?:\n|$))+")  # 00.30, one in each line


class ColumnCells:
    """Collects the cells of one column, chunk by chunk.

    Args:
        name: Of the column.
        points_are_decimal: Whether a point may be read as a decimal point before the whole column
            has been seen, if the chunk proves it; not where the reader has said otherwise.
        is_clock: Whether its name speaks of the time of day: the point of 00.30 is none then.
    """

    def __init__(
        self, name: str, *, points_are_decimal: bool = True, is_clock: bool = False
    ) -> None:
        self.name = name
        self.evidence = Evidence.nothing()
        self.rows = 0
        self.first = ""  # its first cell that is not empty
        self.chunks: list[np.ndarray | bytes] = []
        self.sizes: list[int] = []
        self._points, self._is_clock = points_are_decimal, is_clock

    def add(self, cells: list[str]) -> None:
        """Take in the next cells."""
        self.rows += len(cells)
        self.sizes.append(len(cells))
        self.first = self.first or next((c.strip() for c in cells if c and not c.isspace()), "")
        joined = "\n".join(cells)
        if self._is_clock and not self.chunks and TIMES.fullmatch(joined):
            self._points = False
        if PLAIN.search(joined) is None:
            try:
                full = [c or "nan" for c in cells] if "" in cells else cells
                values = np.fromiter(map(float, full), np.float64, len(cells))
            except ValueError:  # a date, or a number with two points
                pass
            else:
                if ("." not in joined or self._points) and self.evidence.see_plain(joined):
                    self.chunks.append(values)
                    return
        self.chunks.append(SEPARATOR.join(cells).encode("utf-8", "surrogatepass"))

    def add_values(self, values: np.ndarray) -> None:
        """Take in cells that the file holds as numbers."""
        self.rows += len(values)
        self.sizes.append(len(values))
        self.chunks.append(np.asarray(values, np.float64))

    @property
    def is_decimal(self) -> bool:
        """Whether all cells so far are plain numbers, and one proves that points are decimal."""
        return self._points and "." in self.evidence.decimal and self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether every cell is a number or empty, and nothing is left to be decided."""
        return all(isinstance(chunk, np.ndarray) for chunk in self.chunks)

    def texts(self) -> Iterator[tuple[int, list[str]]]:
        """Return the chunks that are no plain numbers, each with its first row."""
        row = 0
        for chunk, size in zip(self.chunks, self.sizes, strict=True):
            if isinstance(chunk, bytes):
                yield row, _split(chunk, size)
            row += size

    def strings(self) -> Iterator[list[str]]:
        """Return all cells as text, chunk by chunk; numbers as Python writes them."""
        for chunk, size in zip(self.chunks, self.sizes, strict=True):
            if isinstance(chunk, bytes):
                yield _split(chunk, size)
            else:
                yield ["" if v != v else f"{v:.17g}" for v in chunk.tolist()]

    def sample(self) -> list[str]:
        """Return cells of the beginning and of the end that are not empty."""
        found: list[str] = []
        for cells in self.strings():
            found += [c.strip() for c in cells[:SAMPLE] if c.strip()]
            if len(found) >= SAMPLE:
                break
        return found[:SAMPLE]

    def last(self, count: int) -> list[str]:
        """Return the last cells of the last chunk."""
        if not self.chunks or not isinstance(chunk := self.chunks[-1], bytes):
            return []
        return _split(chunk, self.sizes[-1])[-count:]

    def numbers(self) -> np.ndarray:
        """Return the column, all of whose chunks are numbers."""
        return np.concatenate(
            [c for c in self.chunks if isinstance(c, np.ndarray)] or [np.empty(0)]
        )


def _split(chunk: bytes, size: int) -> list[str]:
    return chunk.decode("utf-8", "surrogatepass").split(SEPARATOR) if size else []


def clean(cell: str) -> str:
    """Return a cell without what would break a block of cells."""
    return re.sub(r"[\x1f\r\n]+", " ", cell)
