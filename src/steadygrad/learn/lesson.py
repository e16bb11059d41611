"""The interface of a lesson: options give numbers, and these a page and a terminal text."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from steadygrad.learn.parts import Part
from steadygrad.learn.scene import Scene


class Result(ABC):
    """The numbers of a lesson: a frozen dataclass of plain values, tuples and mappings."""

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return the lesson in order: text, tables, charts and scenes."""

    def to_record(self) -> dict[str, Any]:
        """Return every number as plain values, ready for JSON but for nan and infinities."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


class Lesson(ABC):
    """A question answered by a computation: a frozen dataclass whose fields are its options.

    A subclass declares `name`, `question` and `place`, and computes everything in `run`; its import
    line in `steadygrad.learn` makes it known to the command line, the page and the tests. A page
    that recomputes while a slider moves does so by pure functions in a script beside the lesson's
    file (``name.js``); a test compares each of them with Python.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    """The question that the lesson answers: the headline of its page."""
    place: ClassVar[int]
    """Place in the order of lessons, lowest first. Built-in ones are multiples of ten."""

    @abstractmethod
    def run(self) -> Result:
        """Compute.

        Raises:
            InputError: An option is out of range or a file cannot be read.
        """

    def save(self, path: str | Path) -> Path:
        """Run the lesson and write its page, one offline HTML file.

        Raises:
            InputError: As `run`.
            OSError: The file cannot be written.
        """
        from steadygrad.learn.page import write

        return write(self, self.run(), path)


def scenes(parts: Iterable[Part]) -> list[Scene]:
    """The interactive figures among ``parts``."""
    return [part for part in parts if isinstance(part, Scene)]


def register(kinds: Iterable[object]) -> dict[str, type[Lesson]]:
    """The lessons among the names of a room, by `Lesson.name`, in the order of `Lesson.place`."""
    found = [k for k in kinds if isinstance(k, type) and issubclass(k, Lesson) and k is not Lesson]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.place)}
