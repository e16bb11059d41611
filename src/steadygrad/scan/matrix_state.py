r"""Recurrences whose state is a matrix per head: one step, and all steps in chunks.

.. math::
    S_t = F_t(S_{t-1}), \qquad o_t = S_t^\top q_t, \qquad S_t \in \mathbb{R}^{K \times V}

`MatrixSteps` is any such recurrence: the terms of all time steps, computed beforehand, and the
rule that takes S from one step to the next. `DeltaSteps` is the family that is linear in S, with a
form that computes the steps of a chunk at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, final

import torch
from torch import Tensor
from torch.nn.functional import pad

SCALAR_CHUNK = 64
"""Steps of a chunk where a head has one decay: the weights between two steps are numbers."""
VECTOR_CHUNK = 16
"""Where every row of S has its own: they are vectors of K numbers, ``chunk * K`` for a step."""


@dataclass(frozen=True)
class MatrixSteps(ABC):
    """The terms of all steps of a recurrence with a matrix as state, and its rule.

    Attributes:
        q: ``(B, N, T, K)``: what reads the state of each of N heads after every step.
        runs: ``(B, T)``, bool: which rows have a step; the state of the others stays as it is. None
            if all have.
        begins: ``(B, T)``, bool: before which steps the state is set to zero. None if before none.
    """

    q: Tensor
    runs: Tensor | None = field(default=None, kw_only=True)
    begins: Tensor | None = field(default=None, kw_only=True)

    def to(self, dtype: torch.dtype) -> Self:
        """The same terms in another precision."""
        names = [f.name for f in fields(self)]
        return replace(self, **{n: _cast(getattr(self, n), dtype) for n in names})

    @abstractmethod
    def step(self, t: int, state: Tensor) -> Tensor:
        """Take the state ``(B, N, K, V)`` of a row that has this step through time step ``t``."""

    def after(self, t: int, state: Tensor) -> Tensor:
        """Take the state ``(B, N, K, V)`` through time step ``t``: `step`, where a row has it."""
        begun = state
        if self.begins is not None:
            begun = state.masked_fill(_over_state(self.begins[:, t]), 0)
        new = self.step(t, begun)
        return new if self.runs is None else torch.where(_over_state(self.runs[:, t]), new, state)

    def read(self, t: int, state: Tensor) -> Tensor:
        r"""Read :math:`o_t = S_t^\top q_t`, ``(B, N, V)``."""
        return (self.q[:, :, t, None] @ state).squeeze(-2)

    def one_by_one(
        self, state: Tensor, see: Callable[[int, Tensor], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take all steps, one after another.

        Args:
            state: ``(B, N, K, V)``, before the first step.
            see: Called with every step and the state after it.

        Returns:
            What was read, ``(B, N, T, V)``, and the last state.
        """
        outputs = []
        for t in range(self.q.shape[2]):
            state = self.after(t, state)
            if see is not None:
                see(t, state)
            outputs.append(self.read(t, state))
        return torch.stack(outputs, 2), state

    def at_once(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `one_by_one`, in the fastest form; a rule that has no other takes that one."""
        return self.one_by_one(state)


@final
@dataclass(frozen=True)
class DeltaSteps(MatrixSteps):
    r"""Steps that are linear in the state: it decays, one direction is erased, one is written.

    .. math::
        S_t = \operatorname{diag}(e^{g_t}) S_{t-1} - b_t (e_t^\top S_{t-1}) + k_t v_t^\top

    The transition is a diagonal and at most one direction more, the same for every column of S,
    and depends on the input alone. So the step Jacobian of a head is
    :math:`(\operatorname{diag}(e^{g_t}) - b_t e_t^\top) \otimes I_V`.

    In a chunk that begins with :math:`S`, let :math:`P_{t,j} = \exp(g_{j+1} + \dots + g_t)`. Every
    :math:`u_t = S_{t-1}^\top e_t` depends on the earlier ones alone, so that all of a chunk are the
    solution of one unit triangular system:

    .. math::
        u_t + \sum_{j<t} (e_t^\top P_{t-1,j} b_j)\, u_j
            &= S^\top P_{t-1,0}\, e_t + \sum_{j<t} (e_t^\top P_{t-1,j} k_j)\, v_j \\
        o_t &= S^\top P_{t,0}\, q_t + \sum_{j \le t} (q_t^\top P_{t,j} k_j)\, v_j
            - (q_t^\top P_{t,j} b_j)\, u_j

    Every P is the exponential of a sum of its own, never a quotient of two products: with decays
    of at most one nothing overflows, whatever they are, and a decay of 0 (:math:`g = -\infty`) is a
    start anew. Only S goes from chunk to chunk; with chunks of C steps that takes T / C products in
    sequence, and keeps T / C states for the backward pass instead of T.

    Attributes:
        k: ``(B, N, T, K)``: where a step writes.
        v: ``(B, N, T, V)``: what it writes.
        log_decay: g, ``(B, N, T, K)``, or ``(B, N, T, 1)`` if all rows of S share it; at most 0.
            None for no decay.
        erase: e and b, each ``(B, N, T, K)``: what is erased, and where. None for nothing.

    References:
        Yang et al., *Gated Linear Attention Transformers with Hardware-Efficient Training*, 2023,
        section 4 (chunks). Yang et al., *Parallelizing Linear Transformers with the Delta Rule
        over Sequence Length*, 2024, section 3 (the triangular system).
    """

    k: Tensor
    v: Tensor
    log_decay: Tensor | None = None
    erase: tuple[Tensor, Tensor] | None = None

    def step(self, t: int, state: Tensor) -> Tensor:
        """See the class."""
        new = state
        if self.log_decay is not None:
            new = self.log_decay[:, :, t].exp()[..., None] * state
        if self.erase is not None:
            e, b = self.erase
            new = new - b[:, :, t, :, None] * (e[:, :, t, None] @ state)
        return new + self.k[:, :, t, :, None] * self.v[:, :, t, None]

    def at_once(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """In chunks, as the class says."""
        is_vector = self.log_decay is not None and self.log_decay.shape[-1] > 1
        return self.in_chunks(state, VECTOR_CHUNK if is_vector else SCALAR_CHUNK)

    def unmasked(self) -> "DeltaSteps":
        """The same recurrence with `runs` and `begins` said by the terms themselves.

        A step that a row does not have writes and erases nothing, and nothing decays. Before a
        beginning all has decayed.
        """
        k, log_decay, erase = self.k, self.log_decay, self.erase
        if self.runs is not None:
            still = ~_over_terms(self.runs)
            k = k.masked_fill(still, 0)
            log_decay = None if log_decay is None else log_decay.masked_fill(still, 0)
            erase = None if erase is None else (erase[0], erase[1].masked_fill(still, 0))
        if self.begins is not None:
            begins = self.begins if self.runs is None else self.begins & self.runs
            anew = _over_terms(begins)
            if log_decay is None:
                log_decay = self.q.new_zeros(*self.q.shape[:3], 1)
            log_decay = log_decay.masked_fill(anew, -torch.inf)
            erase = None if erase is None else (erase[0], erase[1].masked_fill(anew, 0))
        return DeltaSteps(self.q, k, self.v, log_decay, erase)

    def in_chunks(self, state: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """As `one_by_one`, ``size`` steps at once."""
        if self.runs is not None or self.begins is not None:
            return self.unmasked().in_chunks(state, size)
        steps = self.q.shape[2]
        size = min(size, steps)

        def cut(value: Tensor) -> Tensor:  # (B, N, T / C, C, .); a step of zeros changes nothing
            return pad(value, (0, 0, 0, -steps % size)).unflatten(2, (-1, size))

        q, k, v = cut(self.q), cut(self.k), cut(self.v)
        fading = _Fading(
            cut(q.new_zeros(1, 1, steps, 1) if self.log_decay is None else self.log_decay)
        )
        whole = fading.since_start[..., -1, :].expand_as(k[..., -1, :])
        of_state = q * fading.since_start
        written = (k * fading.to_end).mT
        if self.erase is None:
            read = fading.weights(q[..., None, :], k)[..., 0, :] @ v
            states, state = _chained(whole.diag_embed(), written @ v, state)
        else:
            e, b = map(cut, self.erase)
            # What e sees before step t, a query at the end of step t - 1 sees.
            readers = torch.stack([q, _later(e)], -2)
            of_k, of_b = fading.weights(readers, k), fading.weights(readers, b)
            e_of_state = _earlier(fading.since_start, first=1.0) * e
            known = torch.cat([e_of_state, _earlier(of_k[..., 1, :]) @ v], -1)
            u = torch.linalg.solve_triangular(
                _earlier(of_b[..., 1, :]), known, upper=False, unitriangular=True
            )
            # u is linear in the state of the chunk: what does not depend on it is known at once.
            u_of_state, u_alone = u.split([k.shape[-1], v.shape[-1]], -1)
            erased = (b * fading.to_end).mT
            read = of_k[..., 0, :] @ v - of_b[..., 0, :] @ u_alone
            of_state = of_state - of_b[..., 0, :] @ u_of_state
            transitions = whole.diag_embed() - erased @ u_of_state
            states, state = _chained(transitions, written @ v - erased @ u_alone, state)
        outputs = of_state @ states + read
        return outputs.flatten(2, 3)[:, :, :steps], state


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, tuple):
        return tuple(_cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _over_state(rows: Tensor) -> Tensor:
    """``(B,)`` as it spreads over a state ``(B, N, K, V)``."""
    return rows[:, None, None, None]


def _over_terms(steps: Tensor) -> Tensor:
    """``(B, T)`` as it spreads over terms ``(B, N, T, K)``."""
    return steps[:, None, :, None]


def _chained(transitions: Tensor, drives: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before every chunk, ``(B, N, M, K, V)``, and the last."""
    states = []
    for transition, drive in zip(transitions.unbind(2), drives.unbind(2), strict=True):
        states.append(state)
        state = transition @ state + drive
    return torch.stack(states, 2), state


class _Fading:
    r"""Products of decays within every chunk, of ``log_decay (B, N, M, C, K or 1)``.

    Attributes:
        pairs: :math:`P_{t,j}`, ``(..., C, C, K or 1)``; 0 where j is later than t.
        since_start: :math:`P_{t,0}`, ``(..., C, K or 1)``.
        to_end: :math:`P_{C,j}`.
    """

    def __init__(self, log_decay: Tensor) -> None:
        size = log_decay.shape[-2]
        ones = torch.ones(size, size, dtype=torch.bool, device=log_decay.device)
        # Sums of their own: a difference of two running sums would lose digits, and give NaN
        # where a decay is 0.
        parts = log_decay[..., :, None, :].masked_fill(~ones.tril(-1)[..., None], 0)
        logs = parts.cumsum(-3).masked_fill(ones.triu(1)[..., None], -torch.inf)
        self.pairs = logs.exp()
        self.since_start = log_decay.cumsum(-2).exp()
        self.to_end = self.pairs[..., -1, :, :]

    def weights(self, readers: Tensor, k: Tensor) -> Tensor:
        r"""Give :math:`r_t^\top P_{t,j} k_j`.

        Args:
            readers: ``(..., C, R, K)``, R of every step.
            k: ``(..., C, K)``.

        Returns:
            ``(..., C, R, C)``; 0 where j is later than t.
        """
        if self.pairs.shape[-1] > 1:
            return readers @ (self.pairs * k[..., None, :, :]).mT
        scores = (readers.flatten(-3, -2) @ k.mT).unflatten(-2, readers.shape[-3:-1])
        return scores * self.pairs.mT


def _later(value: Tensor) -> Tensor:
    """At step t of a chunk the value of step t + 1; 0 at the last."""
    return pad(value[..., 1:, :], (0, 0, 0, 1))


def _earlier(value: Tensor, first: float = 0.0) -> Tensor:
    """At step t of a chunk the value of step t - 1."""
    return pad(value[..., :-1, :], (0, 0, 1, 0), value=first)
