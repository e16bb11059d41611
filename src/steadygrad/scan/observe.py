"""Observe the inside of a step: the pre-activations of all gates, for all time steps at once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from steadygrad.scan.backends import eager
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.step_graph import product
from steadygrad.scan.ir.trace import trace


@dataclass(frozen=True)
class Observed:
    """The inside of a forward pass.

    Attributes:
        hidden: h after every step, ``(N, P)``.
        preactivations: Per gate the name of its activation and its argument, ``(N, H)``.
        states: Per state its value before every step, ``(N, ·)``.
    """

    hidden: Tensor
    preactivations: dict[str, tuple[str, Tensor]]
    states: dict[str, Tensor]


@torch.no_grad()
def observe(call: ScanCall) -> Observed:
    """Run a call over rows ``(N, I)`` and read every gate's pre-activation."""
    cell, x = call.cell, call.x
    done = eager.run(call, keep=True)
    saved = done.saved.tensors
    beside = {name: value.expand(len(x), call.size) for name, value in call.per_step().items()}
    program = trace(cell)
    # A gate may depend on values that no backward pass needs, such as a state.
    known = _Known(program.graph, saved | beside)
    found = {
        gate: (activation, known.value(name))
        for gate, (activation, name) in program.activations.items()
    }
    states = {s: saved[f"s.{s}"] for s in cell.states if f"s.{s}" in saved}
    return Observed(done.hidden, found, states)


class _Known:
    """Values of a traced step, evaluated on demand for all rows at once.

    Products are not recomputed: their results were saved in the forward pass.
    """

    def __init__(self, graph: fx.Graph, saved: dict[str, Tensor]) -> None:
        self.nodes = {node.name: node for node in graph.nodes}
        self.values: dict[str, Tensor] = {}
        for node in graph.nodes:
            public = str(node.target).replace("_", ".", 1) if node.op == "placeholder" else None
            kept = saved.get(public or node.name)
            if kept is not None:
                self.values[node.name] = kept

    def value(self, name: str) -> Any:
        if name not in self.values:
            node = self.nodes[name]
            assert node.op in ("call_function", "call_method") and node.target is not product
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.value(n.name))
            if node.op == "call_method":
                method: Any = getattr(args[0], str(node.target))
                self.values[name] = method(*args[1:], **kwargs)
            else:
                function: Any = node.target
                self.values[name] = function(*args, **kwargs)
        return self.values[name]
