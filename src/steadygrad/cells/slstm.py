"""sLSTM: exponential gates, kept from overflowing by a running maximum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


def log_sigmoid(u: Tensor) -> Tensor:
    """The logarithm of sigmoid, exact at both ends."""
    return torch.minimum(u, torch.zeros_like(u)) - torch.log1p(torch.exp(-torch.abs(u)))


@final
@dataclass(frozen=True)
class SLSTM(Cell):
    r"""Scalar-memory LSTM of xLSTM.

    .. math::
        m_t &= \max(\log \sigma(\bar f_t) + m_{t-1}, \bar\imath_t) &&\text{stabiliser}  \\
        i_t &= \exp(\bar\imath_t - m_t), \qquad
        f_t = \exp(\log \sigma(\bar f_t) + m_{t-1} - m_t)  \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(\bar g_t), \qquad
        n_t = f_t \odot n_{t-1} + i_t  \\
        h_t &= \sigma(\bar o_t) \odot c_t / n_t

    with :math:`\bar\imath, \bar f, \bar g, \bar o = W x_t + R h_{t-1} + b`. An exponential input
    gate can revise what was stored; the normaliser n makes h a weighted mean of past candidates, so
    :math:`|h| < 1`. Multiplying c, n and :math:`e^{-m}` by one number changes no output: m only
    keeps the exponentials in range. The gradient along c survives as long as the forget gate,
    relative to later input gates, keeps the weight of old content. While n is zero (the
    first step) :math:`m_t = \bar\imath_t`, as in the released code. The forget gate is the
    sigmoid (the paper allows exp too).

    R is block diagonal, one block per head: units of different heads do not see each other. The
    group norm, the convolution and the projections of the xLSTM block are not part of the cell.

    Args:
        heads: Blocks of R; units are divided evenly, in order.
        forget_bias: Where :math:`b_f` starts: ``"powerlaw"``, from 5 down to -7 in each head (the
            code's rule for the first block); ``"linspace"``, 3 to 6.

    Shapes:
        ``h, c, n, m (B, H)``; ``weight_ih (4H, I)``, ``weight_hh (4H, H)`` (entries outside the
        blocks are not used) in the order of `gates`. R and the other biases start at zero.

    References:
        Beck et al., *xLSTM: Extended Long Short-Term Memory*, 2024, equations 8 to 18 and
        appendix A.2; the start of the biases from the released code.
    """

    name: ClassVar[str] = "slstm"
    choose_when: ClassVar[str] = (
        "Tasks in which later inputs must revise stored content, such as state tracking."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c", "n", "m")

    heads: int = 1
    forget_bias: Literal["powerlaw", "linspace"] = "powerlaw"

    def __post_init__(self) -> None:
        if type(self.heads) is not int or self.heads < 1:
            raise ValueError(f"SLSTM: heads must be a whole number above 0, got {self.heads!r}")
        if self.forget_bias not in ("powerlaw", "linspace"):
            raise ValueError(
                f"Unknown forget_bias '{self.forget_bias}'. Select from powerlaw, linspace."
            )

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        if self.heads == 1:
            return stored
        size = stored.shape[1]
        head = torch.arange(size, device=stored.device) * self.heads // size
        return stored * (head[:, None] == head).repeat(len(self.gates), 1)

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        nn.init.zeros_(weights["weight_hh"])
        if "bias_ih" not in weights:
            return
        nn.init.zeros_(weights["bias_ih"])
        nn.init.zeros_(weights["bias_hh"])
        size = weights["weight_hh"].shape[1]
        forget = weights["bias_ih"].view(4, size)[1]
        for part in forget.tensor_split(self.heads):
            ramp = torch.linspace(0, 1, len(part)).to(part)
            powerlaw = self.forget_bias == "powerlaw"
            part.copy_(5 - 12 * ramp.pow(0.3) if powerlaw else 3 + 3 * ramp)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c, n, m_before = state
        i_log = x.input + recur.input(h)
        f_log = log_sigmoid(x.forget + recur.forget(h)) + m_before
        started = torch.abs(torch.sign(n))
        m = (1 - started) * i_log + started * torch.maximum(f_log, i_log)
        i = torch.exp(i_log - m)
        # At the first step n and c are zero and f has no effect, but m does not bound it there: an
        # overflowing exp would make inf * 0 = nan.
        f = torch.exp(started * (f_log - m))
        c = f * c + i * tanh(x.candidate + recur.candidate(h))
        n = f * n + i
        return sigmoid(x.output + recur.output(h)) * c / n, c, n, m
