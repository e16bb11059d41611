"""The records that a page shows: found under files and folders, read again when they have grown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steadygrad.board import snapshot
from steadygrad.errors import RecordError
from steadygrad.record import Run, read
from steadygrad.record.ownership import kind_of
from steadygrad.record.places import GRID

MOST = 40
"""Records that are shown at most, the latest first."""
DEPTH = 4
"""Folders below the one that was named in which records are looked for."""


@dataclass
class Source:
    """One record and the latest of it.

    Attributes:
        path: The file.
        name: What the page calls it.
        mark: Which file it was, and in which version, when it was read.
        number: Counts what has changed; 0 is not read yet.
        payload: The latest as JSON.
        run: The open record; None for a grid.
    """

    path: Path
    name: str
    mark: object = None
    number: int = 0
    payload: str = ""
    run: Run | None = None


class Sources:
    """Every record under some files and folders.

    Args:
        places: Records, or folders that hold some, now or later.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = list(places)
        self._sources: dict[Path, Source] = {}
        self._counter = 0

    @property
    def latest(self) -> list[Source]:
        """All that could be read, in the order in which they were found."""
        return [s for s in self._sources.values() if s.number]

    def path_of(self, name: str) -> Path | None:
        """The record of one run, by what the page calls it; None if there is no such run."""
        named = (s.path for s in self._sources.values() if s.name == name and s.run is not None)
        return next(named, None)

    def add(self, place: Path) -> None:
        """Show what a folder holds, too, unless it is below one that is shown already."""
        if not any(p == place or (p.is_dir() and place.is_relative_to(p)) for p in self._places):
            self._places.append(place)

    def find(self) -> None:
        """Look for records that are new, and forget those that are gone."""
        there = dict.fromkeys(path for place in self._places for path in _records(place))
        for gone in self._sources.keys() - there.keys():
            self._drop(gone)
        for path in list(there)[:MOST]:
            if path not in self._sources:
                self._sources[path] = Source(path, self._unused(self._name(path)))

    def refresh(self) -> bool:
        """Read again whatever has grown; whether anything has."""
        changed = [self._refresh(source) for source in list(self._sources.values())]
        return any(changed)

    def close(self) -> None:
        """Let all files go."""
        for path in list(self._sources):
            self._drop(path)

    def _refresh(self, source: Source) -> bool:
        try:
            mark = self._mark(source)
            if mark == source.mark:
                return False
            if source.run is None:
                content = snapshot.of_grid(source.path, source.name)
            else:
                content = snapshot.of_run(source.run, source.name)
        except (RecordError, OSError) as error:
            content = {"kind": "trouble", "name": source.name, "text": " ".join(str(error).split())}
            mark = ("trouble", str(error))
            if mark == source.mark:
                return False
        source.mark = mark
        self._counter += 1
        source.number = self._counter
        source.payload = json.dumps(content, allow_nan=False, separators=(",", ":"))
        return True

    def _mark(self, source: Source) -> object:
        """What tells two states of a file apart; a file that was replaced is opened again."""
        status = source.path.stat()
        which = (status.st_dev, status.st_ino)
        if source.path.name == GRID:
            return which, status.st_mtime_ns, _log_time(source.path)
        if source.run is None or not isinstance(source.mark, tuple) or source.mark[0] != which:
            if source.run is not None:
                source.run.close()
            source.run = read(source.path)
        return which, source.run.version()

    def _name(self, path: Path) -> str:
        """The shortest name that tells: the folder of a training, else the file."""
        inside = next((p for p in self._places if p.is_dir() and path.is_relative_to(p)), None)
        place = path.parent if path.name in ("run.db", GRID) else path.with_suffix("")
        if inside is None or place == inside:
            return place.name
        return place.relative_to(inside).as_posix()

    def _unused(self, name: str) -> str:
        used = {source.name for source in self._sources.values()}
        numbered = (f"{name} ({n})" for n in range(2, MOST + 2))
        return next(n for n in (name, *numbered) if n not in used)

    def _drop(self, path: Path) -> None:
        source = self._sources.pop(path)
        if source.run is not None:
            source.run.close()


def _log_time(path: Path) -> int:
    """When the write-ahead log beside a file last changed."""
    try:
        return path.with_name(path.name + "-wal").stat().st_mtime_ns
    except OSError:
        return 0


def _records(place: Path) -> list[Path]:
    """Records at a place, the latest first."""
    if not place.is_dir():
        return [place] if place.exists() else []
    found: list[tuple[float, Path]] = []
    for depth in range(DEPTH + 1):
        for path in place.glob("/".join(["*"] * depth + ["*.db"])):
            if kind_of(path) == "record":
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]
