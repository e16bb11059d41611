"""Graves' derivative clipping: bound the derivatives at the inputs of every gate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, H, inputs_stay_below
from steadygrad.remedies.replace_layers import no_loop, own_layers
from steadygrad.scan import LoopClip


@final
@dataclass(frozen=True)
class DerivativeClip(Remedy):
    r"""Bound the derivative of the loss with respect to each gate's pre-activation.

    .. math::
        \frac{\partial L}{\partial \bar g_t} \leftarrow
        \min\Bigl(\theta, \max\Bigl(-\theta, \frac{\partial L}{\partial \bar g_t}\Bigr)\Bigr)
        \quad\text{at every } t \text{ of the backward pass}

    As in Graves' training: every derivative that enters the recurrent and the input weights is
    bounded, and so is the gradient passed on through them. The gradient along an LSTM's cell state
    is not. The bound applies to single entries per sequence, so it depends on the scale of the
    loss: a mean over a batch of 64 makes all derivatives 64 times smaller than a sum does.

    Layers of torch.nn are replaced by ours, which share their parameters; undoing restores the old
    ones. The same as ``clip-through-time:by=value,place=preactivation``.

    Args:
        bound: :math:`\theta`; 1 for text and 10 for handwriting, in the paper.

    References:
        Graves, *Generating Sequences With Recurrent Neural Networks*, 2013, section 2.1 and
        (bounds) sections 3.1 and 4.2.
    """

    name: ClassVar[str] = "derivative-clip"
    claim: ClassVar[str] = "No derivative at a gate's pre-activation is larger than the bound"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    also_try: ClassVar[tuple[Mapping[str, float], ...]] = ({"bound": 10.0},)
    other: ClassVar[Mapping[str, Any]] = {"bound": 0.5}

    bound: float = 1.0

    def __post_init__(self) -> None:
        self.expect("bound", self.bound > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_loop(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, layer in own_layers(model, applied):
            applied.assign(layer, "loop_clip", LoopClip(self.bound, "value", "preactivation"))
            where = path or type(layer).__name__
            applied.note(f"{where}: derivatives at the gates' inputs clipped at {self.bound:g}")

    def demonstrate(self) -> Demonstration:
        return inputs_stay_below(self, self.bound * math.sqrt(H))
