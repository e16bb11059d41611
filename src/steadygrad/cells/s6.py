"""S6: the selective state space recurrence of Mamba; step size and maps depend on the input."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.slstm import log_sigmoid

SHORTEST, LONGEST, FLOOR = 0.001, 0.1, 1e-4
"""Range of the initial time step, and its smallest value, from the released code."""


@final
@dataclass(frozen=True)
class S6(Cell):
    r"""Selective state space recurrence, as in Mamba.

    .. math::
        u_t &= W_u x_t + b_u, \qquad \Delta_t = \operatorname{softplus}(W_\Delta x_t + b_\Delta) \\
        s_{n,t} &= \exp(-\Delta_t \odot e^{\alpha_n}) \odot s_{n,t-1}
                   + \Delta_t \odot u_t \, B_{n,t}  \\
        h_t &= \sum_n C_{n,t}\, s_{n,t} + D \odot u_t

    :math:`B_{n,t}` and :math:`C_{n,t}` are numbers computed from the input, the same for all
    units: they scale writing and reading. The gradient of a memory is multiplied by :math:`\exp(
    -\Delta_t e^{\alpha_n})` at each step, between 0 and 1 whatever the input: it cannot explode,
    and survives as long as the input keeps :math:`\Delta` small: :math:`\Delta = 0` keeps the
    memory and writes nothing. h is read off the memories and is not fed back. Being linear
    in the memories, all time steps can be computed in parallel (``backend="parallel"``).

    In Mamba's block u is the output of a linear map, a convolution and SiLU, and B, C and
    :math:`\Delta` (the last through a bottleneck) are maps of u without a bias; here all are maps
    of the layer's input, as the gates of any cell are. :math:`B_n` is the sum of a share of the H
    rows of ``write`` over the root of their number, so its initial variance is that of one row;
    the family of functions is the same. :math:`C_n` likewise of ``read``.

    Args:
        memories: N, memories per unit; Mamba has 16.

    Shapes:
        ``h (B, H)``, ``memory_n (B, H)`` for n from 1; ``weight_ih (4H, I)`` in the order of
        `gates`; no ``weight_hh``; per unit ``log_decay_n`` (:math:`\alpha_n`, starts at
        :math:`\log n`) and ``skip`` (D, starts at 1). :math:`b_\Delta` starts where
        :math:`\operatorname{softplus}(b_\Delta)` is log-uniform between 0.001 and 0.1; without
        biases the time step starts about :math:`\log 2`.

    References:
        Gu and Dao, *Mamba: Linear-Time Sequence Modeling with Selective State Spaces*, 2023,
        algorithm 2, section 3.5.2 and section 3.6 (the discretisation of B as in the released
        code); the start from the released code.
    """

    name: ClassVar[str] = "s6"
    choose_when: ClassVar[str] = (
        "Long sequences of which the input decides what to keep and what to skip, such as "
        "selective copying; several time scales per unit, in stacks."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate", "step", "write", "read")

    memories: int = 4

    def __post_init__(self) -> None:
        if type(self.memories) is not int or self.memories < 1:
            raise ValueError(f"S6: memories must be a whole number above 0, got {self.memories!r}")

    @property
    def states(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("h", *(f"memory_{n}" for n in self._numbers))

    @property
    def per_unit(self) -> Mapping[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {"skip": 1.0} | {f"log_decay_{n}": math.log(n) for n in self._numbers}

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    @property
    def _numbers(self) -> range:
        return range(1, self.memories + 1)

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        # Units in order, divided evenly; with fewer units than memories one unit serves several.
        unit, memory = torch.arange(hidden_size), torch.arange(self.memories)
        if hidden_size < self.memories:
            share = unit == (memory * hidden_size // self.memories)[:, None]
        else:
            share = unit * self.memories // hidden_size == memory[:, None]
        weight = share / share.sum(1, keepdim=True).sqrt()
        return {f"share_{n}": weight[n - 1] for n in self._numbers}

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        if "bias_ih" not in weights:
            return
        step = weights["bias_ih"].chunk(len(self.gates))[self.gates.index("step")]
        nn.init.uniform_(step, math.log(SHORTEST), math.log(LONGEST)).exp_().clamp_(FLOOR)
        step.add_(torch.log(-torch.expm1(-step)))  # the inverse of softplus
        for gate in ("write", "read"):  # the released maps have no bias
            weights["bias_ih"].chunk(len(self.gates))[self.gates.index(gate)].zero_()

    def linear(self, x: Gates, unit: PerUnit) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        length = -log_sigmoid(-x.step)  # softplus
        into = length * x.candidate
        decays = [torch.exp(-length * torch.exp(getattr(unit, f"log_decay_{n}"))) for n in
                  self._numbers]  # fmt: skip
        return tuple(decays), tuple(into * self._number(x.write, n, unit) for n in self._numbers)

    def read(self, x: Gates, memories: State, unit: PerUnit) -> Tensor:
        h = unit.skip * x.candidate
        for n, memory in zip(self._numbers, memories, strict=True):
            h = h + self._number(x.read, n, unit) * memory
        return h

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        terms = zip(*self.linear(x, unit), state[1:], strict=True)
        new = tuple(decay * memory + drive for decay, drive, memory in terms)
        return self.read(x, new, unit), *new

    @staticmethod
    def _number(rows: Tensor, n: int, unit: PerUnit) -> Tensor:
        return (rows * getattr(unit, f"share_{n}")).sum(-1, keepdim=True)
