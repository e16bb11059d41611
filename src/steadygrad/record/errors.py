"""Translate SQLite's errors into the one error of this room."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steadygrad.errors import RecordError as RecordError


class EmptyRecordError(RecordError):
    """The file is empty, as after a kill during its creation."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise SQLite's errors about ``path`` as `RecordError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise RecordError(f"{path}: {_explanation(error)}") from error
    except UnicodeDecodeError:  # an error message of SQLite quotes a damaged name
        raise RecordError(
            f"{path}: the record is damaged (a name in it is not text). Restore it from a copy or "
            "run again"
        ) from None


def _explanation(error: sqlite3.DatabaseError) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return (
            "another process is writing this record; a record has one writer. "
            "Wait for it, stop it, or write to another file"
        )
    if "closed" in text:
        return "the record is closed. Open it again to go on"
    if "not a database" in text:
        return "this is not a Steadygrad record (not an SQLite file). Give the path of a run's file"
    if "malformed" in text or "no such table" in text or "no such column" in text:
        return f"the record is damaged ({text}). Restore it from a copy or run again"
    if "unable to open" in text:
        return "the file cannot be opened. Check that it exists and that you may read it"
    if "readonly" in text:
        return "the file or its folder is read-only. Write to a folder that you own"
    if "full" in text or "disk I/O" in text:
        return f"the disk refused the write ({text}). What was committed before is intact"
    return f"SQLite cannot use this file ({text})"
