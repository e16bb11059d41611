"""Orthogonal by construction: a recurrent matrix that stays orthogonal in training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import nn

from steadygrad.nn import orthogonal_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.parametrisation import hold, no_square_block


@final
@dataclass(frozen=True)
class Orthogonal(Remedy):
    r"""Keep each recurrent gate block orthogonal, whatever the optimiser does.

    .. math::
        R_k = B_k \, \phi(A_k), \quad A_k^\top = -A_k \quad\Rightarrow\quad
        \lVert R_k^\top \delta \rVert = \lVert \delta \rVert

    It starts at the orthogonal matrix nearest to the present weights. The matrix then neither
    amplifies nor attenuates a gradient; only the slope of the nonlinearity does. The stored
    parameters are the skew matrices; give them a tenth of the learning rate, and no weight decay.
    An occasional `steadygrad.nn.rebase_` keeps the map well conditioned.

    Args:
        map: :math:`\phi`: ``"matrix_exp"``, or ``"cayley"``, cheaper and without the
            eigenvalue -1.

    References:
        Lezcano-Casado and Martínez-Rubio, *Cheap Orthogonal Constraints in Neural Networks*, 2019.
        Helfrich, Willmott and Ye, *Orthogonal Recurrent Neural Networks with Scaled Cayley
        Transform*, 2018.
    """

    name: ClassVar[str] = "orthogonal"
    claim: ClassVar[str] = (
        "All singular values of all recurrent gate blocks are 1 after any training step"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    other: ClassVar[Mapping[str, Any]] = {"map": "cayley"}

    map: Literal["matrix_exp", "cayley"] = "matrix_exp"

    def __post_init__(self) -> None:
        self.expect("map", self.map in ("matrix_exp", "cayley"), "'matrix_exp' or 'cayley'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_square_block(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        hold(model, applied, lambda layer: orthogonal_(layer, self.map), "orthogonal for good")

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, 1.0, 1.0, is_trained=True)
