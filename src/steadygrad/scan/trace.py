"""A cell's step, traced once: where it waits for a product, and what is pointwise in between.

The step is traced with the recurrent products opaque. Cutting the graph at the products leaves
*stages* of pointwise work (and reductions over the last axis); products of one argument become
one matrix product. Of each stage the vector-Jacobian product is traced too, and split: what does
not depend on the incoming gradient is evaluated for all time steps at once, only the rest stays
in the sequential loop. Nothing here knows of time, batch or dtype.
"""

from collections import UserDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.proxy import TraceError

from steadygrad.cells import Cell, Named

Values = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Stage:
    """Pointwise work between two products.

    Attributes:
        inputs: Names of the values it reads.
        outputs: Names of the values it makes.
        forward: ``(*inputs) -> outputs``.
        prepare: ``(*inputs) -> saved``, the part of the vjp that needs no incoming gradient; it
            holds for any number of rows at once.
        backward: ``(*saved, *grad_outputs) -> grad_inputs``.
        twins: For each input the index of the first input with the very same gradient: where a
            projected input and a product are simply added, the two share one buffer.
        joint: ``(*inputs) -> (*outputs, *saved)`` as a graph.
        loop: The graph of `backward`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    forward: Values
    prepare: Values
    backward: Values
    twins: tuple[int, ...]
    joint: fx.Graph
    loop: fx.Graph


@dataclass(frozen=True)
class Product:
    """One matrix product inside the step: ``R[gates] argument + b_hh[gates]``.

    Attributes:
        argument: Name of the value that is multiplied.
        gates: Names of the row blocks of ``weight_hh``, in the order of the weight's rows.
        outputs: One value name per gate.
    """

    argument: str
    gates: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A step as an alternation: stage 0, products 0, stage 1, products 1, ..., last stage.

    Value names: ``x.<gate>``, ``n.<noise>``, ``s.<state>``, ``u.<unit>``, ``k.<constant>``;
    anything else is intermediate.

    Attributes:
        stages: One entry a level; None where a level has no pointwise work.
        products: Products whose arguments level ``i`` completes.
        results: Names of the new states, in the order of `Cell.states`.
        activations: ``gate -> (activation, value name of its argument)``, for gate health.
        graph: The whole step, the source of the above.
    """

    stages: tuple[Stage | None, ...]
    products: tuple[tuple[Product, ...], ...]
    results: tuple[str, ...]
    activations: dict[str, tuple[str, str]]
    graph: fx.Graph


def product(value: Any, gate: str) -> Any:
    """Stand in the traced graph for ``recur.<gate>(value)``."""
    raise RuntimeError("a recurrent product stands for itself only while a step is traced")


@lru_cache(maxsize=256)
def trace(cell: Cell) -> Program:
    """Trace ``cell.step`` into a `Program`; cached, cells being frozen.

    Raises:
        TypeError: The step does something a symbolic trace cannot follow, such as deciding on a
            tensor's value; the message names the cell.
    """
    graph = _trace_step(cell)
    levels = _levels(graph)
    depth = max(levels.values())
    (output,) = (n for n in graph.nodes if n.op == "output")
    results: list[str] = [n.name for n in output.args[0]]
    products = [_group(cell, graph, levels, level) for level in range(depth)]
    products_args = {p.argument for level in products for p in level}
    stages: list[Stage | None] = []
    for level in range(depth + 1):
        inside = [
            n
            for n in graph.nodes
            if n.op in ("call_function", "call_method", "get_attr")
            and n.target is not product
            and levels[n] == level
        ]
        wanted = [
            n
            for n in inside
            if n.name in products_args
            or n.name in results
            or any(
                u not in inside and u.op != "output" and u.target is not product for u in n.users
            )
        ]
        stages.append(_stage(inside, wanted) if wanted else None)
    renames = _public_names(graph)
    return Program(
        tuple(s and _rename(s, renames) for s in stages),
        tuple(tuple(_rename_product(p, renames) for p in level) for level in products),
        tuple(renames.get(r, r) for r in results),
        _activations(cell, graph),
        graph,
    )


