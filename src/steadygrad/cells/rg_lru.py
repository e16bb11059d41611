"""RG-LRU, of Griffin and Hawk: a linear recurrence whose decay depends on the input."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn, sigmoid

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.slstm import log_sigmoid

A_MAX = 0.999
"""Largest initial decay under an open recurrence gate, from the paper."""

LEAST = 1e-12
"""1 - a^2 is taken as at least this: the slope of its root is infinite at 0."""


@final
@dataclass(frozen=True)
class RGLRU(Cell):
    r"""Real-gated linear recurrent unit.

    .. math::
        r_t &= \sigma(W_r x_t + b_r)  &&\text{recurrence gate}  \\
        i_t &= \sigma(W_i x_t + b_i)  &&\text{input gate}  \\
        a_t &= \sigma(\Lambda)^{c\, r_t}  \\
        h_t &= a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot (i_t \odot (W_u x_t + b_u))

    The step Jacobian is diagonal with entries :math:`a_t`, and :math:`\sigma(\Lambda)^c < a_t <
    1` whatever the input: the gradient cannot explode, and over k steps a unit keeps at least
    :math:`\sigma(\Lambda)^{ck}` of it. A closed recurrence gate keeps everything (:math:`a_t = 1`)
    and, because of the root, blocks the input. Being linear in h, all time steps can be
    computed in parallel (``backend="parallel"``).

    In Griffin the unit's input and both gates see the output of a linear map and a convolution;
    here each is a map of the layer's input, :math:`W_u` in place of the former. The paper's maps
    of the gates are block diagonal in its code; here they are full. That code takes the root as 1
    at the first step of a document; here, as in the paper's equations, it is always there.
    :math:`1 - a_t^2` is taken as at least 1e-12, because the slope of the root is infinite at 0.

    Args:
        c: The paper's constant: 8.
        a_min: Smallest initial :math:`\sigma(\Lambda)^c`, which is drawn uniformly up to 0.999:
            the decay of a step whose recurrence gate is open. Towards 0.999 for long memories.

    Shapes:
        ``h (B, H)``; ``weight_ih (3H, I)`` in the order of `gates`, from a Gaussian of variance
        1/I (LeCun), biases at zero; no ``weight_hh``; ``decay (H,)`` is :math:`\Lambda`.

    References:
        De, Smith, Fernando, Botev et al., *Griffin: Mixing Gated Linear Recurrences with Local
        Attention for Efficient Language Models*, 2024, equations 1 to 4, section 2.4 and
        appendix A.
    """

    name: ClassVar[str] = "rg-lru"
    choose_when: ClassVar[str] = (
        "Long sequences where the input decides what to keep: as mingru, with a decay that starts "
        "near one and cannot fall below a bound of its own."
    )
    gates: ClassVar[tuple[str, ...]] = ("recurrence", "input", "candidate")
    per_unit: ClassVar[Mapping[str, float]] = {"decay": 5.0}

    c: float = 8.0
    a_min: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.c < math.inf:
            raise ValueError(f"RGLRU: c must be positive and finite, got {self.c}")
        if not 0 < self.a_min <= A_MAX:
            raise ValueError(f"RGLRU: expected 0 < a_min <= {A_MAX}, got {self.a_min}")

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        # The logit of a, from the logarithm of a^c.
        log_a = nn.init.uniform_(weights["decay"], self.a_min, A_MAX).log_().div_(self.c)
        log_a.sub_(torch.log(-torch.expm1(log_a)))
        inputs = weights["weight_ih"]
        nn.init.normal_(inputs, std=inputs.shape[1] ** -0.5)
        if "bias_ih" in weights:
            nn.init.zeros_(weights["bias_ih"])

    def linear(self, x: Gates, unit: PerUnit) -> tuple[Tensor, Tensor]:
        log_a = self.c * sigmoid(x.recurrence) * log_sigmoid(unit.decay)
        kept = torch.clamp(-torch.expm1(2 * log_a), min=LEAST)
        return torch.exp(log_a), torch.sqrt(kept) * (sigmoid(x.input) * x.candidate)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        decay, drive = self.linear(x, unit)
        return (decay * h + drive,)
