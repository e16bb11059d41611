"""Solve a linear recurrence for all time steps at once, by combining pairs of steps."""

from typing import Any

import torch
from torch import Tensor

SHORT = 8
"""Up to this many steps are taken one after another, because pairing would cost more."""


def linear_recurrence(
    decay: Tensor,
    drive: Tensor,
    initial: Tensor | None = None,
) -> Tensor:
    r"""Solve :math:`s_t = a_t \odot s_{t-1} + b_t` for all t in about :math:`2 \log_2 T` steps.

    Two consecutive steps combine to one, :math:`(a_2 a_1,\; a_2 b_1 + b_2)`. Combining neighbours
    halves the number of steps; the shorter recurrence, solved the same way, gives every second
    state, and one more step gives the others. Only products and sums: a state may have either
    sign, and nothing overflows while :math:`|a_t| \le 1`. The gradient is the same recurrence run
    backward.

    Args:
        decay: :math:`a_t`, ``(T, ...)``, real or complex.
        drive: :math:`b_t`, of the same shape and dtype.
        initial: :math:`s_0`, of the shape of one step; zeros if not given.

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
    solved: Any = _Recurrence.apply(decay, drive, initial)
    return solved


def total_gradient(decay: Tensor, outside: Tensor) -> Tensor:
    r"""Gradient at every :math:`s_t`, given the part ``(T, ...)`` that does not come from s_{t+1}.

    :math:`g_t = o_t + \bar a_{t+1} g_{t+1}`: the recurrence itself, in reverse.
    """
    passing = torch.cat([decay[1:], torch.zeros_like(decay[:1])]).conj().resolve_conj()
    return linear_recurrence(passing.flip(0), outside.flip(0)).flip(0)


class _Recurrence(torch.autograd.Function):
    """``(decay, drive, initial) -> states``; differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
        states = _solve(decay, torch.cat([(decay[0] * initial + drive[0]).unsqueeze(0), drive[1:]]))
        ctx.save_for_backward(decay, initial, states)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        decay, initial, states = ctx.saved_tensors
        total = total_gradient(decay, grads[0])
        before = torch.cat([initial.unsqueeze(0), states[:-1]])
        return total * before.conj(), total, decay[0].conj() * total[0]


def _solve(decay: Tensor, drive: Tensor) -> Tensor:
    """The states, of which the first is ``drive[0]``; ``decay[0]`` is not used."""
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
