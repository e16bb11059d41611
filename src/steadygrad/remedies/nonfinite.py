"""Handle non-finite gradients: skip the step, zero the entries, or raise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.batches import FOREACH
from steadygrad.remedies.demonstration import Demonstration, example, gradients, loss_of, seeded
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.shards import anywhere
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class Nonfinite(Remedy):
    r"""Keep NaN and infinite entries of the gradient away from the weights.

    .. math::
        \text{skip:}\quad g \leftarrow \begin{cases} g & \text{if every } g_k \text{ is finite} \\
        0 & \text{otherwise} \end{cases} \qquad
        \text{zero:}\quad g_k \leftarrow \begin{cases} g_k & \text{if } g_k \text{ is finite} \\
        0 & \text{otherwise} \end{cases}

    One bad batch then cannot write NaN into every weight. Nothing is hidden: ``nonfinite`` reports
    each, and a training in which most steps are skipped needs another repair.
    Momentum and weight decay of the optimiser still act in a skipped step. Put it before any
    clip: clipping by norm turns one NaN into many.

    Under a gradient scaler occasional overflows are normal: the scaler skips such steps itself, so
    ``"raise"`` ignores them.

    Args:
        action: ``"skip"`` sets the whole gradient to zero, ``"zero"`` the entries that are not
            finite, ``"raise"`` raises `FloatingPointError`, which names the parameters; unlike the
            others it waits for the     device at every step.

    References:
        Micikevicius et al., *Mixed Precision Training*, 2018, section 3.2 (skip the update when
        an overflow is detected).
    """

    name: ClassVar[str] = "nonfinite"
    claim: ClassVar[str] = "No entry of the gradient that reaches the optimiser is NaN or infinite"
    helps: ClassVar[tuple[str, ...]] = ("nonfinite",)
    rank: ClassVar[Mapping[str, int]] = {"nonfinite": 10}
    other: ClassVar[Mapping[str, Any]] = {"action": "zero"}

    action: Literal["skip", "zero", "raise"] = "skip"

    def __post_init__(self) -> None:
        holds = self.action in ("skip", "zero", "raise")
        self.expect("action", holds, "'skip', 'zero' or 'raise'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Treat a non-finite gradient; return ``nonfinite``, and ``skipped`` if so."""
        broken = is_broken(gradients)
        if self.action == "skip":
            gradients.zero_where_(broken)
            return {"nonfinite": broken, "skipped": broken}
        if self.action == "zero":
            gradients.change_(lambda grad: grad.nan_to_num_(0.0, 0.0, 0.0))
        elif not gradients.is_scaled and bool(broken):
            _raise(gradients)
        return {"nonfinite": broken}

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)
        treatment = self.begin(model, torch.optim.SGD(model.parameters(), 0.1))
        loss_of(model, x).backward()
        grads = gradients(model)
        grads[0].view(-1)[0] = math.nan
        try:
            treatment()
        except FloatingPointError as error:
            return Demonstration(f"1 NaN among the gradients: {error}", self.action == "raise")
        left = sum(int((~g.isfinite()).sum()) for g in grads)
        return Demonstration(f"1 NaN among the gradients, {left} after", left == 0)


def is_broken(gradients: Gradients) -> Tensor:
    """Whether any entry, in any process, is not finite; a scalar on the device."""
    # Not by the 2-norm: squares overflow where no entry does. torch's check for gradient scalers is
    # one pass in one call; it multiplies by 1, which changes nothing.
    found = torch.zeros((), device=gradients.parameters.device)
    for batch in gradients.batches:
        own = batch.take(gradients.local)
        here = torch.zeros((), device=own[0].device)
        one = torch.ones((), device=own[0].device)
        FOREACH._amp_foreach_non_finite_check_and_unscale_(own, here, one)
        found += here.to(found.device)
    return anywhere(found, gradients.sharding.values()) > 0


def _raise(gradients: Gradients) -> None:
    largest = gradients.norms(float("inf")).isfinite().tolist()
    broken = [row for row, finite in zip(gradients.rows, largest, strict=True) if not finite]
    names = [gradients.parameters.names[row] for row in broken]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise FloatingPointError(
        f"the gradient is not finite in {len(names)} of {len(largest)} parameters: {shown}; "
        "sg.watch names the first bad layer, gate and time step"
    )
