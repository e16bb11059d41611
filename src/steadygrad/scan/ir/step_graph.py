"""Trace a cell's step to a graph of torch operations, with opaque recurrent products."""

from collections import UserDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.proxy import TraceError

from steadygrad.cells import Cell, Named

PLAIN = (5, 7)
"""The shape ``(B, H)`` in traces: sizes other than 0 and 1, and distinct, to avoid confusion."""


def product(value: Any, gate: str) -> Any:
    """Placeholder for ``recur.<gate>(value)`` in the traced graph."""
    raise RuntimeError("a recurrent product can only be called while a step is traced")


class _Units(UserDict[str, fx.Proxy]):
    """Per-unit parameters, and constants on demand.

    The names of constants are known only for a given number of units, which a trace lacks.
    """

    def __init__(
        self, cell: Cell, units: dict[str, fx.Proxy], make: Callable[[str], fx.Proxy]
    ) -> None:
        super().__init__(units)
        self._make = make
        self._has_constants = type(cell).constants is not Cell.constants

    def __missing__(self, name: str) -> fx.Proxy:
        if not self._has_constants:
            raise KeyError(name)
        self[name] = self._make(name)
        return self[name]


class _Tracer(fx.Tracer):
    """Traces a plain function, not a module."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Module()
        self.graph = fx.Graph(tracer_cls=_Tracer)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            if a.numel() == 1:
                return a.item()
            raise TraceError(
                f"it holds a tensor of shape {tuple(a.shape)} that is not an argument of the "
                "step; declare values per unit in `constants`"
            )
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        if kind == "call_method" and target.endswith("_") and not target.endswith("__"):
            raise TraceError(f"{target} changes a tensor in place; write the new value instead")
        return super().create_node(kind, target, *args, **kwargs)


def step_graph(cell: Cell) -> fx.Graph:
    """Trace ``cell.step``; every node knows the shape of its value, as ``meta["shape"]``.

    Raises:
        TypeError: As `steadygrad.scan.ir.trace.trace`.
    """
    tracer = _Tracer()

    def placeholder(prefix: str, name: str) -> fx.Proxy:
        if not name.isidentifier():
            raise TypeError(f"{type(cell).__name__}: {name!r} is not a valid attribute name")
        return tracer.create_proxy("placeholder", f"{prefix}_{name}", (), {})

    def opaque(gate: str) -> Callable[[Any], Any]:
        return lambda value: tracer.create_proxy("call_function", product, (value, gate), {})

    gates = {g: placeholder("x", g) for g in cell.gates}
    x = Named("gate", gates | {n: placeholder("n", n) for n in cell.noise})
    state = tuple(placeholder("s", s) for s in cell.states)
    units = {u: placeholder("u", u) for u in cell.per_unit}
    unit = Named("per-unit parameter", _Units(cell, units, partial(placeholder, "k")))
    recur = Named("recurrent product", {g: opaque(g) for g in cell.recurrent})
    try:
        new_state: Any = cell.step(x, recur, state, unit)  # type: ignore[arg-type]
        if not isinstance(new_state, tuple) or len(new_state) != len(cell.states):
            raise TypeError(
                f"{type(cell).__name__}.step must return a tuple of {len(cell.states)} states "
                f"({', '.join(cell.states)}), got {new_state!r}"
            )
        results = tuple(tracer.create_arg(p) for p in new_state)
    except TraceError as error:
        raise TypeError(
            f"{type(cell).__name__}.step cannot be traced: {error}. Decide on options of the cell, "
            "never on the value of a tensor (use torch.where)."
        ) from None
    graph = tracer.graph
    first = next(iter(graph.nodes))
    for index, value in enumerate(results):
        if not isinstance(value, fx.Node):  # a number for all rows and units
            made = graph.call_function(torch.full_like, (first, float(value)))
            results = (*results[:index], made, *results[index + 1 :])
    graph.output(results)
    graph.eliminate_dead_code()
    _Shapes(cell, graph).run()
    return graph


class _Shapes(fx.Interpreter):
    """Runs a step once on zeros, for the shapes."""

    def __init__(self, cell: Cell, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(torch.nn.Module(), graph))
        self._cell = cell
        self._real = {n.name: n for n in graph.nodes}

    def run(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            super().run(*self._zeros(), enable_io_processing=False)

    def _zeros(self) -> list[Tensor]:
        count = sum(n.op == "placeholder" for n in self._real.values())
        return [torch.zeros(PLAIN, dtype=torch.float64) for _ in range(count)]

    def run_node(self, n: fx.Node) -> Any:
        value = self._zeros()[0] if n.target is product else super().run_node(n)
        shape = tuple(value.shape) if isinstance(value, Tensor) else None
        self._real[n.name].meta["shape"] = shape
        if n.op == "output":
            for name, state in zip(self._cell.states, value, strict=True):
                if tuple(state.shape) not in (PLAIN, (PLAIN[0], 1), ()):
                    raise TypeError(
                        f"{type(self._cell).__name__}.step: expected the new state {name!r} of "
                        f"shape (B, H), got one of shape {tuple(state.shape)} for (B, H) = {PLAIN}"
                    )
        return value
