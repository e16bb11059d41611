"""Where a product's gradient is the very one of the projected input, one buffer serves both."""

from steadygrad.cells import Cell
from steadygrad.scan.trace import Product, Program


def shares(cell: Cell, program: Program, item: Product) -> bool:
    """Whether every gate of ``item`` is simply added to its projected input."""
    twin: dict[str, str] = {}
    for stage in program.stages:
        if stage:
            for name, first in zip(stage.inputs, stage.twins, strict=True):
                twin[name] = stage.inputs[first] if name not in twin else ""
    pairs = zip(item.outputs, (f"x.{gate}" for gate in cell.gates), strict=False)
    return item.gates == cell.gates and all(
        twin.get(o) and twin[o] == twin.get(w) for o, w in pairs
    )
