"""Draw or serve records, for rooms below the report and the live page.

Those import the diagnosis, which must not import them; so the package, which imports all rooms,
registers their functions here when it is imported.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Served(Protocol):
    """A live page being served."""

    url: str

    def close(self) -> None:
        """Stop serving."""
        ...


@dataclass(frozen=True)
class Tools:
    """The functions registered by the rooms above.

    Attributes:
        page: ``(record, page) -> page``: draws a record into a file.
        fragment: ``record -> HTML``: draws a record for a notebook.
        grid: ``results -> HTML``: draws the table of a grid for a notebook.
        table: ``(head, rows) -> HTML``: draws a table for a notebook.
        serve: ``(records, port, trainer) -> page``: serves records while they grow.
    """

    page: Callable[[Path, Path], Path]
    fragment: Callable[[Path], str]
    grid: Callable[[Path], str]
    table: Callable[[Sequence[str], Iterable[Sequence[object]]], str]
    serve: Callable[[Sequence[Path], int, str | None], Served]


_tools: list[Tools] = []


def use(tools: Tools) -> None:
    """Set the functions that draw and serve records."""
    _tools[:] = [tools]


def page(record: Callable[[Path], Path], path: str | Path) -> Path:
    """Write a record to a temporary file and draw it at ``path``.

    Raises:
        RuntimeError: No functions are registered; import `steadygrad` itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _handed().page(record(Path(folder) / "record.db"), Path(path))


def fragment(record: Callable[[Path], Path]) -> str:
    """Write a record to a temporary file and draw it for a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        return _handed().fragment(record(Path(folder) / "record.db"))


def grid(results: Path) -> str:
    """Draw the finished runs of a grid for a notebook."""
    return _handed().grid(results)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Draw a table for a notebook."""
    return _handed().table(head, rows)


def serve(records: Sequence[Path], port: int, trainer: str | None = None) -> Served:
    """Serve records on a live page, in a thread; with a trainer it can try remedies."""
    return _handed().serve(records, port, trainer)


def _handed() -> Tools:
    if not _tools:
        raise RuntimeError("no report writer is set; `import steadygrad` sets it")
    return _tools[0]
