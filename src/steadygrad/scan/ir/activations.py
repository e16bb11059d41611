"""Find the activation of each gate of a step, for gate health."""

import torch
from torch import fx

from steadygrad.cells import Cell

ACTIVATIONS = {
    torch.sigmoid: "sigmoid",
    "sigmoid": "sigmoid",
    torch.tanh: "tanh",
    "tanh": "tanh",
    torch.relu: "relu",
    "relu": "relu",
}


def activations(cell: Cell, graph: fx.Graph) -> dict[str, tuple[str, str]]:
    """Find, for each gate, the first activation after its projected input."""
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
