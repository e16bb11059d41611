"""Read a record, also while it is being written; only committed data are seen."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.plain import Misfit, fitted, is_count, shown
from steadygrad.record import codec, schema
from steadygrad.record.errors import RecordError, explained
from steadygrad.record.kinds import FindingBody, check, check_event, check_note, damaged

LATEST = 253402300800.0  # Unix seconds: the end of the year 9999, the last that has a date
Steps = NDArray[np.int64]


def read(path: str | Path) -> "Run":
    """Open a record for reading, also while its run continues.

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
    """A record opened for reading. Each call reads the file anew.

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
            raise RecordError(
                f"{self.path}: the record is damaged: it has no configuration. Restore it from a "
                "copy or run again"
            )
        config = codec.from_json(rows[0][0])
        if not isinstance(config, dict):
            raise damaged(self.path, f"its configuration is {shown(config)}")
        return config

    @property
    def notes(self) -> dict[str, Any]:
        """The notes, each in its latest version, unchecked."""
        rows = self._all("SELECT key, value FROM note ORDER BY step")
        notes = {key: codec.from_json(value) for key, value in dict(rows).items()}
        if not all(isinstance(key, str) for key in notes):
            raise damaged(self.path, "the name of a note is not text")
        return notes

    def check_kinds(self) -> None:
        """Check the types of the notes and events that our trainings write.

        Raises:
            RecordError: One has another type, see `steadygrad.record.kinds`.
        """
        try:
            for key, value in self.notes.items():
                check_note(key, value)
            for finding in self.findings():
                check(FindingBody, finding, "finding")
            for event in self.events():
                check_event(event["kind"], event["data"])
        except Misfit as error:
            raise damaged(self.path, error) from None

    def last_step(self) -> int:
        """The last training step recorded; -1 if none."""
        parts = " UNION ALL ".join(f"SELECT max(step) AS s FROM {t}" for t in schema.STEPPED)
        (last,) = self._all(f"SELECT coalesce(max(s), -1) FROM ({parts})")[0]
        if not isinstance(last, int):
            raise RecordError(f"{self.path}: the record is damaged: a step in it is not a number")
        return last

    def scalar_names(self) -> list[str]:
        """Names of the scalars, in the order in which they first appeared."""
        query = "SELECT name FROM name WHERE id IN (SELECT DISTINCT name FROM scalar) ORDER BY id"
        names = [name for (name,) in self._all(query)]
        if not all(isinstance(name, str) for name in names):
            raise damaged(self.path, "the name of a scalar is not text")
        return names

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
        return self._steps(rows), codec.loaded([value for _, value in rows])

    def thinned(self, name: str, points: int) -> tuple[Steps, NDArray[np.float64]]:
        """Steps and values of scalar ``name``, downsampled to at most three per stretch.

        Of each stretch of equally many steps the least, the greatest and the first NaN are kept:
        a mean would hide the one step that exploded. SQLite selects them, so that a long run does
        not have to fit into memory.

        Args:
            name: Name of the scalar.
            points: How many stretches.

        Raises:
            RecordError: If nothing was written under that name.
        """
        ids = self._all("SELECT id FROM name WHERE name = ?", name)
        (ends,) = self._all(
            "SELECT min(step), max(step), count(*) FROM scalar WHERE name = ?",
            ids[0][0] if ids else -1,
        )
        low, high, count = ends
        if not count or count <= 3 * points:
            return self.scalars(name)
        part = "(step - :low) * :points / (:high - :low + 1)"
        # In a query with one min() or max(), SQLite takes bare columns from the row that attains
        # it.
        kept = " UNION ".join(
            f"SELECT {step} AS step, {value} AS value FROM scalar"
            f" WHERE name = :id AND typeof(value) {kind} 'text' GROUP BY {part}"
            for step, value, kind in (
                ("step", "min(value)", "!="),
                ("step", "max(value)", "!="),
                ("min(step)", "value", "="),
            )
        )
        ends = "SELECT step, value FROM scalar WHERE name = :id AND step IN (:low, :high)"
        limits = {"id": ids[0][0], "low": low, "high": high, "points": points}
        rows = self._all(f"{kept} UNION {ends} ORDER BY step", limits)
        return self._steps(rows), codec.loaded([value for _, value in rows])

    def version(self) -> int:
        """A number that changes whenever another connection has written to the file."""
        return int(self._all("PRAGMA data_version")[0][0])

    def is_being_written(self) -> bool:
        """Whether a writer has the record open, or was killed while it had."""
        return bool(self._all("SELECT 1 FROM meta WHERE key = 'writer'"))

    def _steps(self, rows: Sequence[Sequence[Any]], place: int = 0) -> Steps:
        """The training steps in column ``place`` of the rows, checked."""
        steps = [row[place] for row in rows]
        if not all(type(step) is int and is_count(step) for step in steps):
            raise damaged(self.path, "a step in it is not a count")
        return np.array(steps, dtype=np.int64)

    def quantities(self) -> list[tuple[str, str, str]]:
        """All heat maps, as (quantity, layer, state), in the order of appearance."""
        keys = self._all(
            "SELECT quantity, layer, state FROM series "
            "WHERE id IN (SELECT DISTINCT series FROM cells) ORDER BY id"
        )
        if not all(isinstance(word, str) for row in keys for word in row):
            raise damaged(self.path, "the name of a heat map is not text")
        return keys

    def rows(
        self, quantity: str, layer: str, state: str = "h", *, limit: int | None = None
    ) -> tuple[Steps, np.ma.MaskedArray]:
        """Steps ``(S,)`` and heat map ``(S, T)``, masked where nothing was measured.

        Args:
            quantity: What was measured.
            layer: Name of the layer.
            state: Name of the state.
            limit: Read at most so many rows, evenly spread, including the first and the last. A
                long run may hold more than fits into memory.

        Raises:
            RecordError: If there is no such heat map.
        """
        key = (quantity, layer, state)
        cells = self._all(
            "SELECT cells.id, step FROM cells JOIN series ON series.id = series "
            "WHERE quantity = ? AND layer = ? AND state = ? ORDER BY step",
            *key,
        )
        if not cells:
            raise RecordError(f"{self.path}: no heat map {key}; there are {self.quantities()}")
        if limit is not None and len(cells) > limit:
            # Rows are dropped, never averaged: a mean would hide the one step that exploded.
            keep = np.unique(np.linspace(0, len(cells) - 1, max(limit, 1)).round().astype(int))
            cells = [cells[i] for i in keep]
        blobs = [self._all("SELECT blob FROM cells WHERE id = ?", i) for i, _ in cells]
        kept = [(step, blob[0][0]) for (_, step), blob in zip(cells, blobs, strict=True) if blob]
        return self._steps(kept), codec.stacked([b for _, b in kept])

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order: mappings with step, kind, text, data and time (Unix seconds)."""
        rows = self._all("SELECT step, kind, text, data, time FROM event ORDER BY id")
        self._steps(rows)
        events: list[dict[str, Any]] = []
        for step, kind, text, data, when in rows:
            read = codec.from_json(data)
            try:
                fitted(str, kind, "the kind of an event")
                fitted(str, text, "the text of an event")
                if not 0 <= fitted(float, when, "the time of an event") < LATEST:
                    raise Misfit("the time of an event is not a time")
                fitted(Mapping[str, Any], read, "the data of an event")
            except Misfit as error:
                raise damaged(self.path, error) from None
            events.append({"step": step, "kind": kind, "text": text, "data": read, "time": when})
        return events

    def findings(self) -> list[dict[str, Any]]:
        """The findings, in order; ``recorded_at`` is the training step of writing."""
        rows = self._all("SELECT step, body FROM finding ORDER BY id")
        self._steps(rows)
        bodies = [(step, codec.from_json(body)) for step, body in rows]
        if not all(isinstance(body, dict) for _, body in bodies):
            raise damaged(self.path, "a finding in it is not a mapping")
        return [{**body, "recorded_at": step} for step, body in bodies]

    def close(self) -> None:
        """Close the file; idempotent."""
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
            try:
                named = args[0] if args and isinstance(args[0], dict) else args
                return self._db.execute(query, named).fetchall()
            except (UnicodeDecodeError, OverflowError) as error:  # text that is not UTF-8
                raise damaged(self.path, error) from None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _checked(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    if any(path.with_name(path.name + tail).exists() for tail in ("-wal", "-journal")):
        # A killed writer has left an unfinished commit; only a writer may roll it back.
        return _checked(path, "mode=rw")
    # A write-ahead log needs an index file beside it. If none can be made (a read-only medium)
    # and there is no log, there is no writer, and the file may be opened as immutable.
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
