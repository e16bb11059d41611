"""Tell files that Steadygrad wrote from files of others, so that only the former are replaced."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from steadygrad.errors import InputError
from steadygrad.record import results, schema

GENERATOR = "Steadygrad"
"""What every page and drawing names as its generator."""
KEY = "steadygrad"
"""The key in the metadata of every safetensors file that a run writes."""
_HEADER = 1 << 26  # bytes of a safetensors header that are looked at
_PAGE = 1 << 23  # bytes of a page or drawing that are looked at
_SQLITE = b"SQLite format 3\0"
_OWNERS = (schema.APPLICATION, results.APPLICATION)


def is_ours(path: Path) -> bool:
    """Whether Steadygrad wrote this file, by its content; a link, a folder or a pipe never is.

    A file that cannot be read is not ours either: nothing is replaced on a guess.
    """
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(100)
            if not start:  # nothing in it that could be lost, as after a kill in its creation
                return True
            if start.startswith(_SQLITE):
                owner = int.from_bytes(start[68:72], "big")
                return owner in _OWNERS or _is_begun(path)
            if start[8:9] == b"{":
                file.seek(0)
                return _has_key(file.read(min(_HEADER, 8 + int.from_bytes(start[:8], "little"))))
            file.seek(0)
            return _is_page(file.read(_PAGE))
    except OSError:
        return False


def refuse_foreign(paths: Iterable[Path]) -> None:
    """Refuse to go on where a file of somebody else's would have to be replaced.

    Args:
        paths: Files that are about to be written; those that do not exist are fine.

    Raises:
        InputError: Names the first one.
    """
    for path in paths:
        if (path.exists() or path.is_symlink()) and not is_ours(path):
            raise InputError(
                f"{path}: was not written by Steadygrad and is not replaced; move it away, or"
                " write somewhere else with --out"
            )


def _is_begun(path: Path) -> bool:
    """Whether a database was begun by a writer that was killed before its first commit.

    Opening it takes back what was half done, as the next writer would.
    """
    if not path.with_name(path.name + "-journal").exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as db:
            (owner,) = db.execute("PRAGMA application_id").fetchone()
            return owner in _OWNERS or schema.is_empty(db)
    except sqlite3.DatabaseError:
        return False


def _has_key(header: bytes) -> bool:
    try:
        found = json.loads(header[8:])
    except ValueError:  # damaged, or no safetensors at all
        return False
    metadata = found.get("__metadata__") if isinstance(found, dict) else None
    return isinstance(metadata, dict) and KEY in metadata


def _is_page(content: bytes) -> bool:
    marks = (f'name="generator" content="{GENERATOR}', f"Made by {GENERATOR}")
    return content.lstrip()[:1] == b"<" and any(mark.encode() in content for mark in marks)
