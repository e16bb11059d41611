"""Trace a stage and its vector-Jacobian product, split at the incoming gradient.

The part that does not depend on the incoming gradient is evaluated for all time steps at once (or
saved in the forward pass); only the rest remains in the sequential loop.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from steadygrad.scan.ir.decompose import as_real, simplified, unknown
from steadygrad.scan.ir.operations import to_real
from steadygrad.scan.ir.program import Stage, Values
from steadygrad.scan.ir.record import NotSimple, record
from steadygrad.scan.ir.step_graph import PLAIN

SIZE = torch.ops.aten.sym_size.int


def stage_of(
    inside: Sequence[fx.Node], inputs: Sequence[fx.Node], made: Sequence[fx.Node]
) -> Stage:
    """Build a stage.

    Args:
        inside: Its nodes, in order.
        inputs: The values it reads.
        made: Its outputs.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in inside:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[n] for n in made))
    forward = fx.GraphModule(torch.nn.Module(), graph)
    joint, loop, twins = _split_vjp(forward, len(inputs), len(made))
    prepare = fx.Graph()
    saved = prepare.graph_copy(joint, {})
    assert isinstance(saved, tuple)
    prepare.output(saved[len(made) :])
    prepare.eliminate_dead_code()
    return Stage(
        tuple(n.name for n in inputs),
        tuple(n.name for n in made),
        forward.forward,
        _callable(prepare),
        _callable(loop),
        twins,
        joint,
        loop,
    )


def _callable(graph: fx.Graph) -> Values:
    return fx.GraphModule(torch.nn.Module(), graph).forward


def _traced(forward: fx.GraphModule, num_inputs: int, num_outputs: int) -> fx.Graph:
    """``(*inputs, *grad_outputs) -> (*outputs, *grad_inputs)`` in torch's own operations.

    Operations outside our tables are decomposed, if that leaves nothing unknown.
    """
    try:
        graph = record(forward.forward, num_inputs, num_outputs)
    except NotSimple:
        return _traced_by_torch(forward, num_inputs, num_outputs)
    return graph if not unknown(graph) else _traced_by_torch(forward, num_inputs, num_outputs)


def _traced_by_torch(forward: fx.GraphModule, num_inputs: int, num_outputs: int) -> fx.Graph:
    """The same by torch's tracer, with symbolic sizes and decompositions."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def both(*args: Tensor) -> tuple[Tensor, ...]:
        # Not the module itself, which would call a user's global module hooks.
        out, pull = torch.func.vjp(forward.forward, *args[:num_inputs])[:2]
        return (*out, *pull(tuple(args[num_inputs:])))

    pure = torch.func.functionalize(both)
    example = [torch.zeros(PLAIN, dtype=torch.float64) for _ in range(num_inputs + num_outputs)]

    def made(taken_apart: bool) -> fx.Graph:
        graph = make_fx(
            pure,
            tracing_mode="symbolic",
            decomposition_table=simplified() if taken_apart else None,
        )(*example).graph
        graph.eliminate_dead_code()
        return graph

    graph = made(False)
    if unknown(graph):
        simpler = made(True)
        graph = graph if unknown(simpler) else simpler
    return graph


def _split_vjp(
    forward: fx.GraphModule, num_inputs: int, num_outputs: int
) -> tuple[fx.Graph, fx.Graph, tuple[int, ...]]:
    """Trace a stage with its vjp, and split that at the incoming gradient."""
    traced = _traced(forward, num_inputs, num_outputs)
    placeholders = [n for n in traced.nodes if n.op == "placeholder"]
    as_real(traced, placeholders[0])
    incoming = placeholders[num_inputs:]
    # `late` needs an incoming gradient and stays in the loop; `crossing` is what it reads of the
    # rest
    late: set[fx.Node] = set(incoming)
    for node in traced.nodes:
        if node.op == "call_function" and any(i in late for i in node.all_input_nodes):
            late.add(node)
    free = _free(traced)
    (output,) = (n for n in traced.nodes if n.op == "output")
    outs, grads = list(output.args[0][:num_outputs]), list(output.args[0][num_outputs:])
    crossing = [
        n
        for n in traced.nodes
        if n not in late and n not in free and n.op != "output" and any(u in late for u in n.users)
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
    loop = _loop(traced, crossing, incoming, late, free, grads)
    # A gradient independent of the incoming ones is zero, and not a twin of another.
    twins = tuple(grads.index(g) if g in late else i for i, g in enumerate(grads))
    return joint, loop, twins


def _free(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on sizes and numbers alone, which can be recomputed anywhere."""
    free: set[fx.Node] = set()
    for node in graph.nodes:
        # the second argument of `to_real` only gives the dtype
        read = node.all_input_nodes[:1] if node.target is to_real else node.all_input_nodes
        if node.op == "call_function" and (node.target is SIZE or all(i in free for i in read)):
            free.add(node)
    return free


def _loop(
    traced: fx.Graph,
    crossing: Sequence[fx.Node],
    incoming: Sequence[fx.Node],
    late: set[fx.Node],
    free: set[fx.Node],
    grads: Sequence[fx.Node],
) -> fx.Graph:
    inside = late | free
    loop = fx.Graph()
    copies = {n: loop.placeholder(n.name) for n in (*crossing, *incoming)}
    like = copies[incoming[0]]
    for node in traced.nodes:
        if node.op != "call_function" or node not in inside:
            continue
        if node.target is SIZE:  # the number of rows is that of the loop's step, not of all steps
            copies[node] = loop.call_function(SIZE, (like, node.args[1]))
        elif node.target is to_real:
            value = node.args[0]
            assert isinstance(value, fx.Node)
            copies[node] = loop.call_function(to_real, (copies[value], like))
        else:
            copies[node] = loop.node_copy(node, copies.__getitem__)
    zero = None
    for grad in grads:
        if grad not in late:  # the vjp is linear: a result without an incoming gradient is zero
            zero = zero or loop.call_function(torch.ops.aten.zeros_like.default, (like,))
            copies[grad] = zero
    loop.output(tuple(copies[n] for n in grads))
    loop.eliminate_dead_code()
    return loop