class _Units(UserDict[str, fx.Proxy]):
    """Per-unit parameters, and constants as they are asked for.

    The names of constants are known only for a number of units, and a trace has none.
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
    """Traces a function of proxies; there is no module to descend into."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Module()
        self.graph = fx.Graph(tracer_cls=_Tracer)


def _trace_step(cell: Cell) -> fx.Graph:
    tracer = _Tracer()

    def placeholder(prefix: str, name: str) -> fx.Proxy:
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
    except TraceError as error:
        raise TypeError(
            f"{type(cell).__name__}.step cannot be traced: {error}. Decide on options of the cell, "
            "never on the value of a tensor (use torch.where)."
        ) from None
    if not isinstance(new_state, tuple) or len(new_state) != len(cell.states):
        raise TypeError(
            f"{type(cell).__name__}.step must return a tuple of {len(cell.states)} states "
            f"({', '.join(cell.states)}), got {new_state!r}"
        )
    tracer.create_node("output", "output", (tuple(p.node for p in new_state),), {})
    tracer.graph.eliminate_dead_code()
    return tracer.graph


def _levels(graph: fx.Graph) -> dict[fx.Node, int]:
    """How many products stand, one behind the other, before each node."""
    levels: dict[fx.Node, int] = {}
    for node in graph.nodes:
        below = max((levels[i] for i in node.all_input_nodes), default=0)
        levels[node] = below + (node.target is product)
    return levels


def _group(
    cell: Cell, graph: fx.Graph, levels: dict[fx.Node, int], level: int
) -> tuple[Product, ...]:
    """Join the products that share an argument, in the order of the weight's rows."""
    calls: dict[fx.Node, dict[str, fx.Node]] = {}
    for node in graph.nodes:
        if node.target is product and levels[node] == level + 1:
            value, gate = node.args[0], node.args[1]
            assert isinstance(value, fx.Node) and isinstance(gate, str)
            if gate in calls.setdefault(value, {}):
                node.replace_all_uses_with(calls[value][gate])
            else:
                calls[value][gate] = node
    return tuple(
        Product(
            value.name,
            tuple(g for g in cell.recurrent if g in by_gate),
            tuple(by_gate[g].name for g in cell.recurrent if g in by_gate),
        )
        for value, by_gate in calls.items()
    )


def _stage(inside: Sequence[fx.Node], wanted: Sequence[fx.Node]) -> Stage:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    inputs = list(dict.fromkeys(i for n in inside for i in n.all_input_nodes if i not in inside))
    for node in inputs:
        copies[node] = graph.placeholder(node.name)
    for node in inside:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[n] for n in wanted))
    forward = fx.GraphModule(torch.nn.Module(), graph)
    joint, loop, twins = _split_vjp(forward, len(inputs), len(wanted))
    prepare = fx.Graph()
    saved = prepare.graph_copy(joint, {})
    assert isinstance(saved, tuple)
    prepare.output(saved[len(wanted) :])
    prepare.eliminate_dead_code()
    return Stage(
        tuple(n.name for n in inputs),
        tuple(n.name for n in wanted),
        forward.forward,
        _callable(prepare),
        _callable(loop),
        twins,
        joint,
        loop,
    )


def _callable(graph: fx.Graph) -> Values:
    return fx.GraphModule(torch.nn.Module(), graph).forward


