"""Clipping within backpropagation through time: bound the gradient at every time step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import nn

from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, H, inputs_stay_below
from steadygrad.remedies.replace_layers import no_loop, own_layers
from steadygrad.scan import LoopClip

PLACES = ("recurrent", "total", "preactivation")


@final
@dataclass(frozen=True)
class ClipThroughTime(Remedy):
    r"""Bound the gradient at every time step of the backward pass, in every recurrent layer.

    .. math::
        \delta_t \leftarrow \delta_t \, \min(1, \theta / \lVert \delta_t \rVert)
        \quad\text{(norm)}, \qquad
        \delta_{t,k} \leftarrow \min(\theta, \max(-\theta, \delta_{t,k})) \quad\text{(value)}

    A clip after the backward pass bounds the update, but the gradient may have exploded within it,
    and then one time step dominates all others. This clip acts at each step, before the gradient is
    passed on to the step before. The result is no longer the gradient of the loss. Each row
    (sequence of the batch) and each state is clipped separately.

    Layers of torch.nn are replaced by ours, which share their parameters: undoing restores the old
    layers, and keeps what was learned. A layer has one such clip; a later one replaces it.

    Args:
        bound: :math:`\theta`.
        by: ``"norm"`` of a row, which keeps its direction, or ``"value"``, each entry.
        place: ``"recurrent"`` bounds what arrives from step t+1, before the loss of step t is
            added; ``"total"`` the sum of both; ``"preactivation"`` what enters the weights'
            products at step t.

    References:
        Graves, *Generating Sequences With Recurrent Neural Networks*, 2013, section 2.1
        (by value, at the pre-activations); the other places and the norm are ours.
    """

    name: ClassVar[str] = "clip-through-time"
    claim: ClassVar[str] = "At its place no gradient inside backpropagation is beyond the bound"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    other: ClassVar[Mapping[str, Any]] = {"bound": 0.5, "by": "value", "place": "total"}

    bound: float = 1.0
    by: Literal["norm", "value"] = "norm"
    place: Literal["recurrent", "total", "preactivation"] = "recurrent"

    def __post_init__(self) -> None:
        self.expect("bound", self.bound > 0, "a number above 0")
        self.expect("by", self.by in ("norm", "value"), "'norm' or 'value'")
        self.expect("place", self.place in PLACES, " or ".join(map(repr, PLACES)))

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_loop(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        clip = LoopClip(self.bound, self.by, self.place)
        for path, layer in own_layers(model, applied):
            applied.assign(layer, "loop_clip", clip)
            where = path or type(layer).__name__
            applied.note(f"{where}: {self.place} gradient clipped by {self.by} at {self.bound:g}")

    def demonstrate(self) -> Demonstration:
        return inputs_stay_below(self, self.bound * (1 if self.by == "norm" else math.sqrt(H)))
