"""Clips inside the backward loop: a bound on the gradient at every time step."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class LoopClip:
    r"""A bound on the gradient at every time step of backpropagation.

    Args:
        bound: The largest value, or row norm, that passes; positive.
        by: ``"value"`` clamps each element to :math:`[-\theta, \theta]`, which can change the
            direction; ``"norm"`` shrinks a row (one sequence of the batch) whose norm is above
            :math:`\theta`, which keeps its direction. NaN stays NaN.
        place: ``"recurrent"`` bounds what arrives from step t+1, before the loss of step t is
            added; ``"total"`` bounds the sum of both; each state by itself. ``"preactivation"``
            bounds the gradient at the weight products of step t, as Graves does.

    Raises:
        ValueError: The bound is not positive, or an option is not one of the above.

    References:
        Graves, *Generating Sequences With Recurrent Neural Networks*, 2013, section 2.1
        (derivatives of the loss with respect to the network inputs, clipped by value).
    """

    bound: float
    by: Literal["value", "norm"] = "norm"
    place: Literal["recurrent", "total", "preactivation"] = "recurrent"

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"LoopClip needs a positive bound, got {self.bound}")
        if self.by not in ("value", "norm"):
            raise ValueError(f"LoopClip clips by 'value' or by 'norm', got {self.by!r}")
        if self.place not in ("recurrent", "total", "preactivation"):
            raise ValueError(
                f"LoopClip acts at 'recurrent', 'total' or 'preactivation', got {self.place!r}"
            )

    def __call__(self, grad: Tensor) -> Tensor:
        """Clip ``grad``, ``(rows, features)``; differentiable."""
        if self.by == "value":
            return grad.clamp(-self.bound, self.bound)
        norm = torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
        # A zero row has norm 0, and 0/0 must not make it NaN.
        scale = torch.where(norm > self.bound, self.bound / norm.clamp_min(self.bound), 1.0)
        return grad * torch.where(norm.isnan(), norm, scale)

    def at(self, place: str) -> "LoopClip | None":
        """This clip if it acts at ``place``, otherwise None."""
        return self if self.place == place else None
