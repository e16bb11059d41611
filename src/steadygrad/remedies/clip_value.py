"""Clipping by value: a bound on every single entry of the gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from steadygrad.remedies.base import Remedy
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

    @torch.no_grad()
    def on_gradients(self, params: Sequence[nn.Parameter]) -> Mapping[str, Tensor]:
        """Clip, and return ``grad_norm`` before, ``grad_norm_clipped`` after, ``clipped``.

        ``clipped`` says whether any entry was beyond the bound.
        """
        grads = [p.grad for p in params if p.grad is not None]
        grad_norm = get_total_norm(grads)
        largest = get_total_norm(grads, norm_type=float("inf"))
        for grad in grads:
            grad.clamp_(-self.max_value, self.max_value)
        return {
            "grad_norm": grad_norm,
            "grad_norm_clipped": get_total_norm(grads),
            "clipped": largest > self.max_value,
        }
