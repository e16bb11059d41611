"""Sequences of numbers of which two are marked, for the adding and multiplication problems."""

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
    r"""Draw sequences of numbers with two marks, and return the marked numbers.

    Args:
        length: Minimum number of steps; up to a tenth more for all marks but ``"halves"``.
        marks: Places of the two marks, and how the ends are marked; see `Adding`.
        size: Sequences, ``B``.
        generator: Source of randomness.
        neutral: Replaces the first number if the very first pair is marked (``"hochreiter"``),
            where the marker -1 hides the mark.
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
    # a closed interval in the paper of 1997, half open in later ones
    most = length // 10 + (marks == "hochreiter")
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
    return first, second + (second >= first).long()  # among the unmarked ones


def marked_first_pair(length: int) -> tuple[float, float]:
    """Chance that the first mark (``"hochreiter"``) is on the very first pair, and the second."""
    return 1 / 10, 9 / 10 / (length // 2 - 2)
