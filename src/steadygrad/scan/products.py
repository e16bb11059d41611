"""What a recurrent product needs: its rows of R, and whether its gradient is shared."""

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.program import Product, Program
from steadygrad.scan.weights import Weights


def by_gate(cell: Cell, stacked: Tensor, size: int) -> dict[str, Tensor]:
    """Row blocks of ``weight_hh`` or ``bias_hh`` by name; none for a cell without products."""
    # Torch cuts a matrix of no rows into one part, of no rows.
    return dict(zip(cell.recurrent, stacked.split(size)[: len(cell.recurrent)], strict=True))


def blocks(cell: Cell, weights: Weights, item: Product, size: int) -> tuple[Tensor, Tensor | None]:
    """Rows of R, ``(g*H, P)``, and of its bias, that one product multiplies by."""
    matrix, bias = weights.weight_hh, weights.bias_hh
    if item.gates != cell.recurrent:
        rows = by_gate(cell, matrix, size)
        matrix = torch.cat([rows[gate] for gate in item.gates])
        if bias is not None:
            rows = by_gate(cell, bias, size)
            bias = torch.cat([rows[gate] for gate in item.gates])
    return matrix, bias


def shares(cell: Cell, program: Program, item: Product) -> bool:
    """Whether every gate of ``item`` is simply added to its projected input.

    Its gradient is then the very one of the projected input, and one buffer serves both.
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
