"""The norm stabiliser: penalise changes of the norm of the hidden state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_layer_to_see


@final
@dataclass(frozen=True)
class NormStabiliser(Remedy):
    r"""Penalise changes of the norm of the hidden state from step to step.

    .. math::
        \beta \, \operatorname{mean}_t \left(
        \lVert h_t \rVert_2 - \lVert h_{t-1} \rVert_2 \right)^2

    over neighbouring outputs of every recurrent layer in the model (of a stack in one module: of
    its top layer), and over the batch. Activations then neither grow nor decay along a sequence,
    even one longer than in training. The step from the initial state, which is zero, is left out.

    Args:
        beta: Weight of the penalty; 50 for character language models.

    References:
        Krueger and Memisevic, *Regularizing RNNs by Stabilizing Activations*, 2016, equation 1.
    """

    name: ClassVar[str] = "norm-stabiliser"
    claim: ClassVar[str] = "Minimising it makes the length of the hidden state constant in time"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    sees_calls: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"beta": 1.0}

    beta: float = 50.0

    def __post_init__(self) -> None:
        self.expect("beta", 0 < self.beta < float("inf"), "a finite number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_layer_to_see(model)

    def penalty(self, run: Run) -> Tensor:
        total = run.loss.new_zeros(())
        for outputs in run.outputs:
            later, earlier = (torch.linalg.vector_norm(h, dim=1) for h in outputs.pairs)
            if len(later):
                total = total + (later - earlier).square().mean()
        return self.beta * total

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)
