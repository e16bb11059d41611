"""Clips in the backward kernel, printed as one phase or two."""

from collections.abc import Sequence

from steadygrad.scan.backends.triton.printer.blocks import store, units

Part = tuple[str, int]
"""Pointers ``(rows, 1)`` and a number of features."""


def factor(parts: Sequence[Part]) -> list[str]:
    """Lines that find ``factor``, by which rows have to be multiplied; a row is all parts."""
    return [
        "top = tl.zeros((BM, 1), DT)",
        *(f"top = tl.maximum(top, row_top({p}, live, {n}, BN, DT))" for p, n in parts),
        "unit_size = size_of(top)",
        "total = tl.zeros((BM, 1), DT)",
        *(f"total += row_squares({p}, live, unit_size, {n}, BN, DT)" for p, n in parts),
        "factor = shrink(unit_size * tl.sqrt(total), tl.load(bound))",
    ]


def clipped(value: str, by: str) -> str:
    """Expression of a clipped value; by norm, ``factor`` has to be there."""
    return f"within({value}, tl.load(bound))" if by == "value" else f"{value} * factor"


def clip_phase(parts: Sequence[tuple[str, str, int]], by: str) -> list[str]:
    """Clip a row of several parts: where from, where to, features."""
    lines = [] if by == "value" else factor([(source, n) for source, _, n in parts])
    for source, to, n in parts:
        value = f"tl.load({source} + u[None, :], mask=m, other=0.0)"
        lines += units(n, "BN", [store(to, clipped(value, by))])
    return lines
