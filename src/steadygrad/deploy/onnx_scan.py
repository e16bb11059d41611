"""ONNX's Scan for any cell: its body is one step, exported from the cell's own equations."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.cells import Cell, Named
from steadygrad.deploy.onnx_functions import decompositions
from steadygrad.deploy.onnx_lowering import DOMAIN, NODE
from steadygrad.scan.backends.tape import products
from steadygrad.scan.ir.products import by_gate
from steadygrad.scan.operators.schema import names_of, read
from steadygrad.scan.weights import Weights

ROWS = 3  # of the example that a step is exported with


class _Step(nn.Module):
    """``(*states, projected, mask?, begins?, *weights, *start) -> (*states, h)``: one time step."""

    def __init__(self, cell: Cell, names: Sequence[str], masked: bool, reset: bool) -> None:
        super().__init__()
        self.cell, self.masked, self.reset = cell, masked, reset
        self.names = tuple(name for name in names if name != "start")

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        cell, count = self.cell, len(self.cell.states)
        state, projected = given[:count], given[count]
        rest = given[count + 1 :]
        mask, rest = (rest[0], rest[1:]) if self.masked else (None, rest)
        held = state  # what a row keeps that is not there at this step, whatever its flag
        if self.reset:
            begins, rest = rest[0], rest[1:]
            start = rest[len(self.names) :] or tuple(s.new_zeros(s.shape[1]) for s in state)
            state = tuple(torch.where(begins, a, s) for a, s in zip(start, state, strict=True))
        weights = Weights.from_flat(self.names, rest[: len(self.names)])
        size = weights.weight_ih.shape[0] // len(cell.gates)
        blocks = by_gate(cell, weights.weight_hh, size)
        biases: Any = (
            dict.fromkeys(cell.recurrent)
            if weights.bias_hh is None
            else by_gate(cell, weights.bias_hh, size)
        )
        x_t = dict(zip(cell.gates, projected.split(size, 1), strict=True))
        rows = state[0].shape[0]
        units = dict(zip(cell.per_unit, weights.per_unit, strict=True)) | dict(weights.constants)
        new = list(
            cell.step(
                Named("gate", x_t | {n: v.expand(rows, size) for n, v in weights.noise.items()}),
                Named("recurrent product", products(cell, blocks, biases, None)),
                state,
                Named("per-unit parameter", {n: v.expand(rows, size) for n, v in units.items()}),
            )
        )
        if weights.weight_hr is not None:
            new[0] = F.linear(new[0], weights.weight_hr)
        if mask is not None:
            new = [torch.where(mask, n, s) for n, s in zip(new, held, strict=True)]
        # An output must be a value of its own: ONNX has no graph that hands an input through.
        return *(n.clone() for n in new), new[0].clone()


def fill(model: ir.Model, opset: int) -> int:
    """Put a Scan in the place of each node that `onnx_lowering` left; return how many."""
    nodes = [n for n in model.graph if n.domain == DOMAIN and n.op_type == NODE]
    for number, node in enumerate(nodes):
        _fill(model.graph, node, f"step{number}.", opset)
    model.graph.opset_imports.pop(DOMAIN, None)
    return len(nodes)


def _fill(graph: ir.Graph, node: ir.Node, prefix: str, opset: int) -> None:
    attributes = node.attributes
    cell = read(attributes["cell"].as_string())[0]
    names = names_of(attributes["names"].as_string())
    masked, reset, reverse = (attributes[n].as_int() for n in ("masked", "reset", "reverse"))
    count, inputs = len(cell.states), 1 + masked + reset
    scanned, others = node.inputs[:inputs], node.inputs[inputs:]
    weights, states = others[: len(others) - count], others[len(others) - count :]
    own = [name for name in names[1 : len(names) - count] if name != "resets"]
    body = _body(_Step(cell, own, bool(masked), bool(reset)), node, opset)
    for value, outer in zip(body.inputs[count + inputs :], weights, strict=True):
        assert outer is not None
        # A body may read the values of the graph around it.
        ir.convenience.replace_all_uses_with(value, outer)
    del body.inputs[count + inputs :]
    for part in body:
        part.name = prefix + (part.name or "")
        for value in part.outputs:
            value.name = prefix + (value.name or "")
    for value in (*body.inputs, *body.initializers.values()):
        value.name = prefix + (value.name or "")
    scan = ir.Node(
        "",
        "Scan",
        [*states, *scanned],
        [
            ir.AttrGraph("body", body),
            ir.AttrInt64("num_scan_inputs", inputs),
            ir.AttrInt64s("scan_input_directions", [reverse] * inputs),
            ir.AttrInt64s("scan_output_directions", [reverse]),
        ],
        num_outputs=count + 1,
        name=f"{prefix}scan",
    )
    hidden, *final = node.outputs
    for old, new in zip((*final, hidden), scan.outputs, strict=True):
        new.shape, new.type, new.name = old.shape, old.type, old.name
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [scan], [*final, hidden], list(scan.outputs)
    )


def _body(step: _Step, node: ir.Node, opset: int) -> ir.Graph:
    """The graph of one step, with the weights as inputs of their own."""
    count, flags = len(step.cell.states), step.masked + step.reset
    shapes = [[int(n) for n in v.shape] for v in node.inputs[1 + flags : -count] if v is not None]  # type: ignore[union-attr]
    widths = [int(v.shape[1]) for v in node.inputs[-count:] if v is not None]  # type: ignore[union-attr, index]
    weights = [torch.zeros(shape) for shape in shapes]
    gates = weights[0].shape[0]
    example = [torch.zeros(ROWS, width) for width in widths]
    example += [torch.zeros(ROWS, gates)]
    # Each a tensor of its own: of one given twice, the export makes one input.
    example += [torch.ones(ROWS, 1, dtype=torch.bool) for _ in range(flags)]
    rows = torch.export.Dim("batch", min=1)
    shared: list[Any] = [{0: rows}] * len(example) + [{}] * len(weights)
    program = torch.export.export(
        step.eval(), (*example, *weights), dynamic_shapes={"given": tuple(shared)}
    )
    program = program.run_decompositions(decompositions())
    made = torch.onnx.export(program, opset_version=opset, verbose=False, optimize=True)
    assert made is not None
    graph = made.model.graph
    if made.model.functions:
        raise RuntimeError(f"a step of {type(step.cell).__name__} needs functions of its own")
    return graph
