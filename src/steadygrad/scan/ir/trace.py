"""Trace a cell's step once into products and the pointwise stages between them.

The step is traced with opaque recurrent products. Cutting the graph at the products gives *stages*
of pointwise work (and reductions over the last axis); products that share an argument become one
matrix product. The vector-Jacobian product of each stage is traced too, and split; see
`steadygrad.scan.ir.vjp`. The result does not depend on time, batch or dtype.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import fx

from steadygrad.cells import Cell
from steadygrad.scan.clean_context import cleanly
from steadygrad.scan.ir.activations import activations
from steadygrad.scan.ir.program import Product, Program, Stage
from steadygrad.scan.ir.step_graph import PLAIN, product, step_graph
from steadygrad.scan.ir.vjp import stage_of


@lru_cache(maxsize=256)
def trace(cell: Cell) -> Program:
    """Trace ``cell.step`` into a `Program`; cached, as cells are frozen.

    Raises:
        TypeError: The step does something a symbolic trace cannot follow, such as deciding on a
            tensor's value; the message names the cell.
    """
    # The first call with a cell may be made under a mode or a transform, which must not see this:
    # the cached result has to hold outside of it.
    return cleanly(_program, cell)


def _program(cell: Cell) -> Program:
    graph = step_graph(cell)
    _copy_arguments(graph)
    levels = _levels(graph)
    depth = max(levels.values())
    products = [_group(cell, graph, levels, level) for level in range(depth)]
    results = _own_results(cell, graph, levels, depth)
    arguments = {n for n in graph.nodes if any(u.target is product for u in n.users)}
    wanted = {n for n in (*results, *arguments) if n.op != "placeholder"}
    stages: list[Stage | None] = []
    for level in reversed(range(depth + 1)):
        made = [n for n in graph.nodes if n in wanted and levels[n] == level]
        inside, inputs = _closure(graph, made, levels, level)
        wanted.update(i for i in inputs if i.op != "placeholder" and i.target is not product)
        stages.append(stage_of(inside, inputs, made) if made else None)
    renames = _public_names(graph)
    return Program(
        tuple(s and _rename(s, renames) for s in reversed(stages)),
        tuple(tuple(_rename_product(p, renames) for p in level) for level in products),
        tuple(r.name for r in results),
        activations(cell, graph),
        graph,
    )


def _copy_arguments(graph: fx.Graph) -> None:
    """Make every product's argument a state or an output of a stage, by copying if necessary."""
    for node in list(graph.nodes):
        if node.target is not product:
            continue
        value = node.args[0]
        assert isinstance(value, fx.Node)
        is_state = value.op == "placeholder" and str(value.target).startswith("s_")
        is_made = value.op != "placeholder" and value.target is not product
        if is_state or (is_made and value.meta["shape"] == PLAIN):
            continue
        with graph.inserting_after(value):
            copy = _wide(graph, value)
        node.args = (copy, node.args[1])


def _wide(graph: fx.Graph, value: fx.Node) -> fx.Node:
    """A copy of a value, expanded to one number per unit."""
    made = (
        graph.call_function(torch.clone, (value,))
        if value.meta["shape"] == PLAIN
        else graph.call_method("expand_as", (value, next(iter(graph.nodes))))
    )
    made.meta["shape"] = PLAIN
    return made


def _levels(graph: fx.Graph) -> dict[fx.Node, int]:
    """The number of products in sequence before each node."""
    levels: dict[fx.Node, int] = {}
    for node in graph.nodes:
        below = max((levels[i] for i in node.all_input_nodes), default=0)
        levels[node] = below + (node.target is product)
    return levels


def _own_results(
    cell: Cell, graph: fx.Graph, levels: dict[fx.Node, int], depth: int
) -> list[fx.Node]:
    """The new states, each a separate output of the last stage.

    A state that is passed on, computed earlier, or equal to another is copied there.
    """
    (output,) = (n for n in graph.nodes if n.op == "output")
    results: list[fx.Node] = []
    for node in output.args[0]:
        is_made = node.op != "placeholder" and node.target is not product
        if not (is_made and levels[node] == depth and node.meta["shape"] == PLAIN) or (
            node in results
        ):
            with graph.inserting_before(output):
                node = _wide(graph, node)
            levels[node] = depth
        results.append(node)
    output.args = (tuple(results),)
    return results


def _closure(
    graph: fx.Graph, made: list[fx.Node], levels: dict[fx.Node, int], level: int
) -> tuple[list[fx.Node], list[fx.Node]]:
    """The nodes to compute at a level for its outputs, and the values that it reads.

    Only values ``(B, H)`` pass between levels: a mean over units, a size or a dtype is recomputed
    where it is read.
    """
    inside: set[fx.Node] = set()
    inputs: dict[fx.Node, None] = {}
    frontier = list(made)
    while frontier:
        node = frontier.pop()
        if node in inside or node in inputs:
            continue
        is_given = node.op == "placeholder" or node.target is product
        if is_given or (levels[node] < level and node.meta["shape"] == PLAIN):
            inputs[node] = None
        else:
            inside.add(node)
            frontier += node.all_input_nodes
    order = {node: i for i, node in enumerate(graph.nodes)}
    return sorted(inside, key=order.__getitem__), sorted(inputs, key=order.__getitem__)


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


def _public_names(graph: fx.Graph) -> dict[str, str]:
    """Rename ``x_input`` to ``x.input``, a name that no intermediate value can have."""
    return {
        n.name: str(n.target).replace("_", ".", 1) for n in graph.nodes if n.op == "placeholder"
    }


def _rename(stage: Stage, names: dict[str, str]) -> Stage:
    return replace(stage, inputs=tuple(names.get(i, i) for i in stage.inputs))


def _rename_product(item: Product, names: dict[str, str]) -> Product:
    return Product(names.get(item.argument, item.argument), item.gates, item.outputs)
