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
    begins: Tensor | None = None,
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
        begins: ``(T, ...)`` bool, of as many axes as ``decay``, broadcast to it: where
            :math:`s_t = b_t`, whatever came before, and be it infinite or NaN.

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
    solved: Any = _Recurrence.apply(decay, drive, initial, begins)
    return solved


def total_gradient(decay: Tensor, outside: Tensor, begins: Tensor | None = None) -> Tensor:
    r"""Gradient at every :math:`s_t`, given the part ``(T, ...)`` that does not come from s_{t+1}.

    :math:`g_t = o_t + \bar a_{t+1} g_{t+1}`: the recurrence itself, in reverse.
    """
    # a_{t+1} at step t; nothing follows the last step
    passing = torch.cat([decay[1:], torch.zeros_like(decay[:1])]).conj().resolve_conj()
    if begins is not None:  # nothing comes from a step that begins anew
        begins = torch.cat([begins[1:], torch.zeros_like(begins[:1])]).flip(0)
    return linear_recurrence(passing.flip(0), outside.flip(0), begins=begins).flip(0)


class _Recurrence(torch.autograd.Function):
    """``(decay, drive, initial, begins) -> states``; differentiable again and again."""

    @staticmethod
    def forward(
        ctx: Any, decay: Tensor, drive: Tensor, initial: Tensor, begins: Tensor | None
    ) -> Tensor:
        first = _onto(drive[0], decay[0], initial, None if begins is None else begins[0])
        states = _solve(decay, torch.cat([first.unsqueeze(0), drive[1:]]), begins)
        ctx.save_for_backward(decay, initial, states, begins)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        decay, initial, states, begins = ctx.saved_tensors
        total = total_gradient(decay, grads[0], begins)
        before = torch.cat([initial.unsqueeze(0), states[:-1]])
        at_decay, at_initial = total * before.conj(), decay[0].conj() * total[0]
        if begins is not None:
            at_decay = at_decay.masked_fill(begins, 0)
            at_initial = at_initial.masked_fill(begins[0], 0)
        return at_decay, total, at_initial, None


def _onto(drive: Tensor, decay: Tensor, before: Tensor, begins: Tensor | None) -> Tensor:
    """One step further; where it begins anew, the drive alone."""
    after = torch.addcmul(drive, decay, before)
    return after if begins is None else torch.where(begins, drive, after)


def _solve(decay: Tensor, drive: Tensor, begins: Tensor | None) -> Tensor:
    """The states that begin at ``drive[0]``; ``decay[0]`` is not used."""
    steps = len(drive)
    at = (lambda s: None) if begins is None else begins.__getitem__
    if steps <= SHORT:
        states = [drive[0]]
        for t in range(1, steps):
            states.append(_onto(drive[t], decay[t], states[-1], at(t)))
        return torch.stack(states)
    # steps 2k and 2k + 1 combined give the states of odd index
    even, after, uneven = slice(0, steps - 1, 2), slice(2, None, 2), slice(1, None, 2)
    pairs = None if begins is None else begins[even] | begins[uneven]
    joined = _onto(drive[uneven], decay[uneven], drive[even], at(uneven))
    odd = _solve(decay[uneven] * decay[even], joined, pairs)
    states = torch.empty_like(drive)
    states[1::2] = odd
    states[0] = drive[0]
    # each remaining state is one step after an odd one
    states[2::2] = _onto(drive[after], decay[after], odd[: (steps - 1) // 2], at(after))
    return states
