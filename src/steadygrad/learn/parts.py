"""The building blocks of a lesson: text, tables, charts and scenes, drawn by page and terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.learn.scene import Scene
from steadygrad.report import Plot

Cell = str | int | float


@dataclass(frozen=True)
class Heading:
    """The title of one idea."""

    text: str


@dataclass(frozen=True)
class Text:
    """One paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines of code; ``language`` is shown above them."""

    language: str
    text: str


@dataclass(frozen=True)
class Table:
    """Numbers in rows; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    about: str = ""


Part = Heading | Text | Code | Table | Plot | Scene
