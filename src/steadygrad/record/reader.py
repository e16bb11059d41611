"""The reader of a record: sees what the writer has committed, and never writes."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.record import codec, schema
from steadygrad.record.errors import RecordError, explained

Steps = NDArray[np.int64]


def read(path: str | Path) -> "Run":
    """Open a record for reading, also while its run goes on.

    Raises:
        RecordError: If there is no such file, it is no record, of another schema version, or
            damaged.
    """
    path = Path(path)
    schema.check_path(path, must_exist=True)
    with explained(path):
        return Run(path, _connect(path))


@final
class Run:
    """What a run has written down so far. Each call reads afresh.

    Args:
        path: The file.
        db: An open connection; `read` makes one.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

    @property
    def config(self) -> dict[str, Any]:
        """The options of the run, as given when the record was created."""
        rows = self._all("SELECT value FROM meta WHERE key = 'config'")
        if not rows:
            raise RecordError(f"{self.path}: the record is damaged: it has no configuration")
        return codec.from_json(rows[0][0])

    @property
    def notes(self) -> dict[str, Any]:
        """The notes, each in its latest version."""
        rows = self._all("SELECT key, value FROM note ORDER BY step")
        return {key: codec.from_json(value) for key, value in dict(rows).items()}

    def last_step(self) -> int:
        """The last training step that anything was written of; -1 if nothing was."""
        parts = " UNION ALL ".join(f"SELECT max(step) AS s FROM {t}" for t in schema.STEPPED)
        (found,) = self._all(f"SELECT coalesce(max(s), -1) FROM ({parts})")[0]
        if not isinstance(found, int):
            raise RecordError(f"{self.path}: the record is damaged: a step in it is no number")
        return found

    def scalar_names(self) -> list[str]:
        """Names of the scalars, in the order in which they first appeared."""
        found = "SELECT name FROM name WHERE id IN (SELECT DISTINCT name FROM scalar) ORDER BY id"
        return [name for (name,) in self._all(found)]

    def steps(self, name: str) -> Steps:
        """Training steps at which scalar ``name`` was written, ascending, ``(S,)``."""
        return self.scalars(name)[0]

    def scalars(self, name: str) -> tuple[Steps, NDArray[np.float64]]:
        """Steps and values of scalar ``name``, ``(S,)`` each; nan and inf as they were written.

        Raises:
            RecordError: If nothing was written under that name.
        """
        rows = self._all(
            "SELECT step, value FROM scalar WHERE name = (SELECT id FROM name WHERE name = ?) "
            "ORDER BY step",
            name,
        )
        if not rows:
            raise RecordError(f"{self.path}: no scalar {name!r}; there are {self.scalar_names()}")
        steps = np.array([step for step, _ in rows], dtype=np.int64)
        return steps, codec.loaded([value for _, value in rows])

    def quantities(self) -> list[tuple[str, str, str]]:
        """Heat maps there are, as (quantity, layer, state), in the order of appearance."""
        return self._all(
            "SELECT quantity, layer, state FROM series "
            "WHERE id IN (SELECT DISTINCT series FROM cells) ORDER BY id"
        )

    def rows(
        self, quantity: str, layer: str, state: str = "h", *, limit: int | None = None
    ) -> tuple[Steps, np.ma.MaskedArray]:
        """Steps ``(S,)`` and heat map ``(S, T)``, masked where nothing was measured.

        Args:
            quantity: What was measured.
            layer: Name of the layer.
            state: Name of the state.
            limit: Read at most so many rows, spread evenly, first and last among them. A long
                run holds more than fits into memory.

        Raises:
            RecordError: If there is no such heat map.
        """
        key = (quantity, layer, state)
        found = self._all(
            "SELECT cells.id, step FROM cells JOIN series ON series.id = series "
            "WHERE quantity = ? AND layer = ? AND state = ? ORDER BY step",
            *key,
        )
        if not found:
            raise RecordError(f"{self.path}: no heat map {key}; there are {self.quantities()}")
        if limit is not None and len(found) > limit:
            # Rows are dropped, never averaged: a mean would hide the one step that exploded.
            keep = np.unique(np.linspace(0, len(found) - 1, max(limit, 1)).round().astype(int))
            found = [found[i] for i in keep]
        blobs = [self._all("SELECT blob FROM cells WHERE id = ?", i) for i, _ in found]
        kept = [(step, blob[0][0]) for (_, step), blob in zip(found, blobs, strict=True) if blob]
        return np.array([s for s, _ in kept], dtype=np.int64), codec.stacked([b for _, b in kept])

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order: mappings with step, kind, text, data and time (Unix seconds)."""
        rows = self._all("SELECT step, kind, text, data, time FROM event ORDER BY id")
        return [
            {"step": step, "kind": kind, "text": text, "data": codec.from_json(data), "time": time}
            for step, kind, text, data, time in rows
        ]

    def findings(self) -> list[dict[str, Any]]:
        """The findings, in order; ``recorded_at`` is the training step of the writing."""
        rows = self._all("SELECT step, body FROM finding ORDER BY id")
        return [{**codec.from_json(body), "recorded_at": step} for step, body in rows]

    def close(self) -> None:
        """Let the file go; closing twice is fine."""
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

    def _all(self, query: str, *args: Any) -> list[Any]:
        with explained(self.path):
            return self._db.execute(query, args).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _checked(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    if any(path.with_name(path.name + tail).exists() for tail in ("-wal", "-journal")):
        # A killed writer has left a half-done commit; only a writer may undo it.
        return _checked(path, "mode=rw")
    # A write-ahead log needs an index file beside it. Where none can be made (a read-only medium)
    # and there is no log, nobody is writing, and the file may be read as something fixed.
    return _checked(path, "mode=ro&immutable=1")


def _checked(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    db = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        schema.check(db, path)
    except BaseException:
        db.close()
        raise
    return db
