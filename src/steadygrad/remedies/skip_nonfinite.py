"""Skipping a broken step: a gradient that is no number moves nothing."""

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
class SkipNonfinite(Remedy):
    r"""Set the whole gradient to zero when any entry of it is NaN or infinite.

    .. math::
        g \leftarrow \begin{cases} g & \text{if every } g_k \text{ is finite} \\
        0 & \text{otherwise} \end{cases}

    One broken batch then cannot write NaN into every weight. It hides no fault: ``skipped`` tells
    of each, and a training in which most steps are skipped has to be repaired elsewhere. Momentum
    and weight decay of the optimiser still act in a skipped step. Put it before any clip: clipping
    by norm turns one NaN into many.

    References:
        Micikevicius et al., *Mixed Precision Training*, 2018, section 3.2 (skip the update when
        an overflow is detected).
    """

    name: ClassVar[str] = "skip-nonfinite"
    claim: ClassVar[str] = "If any entry of the gradient is not finite, all of it is zero"
    helps: ClassVar[tuple[str, ...]] = ("nonfinite",)

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    @torch.no_grad()
    def on_gradients(self, params: Sequence[nn.Parameter]) -> Mapping[str, Tensor]:
        """Zero a broken gradient; return ``grad_norm`` as it came, and ``skipped``."""
        grads = [p.grad for p in params if p.grad is not None]
        # Not from the 2-norm: squares overflow where no entry has.
        is_broken = get_total_norm(grads, norm_type=float("inf")).isfinite().logical_not()
        grad_norm = get_total_norm(grads)
        for grad in grads:
            # Filled, not multiplied: 0 · NaN is NaN. No branch, so that nothing waits.
            grad.masked_fill_(is_broken.to(grad.device), 0.0)
        return {"grad_norm": grad_norm, "skipped": is_broken}
