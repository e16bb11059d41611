"""Draw a record as a page, for rooms that stand below the report.

The report reads nothing but records and stands above the diagnosis; so the package, which sees
both, hands its writer down when it is imported.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

Writer = Callable[[Path, Path], Path]
"""``(record, page) -> page``."""

_writer: list[Writer] = []


def use(writer: Writer) -> None:
    """Set what turns a record into a page."""
    _writer[:] = [writer]


def page(record: Callable[[Path], Path], path: str | Path) -> Path:
    """Write a record to a temporary place and draw it at ``path``.

    Raises:
        RuntimeError: No writer was handed down: import `steadygrad`, not its parts alone.
    """
    if not _writer:
        raise RuntimeError("no report writer is set; `import steadygrad` sets it")
    with tempfile.TemporaryDirectory() as folder:
        return _writer[0](record(Path(folder) / "record.db"), Path(path))
