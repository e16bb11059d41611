"""A penalty on the norm of the gradient, which favours flat regions of the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class GradientPenalty(Remedy):
    r"""Add the norm of the loss's gradient to the loss, and differentiate through it.

    .. math::
        \lambda \sum_k g_k^2 \quad\text{or}\quad \lambda \sum_k |g_k|, \qquad
        g = \frac{\partial L}{\partial \theta}

    Training then avoids steep regions of the loss, where gradients explode, before a clip has to
    act. It differentiates through the backward pass, which takes several times the time of a step.
    On a GPU cuDNN's layers do not support this: use Steadygrad's, or
    ``torch.backends.cudnn.flags(enabled=False)``.

    Args:
        weight: :math:`\lambda`.
        norm: ``"l2"``, the squared length, or ``"l1"``, the sum of absolute values.

    References:
        Drucker and Le Cun, *Improving Generalization Performance Using Double Backpropagation*,
        1992 (of the gradient at the input).
        Barrett and Dherin, *Implicit Gradient Regularization*, 2021, equation 4 (explicit form).
    """

    name: ClassVar[str] = "gradient-penalty"
    claim: ClassVar[str] = "Minimising it shortens the gradient of the loss"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    needs_whole_batch: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"weight": 1.0, "norm": "l1"}

    weight: float = 0.01
    norm: Literal["l1", "l2"] = "l2"

    def __post_init__(self) -> None:
        self.expect("weight", 0 < self.weight < float("inf"), "a finite number above 0")
        self.expect("norm", self.norm in ("l1", "l2"), "'l1' or 'l2'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def penalty(self, run: Run) -> Tensor:
        parameters = [p for p in run.model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(run.loss, parameters, create_graph=True, allow_unused=True)
        size = Tensor.square if self.norm == "l2" else Tensor.abs
        terms = [size(g).sum() for g in grads if g is not None]
        return self.weight * torch.stack(terms).sum()

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)
