"""The rows of R of a recurrent product, and whether its gradient is shared."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.ir.program import Product, Program
from steadygrad.scan.weights import Weights


def by_gate(cell: Cell, stacked: Tensor, size: int) -> dict[str, Tensor]:
    """Row blocks of ``weight_hh`` or ``bias_hh`` by name; none for a cell without products."""
    # torch.chunk would return one empty part for a matrix without rows.
    return dict(zip(cell.recurrent, stacked.split(size)[: len(cell.recurrent)], strict=True))


def blocks(cell: Cell, weights: Weights, item: Product, size: int) -> tuple[Tensor, Tensor | None]:
    """Rows of R, ``(g*H, P)``, and of its bias, that one product multiplies by."""
    matrix, bias = weights.weight_hh, weights.bias_hh
    return (
        rows_of(cell, matrix, item, size),
        None if bias is None else rows_of(cell, bias, item, size),
    )


def rows_of(cell: Cell, stacked: Tensor, item: Product, size: int) -> Tensor:
    """Rows of ``weight_hh`` or ``bias_hh`` that one product reads, as a view or a copy."""
    first = first_gate(cell, item)
    if first is not None:
        return stacked[first * size : (first + len(item.gates)) * size]
    found = by_gate(cell, stacked, size)
    return torch.cat([found[gate] for gate in item.gates])


def fills(cell: Cell, items: Sequence[Product]) -> bool:
    """Whether the rows of all products, in order, are those of ``weight_hh``, each once."""
    gates = [gate for item in items for gate in item.gates]
    return sorted(gates) == sorted(cell.recurrent) and all(
        first_gate(cell, item) is not None for item in items
    )


def first_gate(cell: Cell, item: Product) -> int | None:
    """Index of a product's first row block in ``weight_hh``, if its blocks are adjacent."""
    first = cell.recurrent.index(item.gates[0])
    return first if cell.recurrent[first : first + len(item.gates)] == item.gates else None


def shares(cell: Cell, program: Program, item: Product) -> bool:
    """Whether every gate of ``item`` is only added to its projected input.

    Its gradient is then that of the projected input, and they share one buffer.
    """
    twin: dict[str, str] = {}
    for stage in program.stages:
        if stage:
            for name, first in zip(stage.inputs, stage.twins, strict=True):
                twin[name] = stage.inputs[first] if name not in twin else ""
    pairs = zip(item.outputs, (f"x.{gate}" for gate in cell.gates), strict=False)
    return item.gates == cell.gates and all(
        twin.get(o) and twin[o] == twin.get(w) for o, w in pairs
    )
