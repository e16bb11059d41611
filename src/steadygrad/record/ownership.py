"""Recognise files that Steadygrad wrote, so that no others are replaced."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from steadygrad.errors import InputError
from steadygrad.record import results, schema

GENERATOR = "Steadygrad"
"""What every page and drawing names as its generator."""
KEY = "steadygrad"
"""The key in the metadata of every safetensors file that a run writes."""
Kind = Literal["record", "tensors", "page", "empty"]
_KINDS: Mapping[str, Kind] = {".db": "record", ".safetensors": "tensors"}  # others are pages
_HEADER = 1 << 26  # bytes of a safetensors header that are read
_PAGE = 1 << 23  # bytes of a page or drawing that are read
_SQLITE = b"SQLite format 3\0"
_OWNERS = (schema.APPLICATION, results.APPLICATION)


def kind_of(path: Path) -> Kind | None:
    """The kind of a file that Steadygrad wrote, by its content; None of others, links and pipes.

    A file that cannot be read counts as not ours, so that it is not replaced.
    """
    if path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            start = file.read(100)
            if not start:  # as after a kill during its creation; nothing is lost
                return "empty"
            if start.startswith(_SQLITE):
                owner = int.from_bytes(start[68:72], "big")
                return "record" if owner in _OWNERS or _is_begun(path) else None
            if start.startswith(b"%PDF-"):
                file.seek(-min(path.stat().st_size, 200), 2)
                return "page" if f"% Made by {GENERATOR}".encode() in file.read() else None
            file.seek(0)
            if start[8:9] == b"{":
                header = file.read(min(_HEADER, 8 + int.from_bytes(start[:8], "little")))
                return "tensors" if _has_key(header) else None
            return "page" if _is_page(file.read(_PAGE)) else None
    except OSError:
        return None


def refuse_foreign(paths: Iterable[Path], kind: Kind | None = None) -> None:
    """Refuse to replace a file that Steadygrad did not write.

    Args:
        paths: Files about to be written; they need not exist.
        kind: Their kind; by the endings of their names if not given.

    Raises:
        InputError: Names the first such file.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, where a file should be written; name a file")
        wanted = kind or _KINDS.get(path.suffix, "page")
        if (path.exists() or path.is_symlink()) and kind_of(path) not in (wanted, "empty"):
            raise InputError(
                f"{path}: was not written by Steadygrad as a file of this kind, so it is not "
                "replaced; move it away, or write to another place"
            )


def _is_begun(path: Path) -> bool:
    """Whether a writer created this database and was killed before its first commit.

    Opening it rolls back the unfinished transaction, as the next writer would.
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
        facts = json.loads(header[8:])
    except ValueError:  # damaged, or not safetensors
        return False
    metadata = facts.get("__metadata__") if isinstance(facts, dict) else None
    return isinstance(metadata, dict) and KEY in metadata


def _is_page(content: bytes) -> bool:
    marks = (f'name="generator" content="{GENERATOR}', f"Made by {GENERATOR}")
    return content.lstrip()[:1] == b"<" and any(mark.encode() in content for mark in marks)
