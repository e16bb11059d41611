"""Sequences of numbers of which two are marked: what adding and multiplication share."""

from typing import Literal

import torch
from torch import Generator, Tensor

Marks = Literal["halves", "martens", "hochreiter"]


def marked_pairs(
    length: int,
    marks: Marks,
    size: int,
    generator: Generator,
    neutral: float,
    low: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draw numbers, mark two of each sequence, and read those out.

    Args:
        length: Steps at least; longer by up to a tenth for all marks but ``"halves"``.
        marks: Where the two marks stand, and how ends are marked; see `Adding`.
        size: Sequences, ``B``.
        generator: What is drawn from.
        neutral: Stands for the first number where the very first pair is marked
            (``"hochreiter"``): the marker there is -1, so it cannot be told.
        low: Smallest number; -1 for ``"hochreiter"`` and 0 for the others if not given.

    Returns:
        Inputs ``(T, B, 2)``, and the two numbers, ``(B,)`` each.
    """
    steps = length if marks == "halves" else _longer(length, marks, generator)
    numbers = torch.rand(steps, size, generator=generator)
    if low is None:
        low = -1.0 if marks == "hochreiter" else 0.0
    numbers = low + (1 - low) * numbers
    first, second = _places(length, steps, marks, size, generator)
    markers = torch.zeros(steps, size)
    if marks == "hochreiter":
        markers[0] = markers[-1] = -1.0
    rows = torch.arange(size)
    markers[first, rows] = 1.0
    markers[second, rows] = 1.0
    values = numbers[first, rows], numbers[second, rows]
    if marks == "hochreiter":
        markers[0] = -1.0
        values = (
            torch.where(first == 0, torch.full_like(values[0], neutral), values[0]),
            torch.where(second == 0, torch.full_like(values[1], neutral), values[1]),
        )
    return torch.stack([numbers, markers], -1), *values


def _longer(length: int, marks: Marks, generator: Generator) -> int:
    most = length // 10 + (
        marks == "hochreiter"
    )  # a closed interval in 1997, open at the end later
    return length + int(torch.randint(max(1, most), (), generator=generator))


def _places(
    length: int, steps: int, marks: Marks, size: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    def between(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (size,), generator=generator)

    if marks == "halves":
        return between(0, steps // 2), between(steps // 2, steps)
    if marks == "martens":
        return between(0, steps // 10), between(steps // 10, steps // 2)
    first = between(0, 10)
    second = between(0, length // 2 - 2)
    return first, second + (second >= first).long()  # one of those that are still unmarked


def marked_first_pair(length: int) -> tuple[float, float]:
    """Chance that the first mark (``"hochreiter"``) is on the very first pair, and the second."""
    return 1 / 10, 9 / 10 / (length // 2 - 2)
