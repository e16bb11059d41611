"""A linear recurrence over all time steps at once: pairs of steps, pairs of pairs, and back."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OnGradient = Callable[[Tensor], None]
SHORT = 8
"""So many steps are taken one after another: below that, pairing costs more than it saves."""


def linear_recurrence(
    decay: Tensor,
    drive: Tensor,
    initial: Tensor | None = None,
    on_gradient: OnGradient | None = None,
) -> Tensor:
    r"""Solve :math:`s_t = a_t \odot s_{t-1} + b_t` for all t in about :math:`2 \log_2 T` steps.

    Two steps in a row are one step, :math:`(a_2 a_1,\; a_2 b_1 + b_2)`. Joining neighbours halves
    the number of steps; the recurrence of the half, solved the same way, gives every second state,
    and one step more the others. Only products and sums: a state may have either sign, and nothing
    overflows while :math:`|a_t| \le 1`. The gradient is the same recurrence run backward.

    Args:
        decay: :math:`a_t`, ``(T, ...)``, real or complex.
        drive: :math:`b_t`, of the same shape and dtype.
        initial: :math:`s_0`, of the shape of one step; zeros if not given.
        on_gradient: Called in every backward pass with the total gradient at each :math:`s_t`.

    Returns:
        :math:`s_1, \dots, s_T`, ``(T, ...)``.

    Raises:
        ValueError: The shapes differ, or there is no time step.

    References:
        Blelloch, *Prefix Sums and Their Applications*, 1990, section 1.4.
    """
    if decay.shape != drive.shape or not decay.dim() or not len(decay):
        raise ValueError(
            "linear_recurrence: expected decay and drive of one shape (T, ...), T at least 1, got "
            f"{tuple(decay.shape)} and {tuple(drive.shape)}"
        )
    if initial is None:
        initial = torch.zeros_like(drive[0])
    if initial.shape != drive.shape[1:]:
        raise ValueError(
            f"linear_recurrence: expected an initial state {tuple(drive.shape[1:])}, got "
            f"{tuple(initial.shape)}"
        )
    solved: Any = _Recurrence.apply(decay, drive, initial, on_gradient)
    return solved


class _Recurrence(torch.autograd.Function):
    """``(decay, drive, initial, on_gradient) -> states``; differentiable again and again."""

    @staticmethod
    def forward(
        ctx: Any, decay: Tensor, drive: Tensor, initial: Tensor, on_gradient: OnGradient | None
    ) -> Tensor:
        states = _solve(decay, torch.cat([(decay[0] * initial + drive[0]).unsqueeze(0), drive[1:]]))
        ctx.save_for_backward(decay, initial, states)
        ctx.on_gradient = on_gradient
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        decay, initial, states = ctx.saved_tensors
        # g_t = (gradient from above at t) + conj(a_{t+1}) g_{t+1}: the recurrence in reverse.
        passing = torch.cat([decay[1:], torch.zeros_like(decay[:1])]).conj().resolve_conj()
        total = linear_recurrence(passing.flip(0), grads[0].flip(0)).flip(0)
        if ctx.on_gradient is not None:
            ctx.on_gradient(total.detach())
        before = torch.cat([initial.unsqueeze(0), states[:-1]])
        return total * before.conj(), total, decay[0].conj() * total[0], None


def _solve(decay: Tensor, drive: Tensor) -> Tensor:
    """The states that begin at ``drive[0]``; ``decay[0]`` is not used."""
    steps = len(drive)
    if steps <= SHORT:
        states = [drive[0]]
        for t in range(1, steps):
            states.append(torch.addcmul(drive[t], decay[t], states[-1]))
        return torch.stack(states)
    first, second = decay[0 : steps - 1 : 2], decay[1::2]
    odd = _solve(second * first, torch.addcmul(drive[1::2], second, drive[0 : steps - 1 : 2]))
    states = torch.empty_like(drive)
    states[1::2] = odd
    states[0] = drive[0]
    states[2::2] = torch.addcmul(drive[2::2], decay[2::2], odd[: (steps - 1) // 2])
    return states
