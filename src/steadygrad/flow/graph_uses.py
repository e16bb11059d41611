"""How a loss uses the parameters: loops that no layer shows, and tensors that no model knows.

Read from the autograd graph, by the names and the edges of its nodes; no values are looked at, and
it works after the backward pass, too.

A parameter that is used again and again along one path through the graph is that of a recurrence.
Where the layer is one of torch's or ours, it is measured; where the loop is written by hand
(``h = torch.tanh(self.i2h(torch.cat([x, h], 1)))``), nothing sees its states unless they are
marked. Along one path: a head that is applied at every step is used as often, but next to itself.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from steadygrad.flow.foreign import foreign_functions
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.wiring import held_plainly
from steadygrad.nn.layer_view import layers_in

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "graph_uses",
            "times",
            "How often a loss uses each parameter one after the other, in loops written by hand.",
        )
    ),
)

NEAR = 256  # nodes that are looked through for the nearest parameters
MOST = 100_000  # nodes: of more, finding out would cost too much
_LEAF = "AccumulateGrad"


@final
@dataclass(frozen=True)
class GraphUses:
    """What the graph of one loss says of the parameters.

    Attributes:
        in_sequence: By name, how often a parameter of the model is used along one path; only those
            that are used more than once.
        hidden: Recurrent layers that the loss depends on and the model does not know, by where they
            stand.
        strangers: Leaves that the loss depends on, and that are no parameters of the model.
        is_whole: Whether all of the graph was looked at.
        foreign: Functions of other libraries that hand something from step to step.
    """

    in_sequence: Mapping[str, int]
    hidden: tuple[str, ...] = ()
    strangers: tuple[Tensor, ...] = ()
    is_whole: bool = True
    foreign: tuple[str, ...] = ()

    def loops(self, least: int) -> list[str]:
        """Modules, or parameters, that are used at least so often one after the other."""
        names = [n for n, count in self.in_sequence.items() if count >= least]
        return list(dict.fromkeys(_module(n) for n in names))


def graph_uses(
    root: Any, model: nn.Module, measured: Collection[int] = (), may_run: bool = False
) -> GraphUses:
    """Walk the graph of a loss once.

    Args:
        root: The node that made the loss, or an output.
        model: Whose parameters are told by name.
        measured: Parameters, by identity, of layers whose way through time is measured: their own
            loops are not told, and a path that leads through them begins anew.
        may_run: As in `steadygrad.flow.foreign.foreign_functions`.

    Returns:
        What was found; no more than the leaves if a graph is larger than can be walked.
    """
    if root is None:
        return GraphUses({})
    names = {id(p): n for n, p in model.named_parameters()}
    order, is_whole = _ordered(root)
    uses: dict[int, int] = {}
    leaves: dict[int, Tensor] = {}
    for node in order:
        for below, _ in node.next_functions:
            if _is_leaf(below):
                key = id(below.variable)
                leaves[key], uses[key] = below.variable, uses.get(key, 0) + 1
    wanted = {k for k, n in uses.items() if n > 1 and k in names and k not in measured}
    found = _longest(order, wanted, measured) if wanted and is_whole else {}
    strangers = tuple(
        t for k, t in leaves.items() if k not in names and isinstance(t, nn.Parameter)
    )
    unknown = {id(t) for t in strangers}
    hidden = tuple(
        name
        for name, module in held_plainly(model)
        if any(id(p) in unknown for _, layer in layers_in(module) for p in layer.parameters())
    )
    in_sequence = {names[k]: n for k, n in found.items() if n > 1}
    foreign = foreign_functions(order, may_run)
    return GraphUses(in_sequence, hidden, strangers, is_whole, foreign)


def nearest_leaves(root: Any) -> list[nn.Parameter]:
    """The parameters nearest to a node: those at the smallest number of functions from it."""
    level, seen = [root], {root}
    while level and len(seen) < NEAR:
        below = [b for node in level for b, _ in node.next_functions if b is not None]
        leaves = [b.variable for b in below if _is_leaf(b)]
        parameters = [leaf for leaf in leaves if isinstance(leaf, nn.Parameter)]
        if parameters:
            return parameters
        level = [b for b in dict.fromkeys(below) if not _is_leaf(b) and b not in seen]
        seen.update(level)
    return []


def _ordered(root: Any) -> tuple[list[Any], bool]:
    """Nodes of a graph, each after all that it is made from; leaves left out."""
    order: list[Any] = []
    seen: set[Any] = {root}
    stack: list[tuple[Any, Iterator[Any]]] = [(root, _below(root))]
    while stack:
        node, rest = stack[-1]
        child = next((c for c in rest if c not in seen), None)
        if child is None:
            order.append(node)
            stack.pop()
        elif len(seen) >= MOST:
            return order, False
        else:
            seen.add(child)
            stack.append((child, _below(child)))
    return order, True


def _below(node: Any) -> Iterator[Any]:
    return (b for b, _ in node.next_functions if b is not None and not _is_leaf(b))


def _is_leaf(node: Any) -> bool:
    return type(node).__name__ == _LEAF


def _longest(order: Sequence[Any], wanted: set[int], measured: Collection[int]) -> dict[int, int]:
    """Per parameter the largest number of uses along one path."""
    along: dict[Any, dict[int, int]] = {}
    pure: dict[Any, int] = {}  # nodes that only arrange one parameter, with its identity
    most: dict[int, int] = {}
    for node in order:
        below = [b for b, _ in node.next_functions if b is not None]
        if len(below) == 1 and (_is_leaf(below[0]) or below[0] in pure):
            only = below[0]
            pure[node] = id(only.variable) if _is_leaf(only) else pure[only]
            continue
        used: set[int] = set()
        here: dict[int, int] = {}
        for b in below:
            if _is_leaf(b) or b in pure:
                used.add(id(b.variable) if _is_leaf(b) else pure[b])
                continue
            for key, count in along.get(b, {}).items():
                here[key] = max(count, here.get(key, 0))
        if not used.isdisjoint(measured):  # the nodes below are reached through that layer
            here = {}
        for key in used & wanted:
            here[key] = here.get(key, 0) + 1
            most[key] = max(most.get(key, 0), here[key])
        if here:
            along[node] = here
    return most


def _module(name: str) -> str:
    """The module of a parameter; of one that stands by itself, its own name."""
    owner, _, last = name.rpartition(".")
    return owner if owner and last.startswith(("weight", "bias", "parametrizations")) else name
