"""A bound on the largest singular value of recurrent matrices, against explosion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.nn.parametrised import parametrise_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.parametrisation import hold, no_square_block


@final
class _Bounded(nn.Module):
    """Parametrisation that shrinks each block of a weight to a spectral norm of ``bound``."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, stored: Tensor) -> Tensor:
        blocks = stored.view(-1, stored.shape[1], stored.shape[1])
        # The decomposition raises if a weight is not finite; return such a block unchanged, so that
        # the watch can report it.
        finite = blocks.isfinite().all(-1).all(-1)
        norms = torch.linalg.matrix_norm(blocks.masked_fill(~finite[:, None, None], 0.0), 2)
        return (blocks * (self.bound / norms).clamp(max=1.0)[:, None, None]).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@final
@dataclass(frozen=True)
class SpectralBound(Remedy):
    r"""Keep the largest singular value of each recurrent gate block at or below ``bound``.

    .. math::
        R_k = V_k \min(1, \text{bound} / \lVert V_k \rVert_2) \quad\Rightarrow\quad
        \lVert \delta_{t-1} \rVert \le \text{bound} \cdot \gamma \, \lVert \delta_t \rVert

    in a plain recurrence whose slope is at most :math:`\gamma` (tanh and ReLU 1, logistic 1/4).
    With a bound of 1 its gradient cannot grow from step to step, but it can vanish. The norm is
    exact, from one singular value decomposition of each block per step.

    Args:
        bound: Bound on the spectral norm.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 2.1 (why it suffices).
        Miyato, Kataoka, Koyama and Yoshida, *Spectral Normalization for Generative Adversarial
        Networks*, 2018 (dividing by the norm; here only where it is above the bound).
    """

    name: ClassVar[str] = "spectral-bound"
    claim: ClassVar[str] = (
        "No step of a tanh network lengthens a gradient by more than bound, after any training step"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    other: ClassVar[Mapping[str, Any]] = {"bound": 0.5}

    bound: float = 1.0

    def __post_init__(self) -> None:
        self.expect("bound", 0 < self.bound < float("inf"), "a finite number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_square_block(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        def put(layer: nn.Module) -> None:
            parametrise_(layer, lambda _: _Bounded(self.bound))

        hold(model, applied, put, f"held to a spectral norm of {self.bound:g}")

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, 0.0, self.bound, is_trained=True)
