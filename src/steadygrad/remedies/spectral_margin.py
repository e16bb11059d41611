"""Nearly orthogonal by construction: singular values stay within a margin of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.nn import spectral_margin_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.parametrisation import hold, no_square_block


@final
@dataclass(frozen=True)
class SpectralMargin(Remedy):
    r"""Keep the singular values of each recurrent gate block within ``margin`` of one.

    .. math::
        R_k = U \operatorname{diag}(s) V^\top, \qquad s_i \in [1 - m, 1 + m]

    The matrix alone changes a gradient by at most :math:`(1 \pm m)` per step, so that forgetting
    and explosion are limited to a chosen rate. Singular values outside the margin start at its
    edge.

    Args:
        margin: :math:`m`, from 0, orthogonal, to below 1.

    References:
        Vorontsov, Trabelsi, Kadoury and Pal, *On Orthogonality and Learning Recurrent Networks
        with Long Term Dependencies*, 2017, section 2.
    """

    name: ClassVar[str] = "spectral-margin"
    claim: ClassVar[str] = (
        "Singular values of recurrent gate blocks are within margin of 1 after any training step"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    other: ClassVar[Mapping[str, Any]] = {"margin": 0.3}

    margin: float = 0.1

    def __post_init__(self) -> None:
        self.expect("margin", 0 <= self.margin < 1, "a number from 0 to below 1")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_square_block(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        note = f"held with singular values within {self.margin:g} of 1"
        hold(model, applied, lambda layer: spectral_margin_(layer, self.margin), note)

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, 1 - self.margin, 1 + self.margin, is_trained=True)
