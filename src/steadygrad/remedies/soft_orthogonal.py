"""Soft orthogonality: a penalty that pulls recurrent matrices towards orthogonal ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.init.blocks import row_blocks
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_recurrent_matrix


@final
@dataclass(frozen=True)
class SoftOrthogonal(Remedy):
    r"""Penalise the deviation of each recurrent gate block from orthogonality.

    .. math::
        \lambda \lVert R_k^\top R_k - I \rVert_F^2 \qquad\text{or}\qquad
        \lambda \frac{H}{m} \sum_{j=1}^{m} \lVert R_k^\top R_k u_j - u_j \rVert^2,
        \quad \lVert u_j \rVert = 1

    Singular values are pulled to one but not fixed, so that the network can forget in some
    directions. The second form uses only :math:`m` random directions, drawn anew at every step; its
    expectation is the first.

    Args:
        weight: :math:`\lambda`.
        directions: :math:`m` of the second form, 50 as published; the first form if not given.

    References:
        Henaff, Szlam and LeCun, *Recurrent Orthogonal Networks and Long-Memory Tasks*, 2016,
        section 3 (50 random unit vectors).
        Vorontsov, Trabelsi, Kadoury and Pal, *On Orthogonality and Learning Recurrent Networks
        with Long Term Dependencies*, 2017 (the Frobenius form).
    """

    name: ClassVar[str] = "soft-orthogonal"
    claim: ClassVar[str] = "Minimising it brings all singular values of recurrent gate blocks to 1"
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"weight": 0.1},)
    other: ClassVar[Mapping[str, Any]] = {"weight": 1.0, "directions": 50}

    weight: float = 0.01
    directions: int | None = None

    def __post_init__(self) -> None:
        self.expect("weight", 0 < self.weight < float("inf"), "a finite number above 0")
        holds = self.directions is None or self.directions >= 1
        self.expect("directions", holds, "a whole number above 0, or none")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_recurrent_matrix(model)

    def penalty(self, run: Run) -> Tensor:
        total = run.loss.new_zeros(())
        for layer in run.recurrences:
            for block in row_blocks(layer.value("weight_hh"), len(layer.recurrent)):
                total = total + self._lack(block)
        return self.weight * total

    def _lack(self, block: Tensor) -> Tensor:
        columns = block.shape[1]
        if self.directions is None:
            return (block.t() @ block - torch.eye(columns).to(block)).square().sum()
        u = nn.functional.normalize(torch.randn(columns, self.directions).to(block), dim=0)
        return (block.t() @ (block @ u) - u).square().sum(0).mean() * columns

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)
