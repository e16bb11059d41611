"""The table of finished runs of a grid: one row each, in one SQLite file."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from steadygrad import _drawing
from steadygrad.record import codec
from steadygrad.record.errors import RecordError, explained
from steadygrad.record.filesystem import is_network
from steadygrad.record.kinds import damaged

APPLICATION = 0x53475247  # "SGRG", the application id in SQLite's header
VERSION = 1
_WAIT = 30.0  # seconds that a writer waits for another one


@final
class Results:
    """A table of results by key. Several processes may read it while one writes.

    Writes are atomic, even if the writer is killed; an existing key is never overwritten.

    Args:
        path: The file; created if missing, with its folder.

    Raises:
        RecordError: The file is something else, or cannot be written.

    Example:
        >>> import tempfile
        >>> with Results(tempfile.mkdtemp() + "/bench.db") as results:
        ...     added = results.add("a", {"seed": 0}, {"score": float("inf")})
        ...     again = results.add("a", {"seed": 0}, {"score": 1.0})
        >>> added, again
        (True, False)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise RecordError(f"{path}: is a folder; results are one file. Name a file in it")
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        (owner,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and owner != APPLICATION:
            raise RecordError(
                f"{self.path}: is an SQLite file, but not a table of results. Name another file"
            )
        if not tables:
            # Before the journal is moved to a WAL: that file would hold the mark of ownership, and
            # after a kill the table would look like a file of somebody else.
            self._db.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
                "CREATE TABLE IF NOT EXISTS result (id INTEGER PRIMARY KEY, key TEXT NOT NULL"
                " UNIQUE, trial TEXT NOT NULL, result TEXT NOT NULL); COMMIT;"
            )
        mode = "DELETE" if is_network(self.path) else "WAL"
        self._db.execute(f"PRAGMA journal_mode = {mode}")
        # A power failure may lose the last rows, never part of one; lost rows are run again.
        self._db.execute("PRAGMA synchronous = NORMAL")

    def add(self, key: str, trial: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Write one finished run; if its key exists already, leave it and return False."""
        with explained(self.path):
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO result (key, trial, result) VALUES (?, ?, ?)",
                (key, codec.to_json(dict(trial)), codec.to_json(dict(result))),
            )
        return cursor.rowcount == 1

    def keys(self) -> set[str]:
        """Keys of all finished runs."""
        with explained(self.path):
            return {key for (key,) in self._db.execute("SELECT key FROM result")}

    def forget(self, keys: set[str]) -> None:
        """Remove rows, so that their runs are repeated."""
        with explained(self.path):
            self._db.executemany("DELETE FROM result WHERE key = ?", [(k,) for k in sorted(keys)])

    def rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Trial and result of each finished run, in the order of writing.

        Raises:
            RecordError: The file is damaged.
        """
        with explained(self.path):
            rows = self._db.execute("SELECT trial, result FROM result ORDER BY id").fetchall()
        found = [(codec.from_json(t), codec.from_json(r)) for t, r in rows]
        for row in found:
            if not all(isinstance(part, dict) for part in row):
                raise damaged(self.path, "a row is not made of mappings")
        return iter(found)

    def _repr_html_(self) -> str:
        return _drawing.grid(self.path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
