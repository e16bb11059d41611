"""The tables of a record, and the header fields that identify a file as one."""

import sqlite3
from pathlib import Path

from steadygrad.record.errors import EmptyRecordError, RecordError

VERSION = 1
APPLICATION = 0x53475244  # "SGRD", the application id in SQLite's header

# The value of a scalar has no column type, because a REAL column could not hold the text "nan".
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE scalar (
        name INTEGER NOT NULL, step INTEGER NOT NULL, value NOT NULL, PRIMARY KEY (name, step)
    ) WITHOUT ROWID""",
    """CREATE TABLE series (
        id INTEGER PRIMARY KEY, quantity TEXT NOT NULL, layer TEXT NOT NULL, state TEXT NOT NULL,
        UNIQUE (quantity, layer, state))""",
    # With rowids: in a table WITHOUT ROWID each blob spills into overflow pages, 3.4 x the size.
    """CREATE TABLE cells (
        id INTEGER PRIMARY KEY, series INTEGER NOT NULL, step INTEGER NOT NULL, blob BLOB NOT NULL,
        UNIQUE (series, step))""",
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
        data TEXT NOT NULL, time REAL NOT NULL)""",
    "CREATE TABLE finding (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, body TEXT NOT NULL)",
    # A note is stored with the step at which it was written, so that truncating can undo it.
    """CREATE TABLE note (
        key TEXT NOT NULL, step INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (key, step)
    ) WITHOUT ROWID""",
)

STEPPED = ("scalar", "cells", "event", "finding", "note")  # tables with a column "step"
LISTED = ("event", "finding")  # of these, those that may have several rows per step


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether the database has no tables, as after a kill during its creation."""
    return db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0


def check_owner(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not a Steadygrad record.

    Raises:
        RecordError: What the file is instead, and what to do.
    """
    if is_empty(db):
        raise EmptyRecordError(f"{path}: the file is empty; expected a record. Create one first")
    (owner,) = db.execute("PRAGMA application_id").fetchone()
    if owner != APPLICATION:
        raise RecordError(
            f"{path}: is an SQLite file, but not a Steadygrad record. Give a run's file"
        )


def check(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not a record of this version.

    Raises:
        RecordError: What the file is instead, and what to do.
    """
    check_owner(db, path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise RecordError(
            f"{path}: the record has schema version {version}; this version of Steadygrad reads "
            f"{VERSION}. Use the Steadygrad that wrote it"
        )


def check_path(path: Path, *, must_exist: bool) -> None:
    """Refuse a path that cannot be a record before SQLite opens it.

    Raises:
        RecordError: For a folder, a file too short, or a missing file where one is needed.
    """
    if path.is_dir():
        raise RecordError(f"{path}: is a folder; a record is one file. Name a file in it")
    if must_exist and not path.exists():
        raise RecordError(f"{path}: no such file. Check the path, or create a record first")
    # SQLite takes a file shorter than its header for a new one and would overwrite it. The file
    # is not opened here: closing another handle would drop SQLite's locks on it (POSIX locks).
    if path.exists() and 0 < path.stat().st_size < 512:
        raise RecordError(f"{path}: is not a Steadygrad record. Give the path of a run's file")


def build(db: sqlite3.Connection, config: str) -> None:
    """Replace the content of the database by the empty tables, within the open transaction."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in tables:
        db.execute(f'DROP TABLE "{name}"')
    for table in TABLES:
        db.execute(table)
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("INSERT INTO meta VALUES ('config', ?)", (config,))
