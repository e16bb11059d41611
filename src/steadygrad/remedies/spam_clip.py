"""SPAM's spike-aware clip: bound each entry by its own running mean square."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.batches import FOREACH, Batch
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients, is_on_host
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.shards import local
from steadygrad.remedies.unsuitable import no_trainable_parameter

SQUARES = "exp_avg_sq"  # the second moment in torch's Adam variants
CHUNK = 1 << 18  # entries per block, so that a block stays in the cache
Scratch = dict[torch.dtype, Tensor]


@final
@dataclass(frozen=True)
class SpamClip(Remedy):
    r"""Bound every entry of the gradient by the square root of its running mean square.

    .. math::
        g_k \leftarrow \operatorname{sign}(g_k) \sqrt{\theta v_k}
        \quad\text{if } g_k^2 > \theta v_k, \qquad
        v_k \leftarrow \beta_2 v_k + (1 - \beta_2) g_k^2

    with the clipped entry in the second equation, and the previous :math:`v` in the first.
    Non-finite entries do not enter our :math:`v`; infinite ones are bounded like others. With an
    optimiser of the Adam family its own :math:`v` is used, and nothing is stored; otherwise one
    tensor per parameter is kept. The published method also resets Adam's moments periodically and
    repeats the learning-rate warm-up; that is not done here.

    Args:
        threshold: :math:`\theta`: 5000 passes entries up to 70 times their running root mean
            square.
        beta2: :math:`\beta_2`, where no optimiser keeps :math:`v`.
        warmup: Steps in which nothing is clipped, while :math:`v` fills.

    References:
        Huang et al., *SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training*, 2025,
        spike-aware clipping; defaults of the published code.
    """

    name: ClassVar[str] = "spam-clip"
    claim: ClassVar[str] = "No entry of the gradient is larger than sqrt(threshold * v)"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    clips: ClassVar[str | None] = "spam-clip"
    few_steps: ClassVar[Mapping[str, Any]] = {"warmup": 3, "threshold": 2.0}
    other: ClassVar[Mapping[str, Any]] = {"threshold": 1.0, "beta2": 0.5, "warmup": 2}

    threshold: float = 5000.0
    beta2: float = 0.999
    warmup: int = 20

    def __post_init__(self) -> None:
        self.expect("threshold", self.threshold > 0, "a number above 0")
        self.expect("beta2", 0 <= self.beta2 < 1, "a number from 0 to below 1")
        self.expect("warmup", self.warmup >= 1, "a whole number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        state: dict[str, Tensor] = {"steps": torch.zeros((), dtype=torch.long)}
        if _keeps_squares(parameters.optimizer):
            return state
        for name, parameter in zip(parameters.names, parameters, strict=True):
            state[f"squares.{name}"] = torch.zeros_like(local(parameter.detach()))
        return state

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; nothing is measured, because that would cost more than the clip."""
        step = int(memory["steps"])
        memory["steps"] += 1
        is_own = not _keeps_squares(gradients.parameters.optimizer)
        squares = _own(gradients, memory) if is_own else _of_optimizer(gradients)
        if step >= self.warmup:
            scratch: Scratch = gradients.parameters.known.setdefault("scratch", {})
            for batch in gradients.batches:
                self._bound(batch, gradients.local, squares, scratch)
        if is_own and squares:
            new = FOREACH._foreach_mul(gradients.local, gradients.local)
            for square in new:
                square.nan_to_num_(0.0, 0.0, 0.0)  # a non-finite entry would stay forever
            FOREACH._foreach_mul_(squares, self.beta2)
            FOREACH._foreach_add_(squares, new, alpha=1 - self.beta2)
        return {}

    def _bound(
        self, batch: Batch, grads: list[Tensor], squares: list[Any], scratch: Scratch
    ) -> None:
        pairs = [(grads[row], squares[row]) for row in batch.rows if squares[row] is not None]
        if not batch.is_stack:
            for grad, square in pairs:
                _clamp_(grad, square, self.threshold, scratch)
        elif pairs:
            stack = torch.stack([grad for grad, _ in pairs])
            if _clamp_(stack, torch.stack([v for _, v in pairs]), self.threshold, scratch):
                FOREACH._foreach_copy_([grad for grad, _ in pairs], list(stack.unbind()))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)


def _own(gradients: Gradients, memory: Mapping[str, Tensor]) -> list[Tensor]:
    """The running squares of this remedy, in the order of the gradients."""
    names = gradients.parameters.names
    return [memory[f"squares.{names[row]}"] for row in gradients.rows]


def _of_optimizer(gradients: Gradients) -> list[Any]:
    """The running squares of the optimiser; None before its first step."""
    state: Mapping[Any, Any] = getattr(gradients.parameters.optimizer, "state", {})
    known = gradients.parameters.known
    own = known.get("squares")
    # cached until the optimiser replaces its state, as when loading one
    if own is None or known["state"] is not state or len(own) != len(gradients):
        own = [state.get(gradients.parameter(row), {}) for row in range(len(gradients))]
        if gradients.is_complete and all(own):
            known |= {"squares": own, "state": state}
    found = [of_one.get(SQUARES) for of_one in own]
    return [None if v is None else local(v) for v in found] if gradients.sharding else found


def _clamp_(grad: Tensor, square: Tensor, threshold: float, scratch: Scratch) -> bool:
    """Bound the entries, and return whether any may have changed."""
    if _is_within(grad, square, threshold, scratch):
        return False
    bound = square.sqrt().mul_(math.sqrt(threshold))
    torch.clamp(grad, bound.neg(), bound, out=grad)
    return True


def _is_within(grad: Tensor, square: Tensor, threshold: float, scratch: Scratch) -> bool:
    """Whether all entries are certainly below their bounds; False if unknown.

    Spikes are rare, and this check takes half the time of a clip. Only on the host, where reading
    the result does not synchronise.
    """
    size, kind = grad.numel(), grad.dtype
    is_plain = size and kind == square.dtype and grad.is_contiguous() and square.is_contiguous()
    if not is_plain or not is_on_host(grad) or not kind.is_floating_point:
        return False
    if kind not in scratch:
        scratch[kind] = grad.new_empty(CHUNK)
    # A margin wider than the rounding of both sides. Underflowing squares give 0, which is unknown.
    share = -(1 + 16 * torch.finfo(kind).eps) / threshold
    if size <= CHUNK:
        return _least_room(grad, square, share, scratch[kind]) > 0
    pieces = zip(grad.view(-1).split(CHUNK), square.view(-1).split(CHUNK), strict=True)
    return all(_least_room(g, v, share, scratch[kind]) > 0 for g, v in pieces)


def _least_room(grad: Tensor, square: Tensor, share: float, scratch: Tensor) -> float:
    """Minimum of ``square + share * grad**2``; NaN if any is NaN."""
    room = scratch[: grad.numel()].view(grad.shape)
    return torch.addcmul(square, grad, grad, value=share, out=room).amin().item()


def _keeps_squares(optimizer: torch.optim.Optimizer | None) -> bool:
    return optimizer is not None and "betas" in optimizer.defaults and "eps" in optimizer.defaults
