"""Unitary-like initialisation: rotations of pairs of units, each with its own angle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.init import rotation_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.parametrisation import no_square_block
from steadygrad.remedies.recurrences import recurrences


@final
@dataclass(frozen=True)
class RotationInit(Remedy):
    r"""Start each recurrent gate block as rotations of pairs of units, a real unitary matrix.

    .. math::
        R_k = \operatorname{blockdiag}_j \begin{pmatrix} \cos\theta_j & -\sin\theta_j \\
        \sin\theta_j & \cos\theta_j \end{pmatrix}, \qquad \theta_j \sim U(-\text{angle},
        \text{angle})

    It is orthogonal, so it preserves the norm of a gradient; and its eigenvalues lie all around the
    unit circle, so that the state distinguishes time steps, where an identity would only sum. What
    was learned in these weights is lost.

    Args:
        angle: The largest rotation per step, in radians, up to :math:`\pi`.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016, section 4.
    """

    name: ClassVar[str] = "rotation-init"
    claim: ClassVar[str] = (
        "Eigenvalues of recurrent gate blocks have modulus 1 and angles up to angle"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"angle": 0.3},)
    other: ClassVar[Mapping[str, Any]] = {"angle": 0.5}

    angle: float = math.pi

    def __post_init__(self) -> None:
        self.expect("angle", 0 <= self.angle <= math.pi, "from 0 to pi")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_square_block(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in recurrences(model):
            rotation_(applied.keep(layer.parameter("weight_hh")), len(layer.recurrent), self.angle)
            applied.note(f"{layer.label}: recurrent blocks are rotations up to {self.angle:g}")

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, 1.0, 1.0)
