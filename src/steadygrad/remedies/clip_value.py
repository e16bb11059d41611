"""Clipping by value: a bound on every single entry of the gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.reasons import no_trainable_parameter


@final
@dataclass(frozen=True)
class ClipValue(Remedy):
    r"""Bound every entry of the gradient to ``[-max_value, max_value]``.

    .. math::
        g_k \leftarrow \min(\theta, \max(-\theta, g_k))

    The direction is not kept: large entries lose, small ones do not. An infinite entry becomes
    finite, NaN stays NaN. A vanished gradient stays vanished.

    Args:
        max_value: The bound :math:`\theta` on each entry.

    References:
        Mikolov, *Statistical Language Models Based on Neural Networks*, 2012, section 3.2.
    """

    name: ClassVar[str] = "clip-value"
    claim: ClassVar[str] = "No entry of the gradient is larger than max_value; inf becomes finite"
    helps: ClassVar[tuple[str, ...]] = ("exploding", "nonfinite")

    max_value: float = 1.0

    def __post_init__(self) -> None:
        self.expect("max_value", self.max_value > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip, and return ``grad_norm`` before, ``grad_norm_clipped`` after, ``clipped``.

        ``clipped`` says whether the norm of any gradient fell.
        """
        norms = gradients.norms()
        for grad in gradients.local:
            grad.clamp_(-self.max_value, self.max_value)
        after = gradients.norms()
        before = torch.linalg.vector_norm(norms)
        return {
            "grad_norm": before,
            "grad_norm_clipped": torch.linalg.vector_norm(after),
            "clipped": (after < norms).any(),
            "nonfinite": before.isfinite().logical_not(),
        }
