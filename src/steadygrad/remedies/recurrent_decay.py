"""Decay of the recurrent weights alone: a small spectral radius, and a short memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_recurrent_matrix


@final
@dataclass(frozen=True)
class RecurrentDecay(Remedy):
    r"""Add an L1 and an L2 penalty on the recurrent matrices alone.

    .. math::
        \lambda_1 \sum_{ij} |R_{ij}| + \lambda_2 \sum_{ij} R_{ij}^2

    Weights that start small stay small: if the largest singular value is below one over the
    steepest slope, the gradient cannot explode. But the network then has a single point attractor,
    and its memory decays exponentially. It trades an exploding gradient for a vanishing one.

    Args:
        l2: :math:`\lambda_2`.
        l1: :math:`\lambda_1`; it sets weights to zero, whereas L2 shrinks all of them.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 3.1.
    """

    name: ClassVar[str] = "recurrent-decay"
    claim: ClassVar[str] = (
        "Its gradient is l1 sign(R) + 2 l2 R at recurrent matrices, zero elsewhere"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    other: ClassVar[Mapping[str, Any]] = {"l2": 1.0, "l1": 1.0}

    l2: float = 1e-4
    l1: float = 0.0

    def __post_init__(self) -> None:
        for option in ("l2", "l1"):
            value = getattr(self, option)
            self.expect(option, 0 <= value < float("inf"), "a finite number, 0 or above")
        self.expect("l2", self.l1 + self.l2 > 0, "above 0 where l1 is 0: it would do nothing")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_recurrent_matrix(model)

    def penalty(self, run: Run) -> Tensor:
        total = run.loss.new_zeros(())
        for layer in run.recurrences:
            weight = layer.value("weight_hh")
            total = total + self.l2 * weight.square().sum() + self.l1 * weight.abs().sum()
        return total

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)