def _split_vjp(
    forward: fx.GraphModule, num_inputs: int, num_outputs: int
) -> tuple[fx.Graph, fx.Graph, tuple[int, ...]]:
    """Trace a stage with its vjp, and cut that at the incoming gradient."""

    def both(*args: Tensor) -> tuple[Tensor, ...]:
        out, pull = torch.func.vjp(forward, *args[:num_inputs])[:2]
        return (*out, *pull(tuple(args[num_inputs:])))

    # Sizes differ from 0, 1 and from each other, so that none is taken for a constant.
    example = [torch.zeros(5, 7, dtype=torch.float64) for _ in range(num_inputs + num_outputs)]
    # In a thread of its own: whatever modes and hooks the caller is under, such as those of
    # torch.utils.checkpoint, are not meant for the trace, and some forbid it.
    with ThreadPoolExecutor(1) as apart:
        traced = apart.submit(make_fx(both, tracing_mode="symbolic"), *example).result().graph
    traced.eliminate_dead_code()
    placeholders = [n for n in traced.nodes if n.op == "placeholder"]
    incoming = placeholders[num_inputs:]
    late: set[fx.Node] = set(incoming)
    for node in traced.nodes:
        if node.op == "call_function" and any(i in late for i in node.all_input_nodes):
            late.add(node)
    (output,) = (n for n in traced.nodes if n.op == "output")
    outs, grads = list(output.args[0][:num_outputs]), list(output.args[0][num_outputs:])
    crossing = [
        n
        for n in traced.nodes
        if n not in late
        and n.op != "output"
        and (any(u in late for u in n.users) or n in grads)
        and not _is_rows(n)
    ]
    joint = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.nodes:
        if node.op == "placeholder" and node not in late:
            copies[node] = joint.placeholder(node.name)
        elif node.op != "output" and node not in late:
            copies[node] = joint.node_copy(node, copies.__getitem__)
    joint.output(tuple(copies[n] for n in (*outs, *crossing)))
    joint.eliminate_dead_code()

    loop = fx.Graph()
    copies = {n: loop.placeholder(n.name) for n in (*crossing, *incoming)}
    for node in traced.nodes:
        if _is_rows(node):  # the number of rows is the loop's, not that of all steps together
            copies[node] = loop.call_function(torch.ops.aten.sym_size.int, (copies[incoming[0]], 0))
        elif node in late and node.op == "call_function":
            copies[node] = loop.node_copy(node, copies.__getitem__)
    loop.output(tuple(copies[n] for n in grads))
    loop.eliminate_dead_code()
    return joint, loop, tuple(grads.index(g) for g in grads)


def _is_rows(node: fx.Node) -> bool:
    return node.target is torch.ops.aten.sym_size.int and int(str(node.args[1])) == 0


ACTIVATIONS = {
    torch.sigmoid: "sigmoid",
    "sigmoid": "sigmoid",
    torch.tanh: "tanh",
    "tanh": "tanh",
    torch.relu: "relu",
    "relu": "relu",
}


def _activations(cell: Cell, graph: fx.Graph) -> dict[str, tuple[str, str]]:
    """Find, for each gate, the first activation on the way from its projected input."""
    found: dict[str, tuple[str, str]] = {}
    for gate in cell.gates:
        frontier = [n for n in graph.nodes if n.op == "placeholder" and n.target == f"x_{gate}"]
        for node in frontier:
            for user in node.users:
                if user.target in ACTIVATIONS:
                    argument = user.args[0]
                    assert isinstance(argument, fx.Node)
                    found.setdefault(gate, (ACTIVATIONS[user.target], argument.name))
                elif user.op != "output" and user not in frontier:
                    frontier.append(user)
    return found


def _public_names(graph: fx.Graph) -> dict[str, str]:
    """``x_input`` -> ``x.input``: names that no intermediate value can have."""
    return {
        n.name: str(n.target).replace("_", ".", 1) for n in graph.nodes if n.op == "placeholder"
    }


def _rename(stage: Stage, names: dict[str, str]) -> Stage:
    return replace(stage, inputs=tuple(names.get(i, i) for i in stage.inputs))


def _rename_product(item: Product, names: dict[str, str]) -> Product:
    return Product(names.get(item.argument, item.argument), item.gates, item.outputs)
