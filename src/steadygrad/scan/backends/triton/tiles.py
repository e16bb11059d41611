"""Sizes of the blocks that a kernel works in."""

from dataclasses import dataclass

from steadygrad.scan.backends.triton.form import Form


@dataclass(frozen=True)
class Tiles:
    """Sizes of blocks, all powers of two.

    Attributes:
        rows: Rows of the batch that one program runs.
        units: Units computed at once.
        terms: Terms of a matrix product added at once.
        warps: Groups of 32 threads of a program.
    """

    rows: int
    units: int
    terms: int
    warps: int


def power_above(n: int) -> int:
    """The smallest power of two that is at least ``n`` and 16, the least that `tl.dot` takes."""
    return max(16, 1 << (n - 1).bit_length())


CANDIDATES = (Tiles(16, 32, 32, 8), Tiles(16, 32, 32, 4), Tiles(16, 16, 32, 8))
"""Sizes to try on a device, best first."""


def interpreted(form: Form, batch: int) -> Tiles:
    """Large blocks: the interpreter takes as long for a small one."""
    rows, units = power_above(batch), power_above(form.stride)
    return Tiles(min(rows, 64), min(units, 128), min(units, 128), 4)
