"""Display a lesson in a terminal: text, tables, and charts of characters."""

import math

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steadygrad.learn import Lesson, Result
from steadygrad.learn import parts as lesson_parts
from steadygrad.learn.scene import Scene
from steadygrad.report import Line, Plot
from steadygrad.report.plot import reading

BLOCKS = "▁▂▃▄▅▆▇█"
SAMPLES = 40


def show(lesson: Lesson, result: Result) -> None:
    """Print a lesson."""
    console = Console(highlight=False)
    width = min(console.width, 100)
    console.print(Text(lesson.question, style="bold"), width=width)
    for part in result.parts():
        console.print()
        _print(console, part, width)


def _print(console: Console, part: lesson_parts.Part, width: int) -> None:
    match part:
        case lesson_parts.Heading():
            console.print(Text(part.text, style="bold underline"), width=width)
        case lesson_parts.Text():
            console.print(Text(part.text), width=width)
        case lesson_parts.Code():
            console.print(Text(part.language, style="bold"))
            console.print(Padding(Text(part.text), (0, 0, 0, 2)), soft_wrap=True)
        case lesson_parts.Table():
            _table(console, part, width)
        case Plot():
            _plot(console, part, width)
        case Scene():
            console.print(Text(f"On the page: {part.title}. {part.about}", "dim"), width=width)


def _table(console: Console, part: lesson_parts.Table, width: int) -> None:
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(part.head):
        drawn.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in part.rows:
        drawn.add_row(*(Text(_number(cell)) for cell in row))
    console.print(Text(part.title, style="bold"), width=width)
    if part.about:
        console.print(Text(part.about, style="dim"), width=width)
    console.print(drawn)


def _number(cell: lesson_parts.Cell) -> str:
    return (
        cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.3g}"
    )


def _plot(console: Console, part: Plot, width: int) -> None:
    console.print(Text(part.title, style="bold"), width=width)
    console.print(Text(part.about, style="dim"), width=width)
    finite = np.concatenate([line.y[np.isfinite(line.y)] for line in part.lines])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    drawn = Table(box=None, pad_edge=False)
    for name in ("", part.x_name, "first", "last"):
        drawn.add_column(name, no_wrap=True)
    for line in part.lines:
        ends = [reading(float(line.y[index]), part.is_log) for index in (0, -1)]
        drawn.add_row(line.name, _blocks(line, low, high), *ends)
    console.print(drawn)


def _blocks(line: Line, low: float, high: float) -> str:
    picked = np.linspace(0, len(line.y) - 1, min(SAMPLES, len(line.y))).round().astype(int)
    return "".join(_block(float(line.y[index]), low, high) for index in picked)


def _block(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "?"
    if math.isinf(value):
        return BLOCKS[-1] if value > 0 else " "
    share = (value - low) / (high - low) if high > low else 0.5
    return BLOCKS[min(int(share * len(BLOCKS)), len(BLOCKS) - 1)]
