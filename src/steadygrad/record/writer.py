"""Write a record: one writer per file, safe against a kill at any moment."""

import operator
import sqlite3
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsIndex, final

from numpy.typing import ArrayLike

from steadygrad.record import codec, schema, thinning
from steadygrad.record.errors import RecordError, explained
from steadygrad.record.filesystem import is_network

KEY = ("fault", "layer", "gate")
"""What makes two findings the same one."""

_ATTEMPTS, _PAUSE = 6, 0.007  # seconds; resuming after a kill takes a tenth of a second
_PATIENCE = 30.0  # seconds a commit waits for a reader to finish (rollback journal only)


@final
class Record:
    """A record opened for writing. Use `create` or `open` instead of calling the class.

    Between two commits the writer holds SQLite's write lock, which makes it the only writer; the
    lock is released when the process ends. Readers are not blocked. After a kill the record is in
    the state of the last commit. Of a long training what lies far back is thinned out; see
    `steadygrad.record.thinning`.

    Example:
        >>> import numpy as np, tempfile
        >>> path = tempfile.mkdtemp() + "/run.db"
        >>> with Record.create(path, config={"seed": 0}) as rec:
        ...     rec.scalars(0, {"loss": float("nan")})
        ...     rec.row(0, "log10_grad", "lstm", np.array([-39.0, 0.0]))
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._ids: dict[tuple[str, ...], int] = {}
        self._last = -1  # the last step written to
        self._token = uuid.uuid4().hex

    @classmethod
    def create(
        cls, path: str | Path, *, config: Mapping[str, Any], overwrite: bool = False
    ) -> "Record":
        """Create a record.

        Args:
            path: The file; its folder is created if missing.
            config: The options of the run, anything with a JSON form.
            overwrite: Replace an existing record. A file that is not a record is never replaced.

        Raises:
            RecordError: If the file exists, is not a record, is in use, or cannot be written.
        """
        path = Path(path)
        schema.check_path(path, must_exist=False)
        text = codec.to_json(dict(config))
        _make_folder(path.parent)
        with explained(path):
            db = _connect(path, "rwc")
            try:
                db.execute("BEGIN IMMEDIATE")
                if not schema.is_empty(db):
                    if not overwrite:
                        raise RecordError(
                            f"{path}: the file exists. Choose another name, open it to resume, "
                            "or allow overwriting"
                        )
                    schema.check_owner(db, path)
                # Old and new content are exchanged in one transaction: a kill leaves one or the
                # other.
                schema.build(db, text)
                db.execute("COMMIT")
                return cls._begun(path, db)
            except BaseException:
                db.close()
                raise

    @classmethod
    def open(cls, path: str | Path) -> "Record":
        """Open a record for appending, to resume a run.

        Raises:
            RecordError: If there is no such file, or it is not a record, of another schema version,
                damaged, or has a writer already.
        """
        path = Path(path)
        schema.check_path(path, must_exist=True)
        with explained(path):
            db = _connect(path, "rw")
            try:
                schema.check(db, path)
                return cls._begun(path, db)
            except BaseException:
                db.close()
                raise

    @classmethod
    def _begun(cls, path: Path, db: sqlite3.Connection) -> "Record":
        _set_journal(path, db)
        _claim(db)
        rec = cls(path, db)
        last = " UNION ALL ".join(f"SELECT max(step) AS s FROM {t}" for t in schema.STEPPED)
        rec._last = db.execute(f"SELECT coalesce(max(s), -1) FROM ({last})").fetchone()[0]
        db.execute("INSERT OR REPLACE INTO meta VALUES ('writer', ?)", (rec._token,))
        db.execute(f"PRAGMA busy_timeout = {int(_PATIENCE * 1000)}")
        rec.commit()
        return rec

    @property
    def last_step(self) -> int:
        """The last step that anything was written for; -1 if there is none."""
        return self._last

    def scalars(self, step: SupportsIndex, values: Mapping[str, Any]) -> None:
        """Write named numbers; an earlier value of the same name and step is replaced.

        Raises:
            RecordError: If a value is not a real number or the step not a count.
        """
        step = self._at(step)
        pairs = [(name, codec.stored(value)) for name, value in values.items()]
        with explained(self.path):
            for name, value in pairs:
                row = (self._id("name", name), step, value)
                self._db.execute("INSERT OR REPLACE INTO scalar VALUES (?, ?, ?)", row)

    def row(
        self, step: SupportsIndex, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        """Write one row of a heat map.

        Args:
            step: Training step.
            quantity: What was measured: ``"log10_grad"``, ``"gate:forget"`` (share dead), ...
            layer: Name of the layer.
            values: One value per time step, ``(T,)``; masked entries are absent, which is neither
                nan nor -inf (the log10 of an exact zero).
            state: Name of the state.

        Raises:
            RecordError: If the values are not one row of numbers.
        """
        step = self._at(step)
        blob = codec.packed(values)
        with explained(self.path):
            row = (self._id("series", quantity, layer, state), step, blob)
            self._db.execute(
                "INSERT OR REPLACE INTO cells (series, step, blob) VALUES (?, ?, ?)", row
            )

    def event(self, step: SupportsIndex, kind: str, text: str, **data: Any) -> None:
        """Write an event: an epoch, a checkpoint, a remedy, a NaN, a resumption."""
        row = (self._at(step), kind, text, codec.to_json(data), time.time())
        with explained(self.path):
            self._db.execute(
                "INSERT INTO event (step, kind, text, data, time) VALUES (?, ?, ?, ?, ?)", row
            )

    def finding(self, step: SupportsIndex, finding: Mapping[str, Any]) -> None:
        """Write a finding: fault, layer, gate, lag, step, evidence, remedies, text."""
        row = (self._at(step), codec.to_json(dict(finding)))
        with explained(self.path):
            self._db.execute("INSERT INTO finding (step, body) VALUES (?, ?)", row)

    def amend(self, step: SupportsIndex, finding: Mapping[str, Any]) -> None:
        """Replace the last finding written at ``step`` of this fault, layer and gate.

        Where there is none, nothing is written: it has been removed since.
        """
        at, key = operator.index(step), [finding.get(k) for k in KEY]
        select = "SELECT id, body FROM finding WHERE step = ? ORDER BY id DESC"
        with explained(self.path):
            for number, body in self._db.execute(select, (at,)).fetchall():
                old = codec.from_json(body)
                if isinstance(old, dict) and [old.get(k) for k in KEY] == key:
                    row = (codec.to_json(dict(finding)), number)
                    self._db.execute("UPDATE finding SET body = ? WHERE id = ?", row)
                    return

    def note(self, key: str, value: Any) -> None:
        """Write a fact about the whole run; a later note of the same key replaces it.

        Not for series: one version is kept per training step.
        """
        row = (key, self._last, codec.to_json(value))
        with explained(self.path):
            latest = "SELECT value FROM note WHERE key = ? ORDER BY step DESC LIMIT 1"
            if self._db.execute(latest, (key,)).fetchone() == (row[2],):
                return  # unchanged: repeating a note at each step must not grow the file
            self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", row)

    def mark(self) -> dict[str, int]:
        """Return the current ends of the lists of events and findings, for `truncate`.

        A step does not suffice: several events may follow the same step.
        """
        with explained(self.path):
            return {
                table: self._db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
                for table in schema.LISTED
            }

    def truncate(self, step: SupportsIndex, mark: Mapping[str, int] | None = None) -> None:
        """Remove everything recorded after ``step``, including notes, and commit.

        A note written later returns to its version at that step.

        Args:
            step: The last step to keep.
            mark: The value of `mark` at that time: later events of the same step are removed too.
        """
        last = operator.index(step)
        with explained(self.path):
            for table in schema.STEPPED:
                self._db.execute(f"DELETE FROM {table} WHERE step > ?", (last,))
            for table, end in (mark or {}).items():
                if table in schema.LISTED:
                    self._db.execute(f"DELETE FROM {table} WHERE id > ?", (operator.index(end),))
        self._last = min(self._last, last)
        self.commit()

    def commit(self) -> None:
        """Make everything written so far permanent and visible to readers.

        Raises:
            RecordError: If another writer has taken the file, or the disk refuses.
        """
        with explained(self.path):
            self._db.execute("COMMIT")
            self._db.execute("BEGIN IMMEDIATE")  # the write lock again, at once
            # The lock was free for some microseconds: check that no other writer took it.
            token = self._db.execute("SELECT value FROM meta WHERE key = 'writer'").fetchone()
        if token != (self._token,):
            self._db.execute("ROLLBACK")
            self._db.close()
            raise RecordError(
                f"{self.path}: another process has taken over this record. Stop one of the two"
            )

    def close(self) -> None:
        """Commit and close the file; idempotent."""
        with explained(self.path):
            if self._is_open():
                self._db.execute("DELETE FROM meta WHERE key = 'writer'")
                self._db.execute("COMMIT")
                self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Commit after an error, too: the last steps before a crash are needed to explain it.
        self.close()

    def _is_open(self) -> bool:
        try:
            return self._db.in_transaction
        except sqlite3.ProgrammingError:
            return False

    def _at(self, step: SupportsIndex) -> int:
        try:
            at = operator.index(step)
        except TypeError as error:
            raise RecordError(f"a step is a whole number from 0 on; got {step!r}") from error
        if at < 0:
            raise RecordError(f"a step is a whole number from 0 on; got {at}")
        if thinning.is_due(self._last, at):
            with explained(self.path):
                thinning.thin(self._db, at)
        self._last = max(self._last, at)
        return at

    def _id(self, table: str, *key: str) -> int:
        known = self._ids.get((table, *key))
        if known is None:
            columns = ("name",) if table == "name" else ("quantity", "layer", "state")
            marks = ", ".join("?" * len(key))
            self._db.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", key
            )
            where = " AND ".join(f"{c} = ?" for c in columns)
            (known,) = self._db.execute(f"SELECT id FROM {table} WHERE {where}", key).fetchone()
            self._ids[(table, *key)] = known
        return known


def _connect(path: Path, how: str) -> sqlite3.Connection:
    # timeout=0: a second writer fails at once. isolation_level=None: transactions are managed here.
    # Threads may share the connection, because gradients arrive on autograd's threads.
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={how}",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        check_same_thread=False,
    )
    # A spilling cache takes the exclusive lock in the middle of a transaction and blocks readers.
    db.execute("PRAGMA cache_spill = OFF")
    return db


def _claim(db: sqlite3.Connection) -> None:
    """Take the write lock, unless a running writer has only released it during a commit.

    An entry ``writer`` means that its writer is running or was killed. Only a running one takes the
    lock back, so try several times.
    """
    for attempt in range(_ATTEMPTS):
        db.execute("BEGIN IMMEDIATE")
        named = db.execute("SELECT 1 FROM meta WHERE key = 'writer'").fetchone()
        if not named or attempt == _ATTEMPTS - 1:
            return
        db.execute("ROLLBACK")
        time.sleep(_PAUSE * (1 + attempt))  # growing: out of phase with commits


def _set_journal(path: Path, db: sqlite3.Connection) -> None:
    shared = is_network(path)
    db.execute(f"PRAGMA journal_mode = {'DELETE' if shared else 'WAL'}")
    # Every commit reaches the disk: a checkpoint must never be ahead of the record.
    db.execute("PRAGMA synchronous = FULL")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: this folder cannot be created ({error.strerror})") from error
