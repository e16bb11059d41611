"""Where a watch writes: the user's record, loggers, and a short memory for pages and printing."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from steadygrad.loggers import Logger
from steadygrad.record import Record
from steadygrad.record.writer import KEY

COMMIT_EVERY = 1.0
"""Seconds between two commits of a record, at least."""
MOST = 2048
"""Training steps kept of each quantity; beyond that every second one is dropped, oldest first."""


class Memory:
    """What a record would hold, kept in memory and bounded, until a page is asked for.

    A quantity that has been written at more than `MOST` steps keeps every second of them, then
    every fourth: the whole training stays in view, only coarser.
    """

    def __init__(self) -> None:
        self._scalars: dict[str, _Thinned] = {}
        self._rows: dict[tuple[str, str, str], _Thinned] = {}
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._findings: list[tuple[int, dict[str, Any]]] = []
        self._notes: dict[str, Any] = {}

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Keep numbers under their names."""
        for name, value in values.items():
            self._scalars.setdefault(name, _Thinned()).put(step, float(value))

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        """Keep one row of a heat map."""
        key = (quantity, layer, state)
        self._rows.setdefault(key, _Thinned(MOST // 8)).put(step, np.ma.copy(np.ma.asarray(values)))

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        """Keep that something happened; the last thousand of it."""
        self._events = [*self._events[-999:], (step, kind, text, data)]

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        """Keep a finding; the last thousand."""
        self._findings = [*self._findings[-999:], (step, dict(finding))]

    def amend(self, step: int, finding: Mapping[str, Any]) -> None:
        """Replace the last finding of that step of the same fault, layer and gate."""
        key = [finding.get(k) for k in KEY]
        for at in reversed(range(len(self._findings))):
            was, old = self._findings[at]
            if was == step and [old.get(k) for k in KEY] == key:
                self._findings[at] = step, dict(finding)
                return

    def note(self, key: str, value: Any) -> None:
        """Keep a fact about the training as a whole."""
        self._notes[key] = value

    def truncate(self, step: int) -> None:
        """Forget everything after ``step``."""
        for kept in (*self._scalars.values(), *self._rows.values()):
            kept.truncate(step)
        self._events = [e for e in self._events if e[0] <= step]
        self._findings = [f for f in self._findings if f[0] <= step]

    def write(self, path: Path, config: Mapping[str, Any]) -> Path:
        """Write all of it as a record."""
        with Record.create(path, config=config, overwrite=True) as record:
            for name, kept in self._scalars.items():
                for step, value in kept.items():
                    record.scalars(step, {name: value})
            for (quantity, layer, state), kept in self._rows.items():
                for step, values in kept.items():
                    record.row(step, quantity, layer, values, state=state)
            for step, kind, text, data in self._events:
                record.event(step, kind, text, **data)
            for step, finding in self._findings:
                record.finding(step, finding)
            for key, value in self._notes.items():
                record.note(key, value)
        return path


class _Thinned:
    """Values by step; when there are too many, every second one stays."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._values: OrderedDict[int, Any] = OrderedDict()
        self._stride = 1
        self._count = 0

    def put(self, step: int, value: Any) -> None:
        if self._count % self._stride == 0:
            self._values[step] = value
        self._count += 1
        if len(self._values) > self._most:
            for old in list(self._values)[1::2]:
                del self._values[old]
            self._stride *= 2

    def truncate(self, step: int) -> None:
        for later in [s for s in self._values if s > step]:
            del self._values[later]

    def items(self) -> Iterable[tuple[int, Any]]:
        return self._values.items()


class Sinks:
    """Hands everything that a watch writes to a record or a memory, and to loggers.

    Args:
        record: The user's; with one, nothing is kept in memory.
        loggers: Told the same things.
    """

    def __init__(self, record: Record | None, loggers: Iterable[Logger] = ()) -> None:
        self.memory = Memory() if record is None else None
        first: Record | Memory | None = record if self.memory is None else self.memory
        self.record = record
        self.loggers = list(loggers)
        self._all: list[Any] = [first, *self.loggers]
        self._due = 0.0

    def begin(self, path: Path, config: Mapping[str, Any]) -> Record:
        """Go on in a record, begun with what is in memory."""
        assert self.memory is not None  # or there is a record
        self.memory.write(path, config)
        self.record = self._all[0] = Record.open(path)
        self.memory = None
        return self.record

    def commit_if_due(self) -> None:
        """Let readers see what was written: about once a second, and a hundredth of the time."""
        if self.record is None or time.monotonic() < self._due:
            return
        began = time.monotonic()
        self.record.commit()
        took = time.monotonic() - began
        self._due = began + max(COMMIT_EVERY, 100 * took)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of one training step."""
        for sink in self._all:
            sink.scalars(step, values)

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        """One value per time step of one layer, at one training step."""
        for sink in self._all:
            sink.row(step, quantity, layer, values, state=state)

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        """Something that happened."""
        for sink in self._all:
            sink.event(step, kind, text, **data)

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        """A fault that was found."""
        for sink in self._all:
            sink.finding(step, finding)

    def amend(self, step: int, finding: Mapping[str, Any]) -> None:
        """What has become known of a fault since; loggers keep what they were told."""
        self._all[0].amend(step, finding)

    def note(self, key: str, value: Any) -> None:
        """A fact about the training as a whole."""
        for sink in self._all:
            sink.note(key, value)

    def close(self) -> None:
        """Let the loggers end what they began."""
        for logger in self.loggers:
            logger.close()
