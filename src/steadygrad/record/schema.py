"""The tables of a record, and the marks by which a file is known to be one."""

import sqlite3
from pathlib import Path

from steadygrad.record.errors import EmptyRecordError, RecordError

VERSION = 1
APPLICATION = 0x53475244  # "SGRD", where SQLite's header has room for the owner of a file

# Scalars and cells of a note have no column type: a typed REAL column would turn "nan" away.
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE scalar (
        name INTEGER NOT NULL, step INTEGER NOT NULL, value NOT NULL, PRIMARY KEY (name, step)
    ) WITHOUT ROWID""",
    """CREATE TABLE series (
        id INTEGER PRIMARY KEY, quantity TEXT NOT NULL, layer TEXT NOT NULL, state TEXT NOT NULL,
        UNIQUE (quantity, layer, state))""",
    # An ordinary rowid table: without rowid each blob spills into pages of its own, 3.4 x the size.
    """CREATE TABLE cells (
        id INTEGER PRIMARY KEY, series INTEGER NOT NULL, step INTEGER NOT NULL, blob BLOB NOT NULL,
        UNIQUE (series, step))""",
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
        data TEXT NOT NULL, time REAL NOT NULL)""",
    "CREATE TABLE finding (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, body TEXT NOT NULL)",
    # A note is kept with the last step known when it was written, so that truncating can undo it.
    """CREATE TABLE note (
        key TEXT NOT NULL, step INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (key, step)
    ) WITHOUT ROWID""",
)

STEPPED = ("scalar", "cells", "event", "finding", "note")  # tables that know a step
LISTED = ("event", "finding")  # of these, those in which several rows may have the same step


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether the file holds nothing at all, as after a kill in the act of creation."""
    return db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0


def check_owner(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is no record of ours.

    Raises:
        RecordError: With what was found and what to do.
    """
    if is_empty(db):
        raise EmptyRecordError(f"{path}: the file is empty, no record was begun in it. Create one")
    (owner,) = db.execute("PRAGMA application_id").fetchone()
    if owner != APPLICATION:
        raise RecordError(
            f"{path}: this is an SQLite file, but not a Steadygrad record. Give a run's file"
        )


def check(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is no record, or one of another version.

    Raises:
        RecordError: With what was found and what to do.
    """
    check_owner(db, path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise RecordError(
            f"{path}: the record has schema version {version}, this Steadygrad reads {VERSION}. "
            "Use the Steadygrad that wrote it"
        )


def check_path(path: Path, *, must_exist: bool) -> None:
    """Refuse what cannot be a record before SQLite touches it.

    Raises:
        RecordError: For a directory, a stub, or a missing file where one is needed.
    """
    if path.is_dir():
        raise RecordError(f"{path}: this is a folder; a record is one file. Name a file in it")
    if must_exist and not path.exists():
        raise RecordError(f"{path}: no such file. Check the path, or create a record first")
    # SQLite takes a file of less than a header for a new one and would write over it. The bytes
    # are not looked at here: closing a handle of our own would drop SQLite's locks on the file.
    if path.exists() and 0 < path.stat().st_size < 512:
        raise RecordError(f"{path}: this is not a Steadygrad record. Give the path of a run's file")


def build(db: sqlite3.Connection, config: str) -> None:
    """Replace whatever the database holds by the empty tables, inside the open transaction."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in tables:
        db.execute(f'DROP TABLE "{name}"')
    for table in TABLES:
        db.execute(table)
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("INSERT INTO meta VALUES ('config', ?)", (config,))
