"""Truncated backpropagation: cut the gradient every k steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, ends_ratio, ends_text, example, seeded
from steadygrad.remedies.replace_layers import no_loop, own_layers


@final
@dataclass(frozen=True)
class Truncate(Remedy):
    r"""Cut the gradient every ``steps`` time steps; the values of the state are passed on.

    .. math::
        \frac{\partial h_t}{\partial h_{t-1}} \leftarrow 0 \quad\text{for every } t
        \text{ that is a multiple of } k

    The forward pass is unchanged. A gradient cannot explode over more than k steps, but no
    dependency longer than that is learned. Choose k well above the lag that the task needs.

    Layers of torch.nn are replaced by ours, which share their parameters; undoing restores the old
    ones, and keeps what was learned.

    Args:
        steps: :math:`k`, counted from the first step of each call.

    References:
        Williams and Peng, *An Efficient Gradient-Based Algorithm for On-Line Training of
        Recurrent Network Trajectories*, 1990.
    """

    name: ClassVar[str] = "truncate"
    claim: ClassVar[str] = "No gradient passes a cut, and values stay as they are"
    helps: ClassVar[tuple[str, ...]] = ("exploding", "truncated")
    short: ClassVar[Mapping[str, Any]] = {"steps": 10}
    few_steps: ClassVar[Mapping[str, Any]] = {"steps": 3}
    other: ClassVar[Mapping[str, Any]] = {"steps": 2}

    steps: int = 35

    def __post_init__(self) -> None:
        self.expect("steps", self.steps >= 1, "a whole number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_loop(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, layer in own_layers(model, applied):
            applied.assign(layer, "truncate", self.steps)
            where = path or type(layer).__name__
            applied.note(f"{where}: gradient cut every {self.steps} steps")

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)
        before = ends_ratio(model, x)
        self.apply(model)
        after = ends_ratio(model, x)
        is_cut = after == -math.inf
        return Demonstration(ends_text(before, after), is_cut == (self.steps < len(x)))
