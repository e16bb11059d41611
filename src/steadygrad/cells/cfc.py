"""CfC: the closed form of a liquid time-constant network, an interpolation between two heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

HEADS = ("first", "second", "rate", "shift")


@final
@dataclass(frozen=True)
class CfC(Cell):
    r"""Closed-form continuous-time cell.

    .. math::
        u_t &= 1.7159 \tanh(0.666\, (W x_t + R h_{t-1} + b))  &&\text{backbone}  \\
        g_t &= \tanh(R_g u_t + b_g), \qquad k_t = \tanh(R_k u_t + b_k)  &&\text{heads}  \\
        s_t &= \sigma((R_a u_t + b_a)\, \Delta t + R_b u_t + b_b)  &&\text{time gate}  \\
        h_t &= (1 - s_t) \odot g_t + s_t \odot k_t

    Without a backbone the four maps see :math:`x_t` and :math:`h_{t-1}` directly, as gates do.
    h is a mean of two tanh, so :math:`|h| < 1`; but all of it passes through the heads: there is
    no path from :math:`h_{t-1}` to :math:`h_t` that skips a product, and the step Jacobian has
    no bound below the norms of the matrices. With
    :math:`n = \|R_g\| + \|R_k\| + (\Delta t \|R_a\| + \|R_b\|)/2`, the norm of
    :math:`\partial h_t / \partial h_{t-1}` is at most :math:`n` without a
    backbone and :math:`1.143\, \|R\|\, n` with one: the gradient vanishes or grows as that of an
    Elman network does. The time gate interpolates between two functions of the past and keeps no
    memory. ``mode="no_gate"`` is the paper's ablation :math:`h_t = g_t + s_t
    \odot k_t`, within :math:`(-2, 2)`.

    The time between samples is one number for all steps; give irregular times to the network as
    another input. The backbone of the paper has a width of its own (128 in the released code) and
    may be deeper; here it has one layer of H units.

    Args:
        mode: ``"default"``; ``"no_gate"`` as above.
        backbone: Whether there is a backbone.
        dt: :math:`\Delta t`, the time between two samples. The released code defaults to 1.

    Shapes:
        ``h (B, H)``. With a backbone ``weight_ih (H, I)`` and ``weight_hh (5H, H)``: that of the
        backbone, then of the heads ``first`` (g), ``second`` (k), ``rate`` (a) and ``shift`` (b).
        Without, ``weight_ih (4H, I)`` and ``weight_hh (4H, H)``. All Xavier uniform, each map
        :math:`[W, R]` that sees x and h as one matrix; biases as torch's linear layers have them.

    References:
        Hasani, Lechner, Amini, Liebenwein, Ray, Tschaikowski, Teschl and Rus, *Closed-form
        continuous-time neural networks*, 2022 (the cell with a time gate); backbone, heads
        and start from the released code.
    """

    name: ClassVar[str] = "cfc"
    choose_when: ClassVar[str] = (
        "Small models of continuous processes, trained at one sampling rate and used at another "
        "(dt). Not for long lags: it has no memory path."
    )

    mode: Literal["default", "no_gate"] = "default"
    backbone: bool = True
    dt: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in ("default", "no_gate"):
            raise ValueError(f"Unknown mode '{self.mode}'. Select from default, no_gate.")
        if not 0 < self.dt < float("inf"):
            raise ValueError(f"CfC: dt must be positive and finite, got {self.dt}")

    @property
    def gates(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("backbone",) if self.backbone else HEADS

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ("backbone", *HEADS) if self.backbone else HEADS

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        into, back = weights["weight_ih"], weights["weight_hh"]
        size, inputs = back.shape[1], into.shape[1]
        seeing = len(self.gates) * size  # rows that see x and h
        for rows in (*into.split(size), *back[:seeing].split(size)):
            bound = (6 / (size + inputs + size)) ** 0.5
            nn.init.uniform_(rows, -bound, bound)
        for rows in back[seeing:].split(size):
            nn.init.xavier_uniform_(rows)
        if "bias_ih" in weights:
            # One bias a map: b_ih of what sees x, b_hh of the heads above a backbone.
            bound = (inputs + size) ** -0.5
            nn.init.uniform_(weights["bias_ih"], -bound, bound)
            nn.init.zeros_(weights["bias_hh"][:seeing])
            nn.init.uniform_(weights["bias_hh"][seeing:], -(size**-0.5), size**-0.5)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        if self.backbone:
            u = 1.7159 * tanh(0.666 * (x.backbone + recur.backbone(h)))
            first, second, rate, shift = (getattr(recur, head)(u) for head in HEADS)
        else:
            first, second, rate, shift = (getattr(x, g) + getattr(recur, g)(h) for g in HEADS)
        s, g, k = sigmoid(rate * self.dt + shift), tanh(first), tanh(second)
        return (g + s * k if self.mode == "no_gate" else (1 - s) * g + s * k,)
