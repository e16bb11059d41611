"""S4D: a diagonal state space model per unit, its complex modes as pairs of real states."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class S4D(Cell):
    r"""Diagonal structured state space model, in its recurrent form.

    .. math::
        s_{n,t} &= e^{\Delta A_n} \odot s_{n,t-1} + \frac{e^{\Delta A_n} - 1}{A_n} \odot u_t,
        \qquad u_t = W x_t + b  \\
        h_t &= 2 \operatorname{Re} \sum_n C_n \odot s_{n,t} + D \odot u_t,
        \qquad A_n = -e^{\alpha_n} + i\, \omega_n

    Each unit is a separate system with complex modes :math:`s_n`, discretised by zero-order hold
    with its own time step :math:`\Delta`; the modes of a real system come in conjugate pairs, of
    which one is kept. The gradient of a mode is multiplied by :math:`e^{\Delta A_n}` at each step,
    whose absolute value is :math:`\exp(-\Delta e^{\alpha_n}) < 1` whatever the optimiser does: it
    cannot explode, and over k steps shrinks as :math:`\exp(-k \Delta e^{\alpha_n})`; at the start
    as :math:`e^{-k \Delta / 2}`, :math:`\Delta` between 0.001 and 0.1. h is read off the modes and
    is not fed back. There is no nonlinearity in time: put one between layers. All time steps can
    be computed in parallel (``backend="parallel"``).

    The paper's layer has one input per unit (:math:`u_t = x_t`) and mixes units after it, not
    before.

    Args:
        modes: Complex modes per unit; the paper's N = 64 counts both of each pair, so 32 here.

    Shapes:
        ``h (B, H)``, ``real_n`` and ``imaginary_n (B, H)`` for n from 1; ``weight_ih (H, I)``;
        no ``weight_hh``; per unit ``log_step`` (:math:`\log \Delta`, uniform between the
        logarithms of 0.001 and 0.1), ``skip`` (D, Gaussian) and, per mode, ``log_decay_n``
        (:math:`\alpha_n`, :math:`\log \tfrac12`), ``frequency_n`` (:math:`\omega_n = \pi (n -
        1)`: S4D-Lin), ``c_real_n`` and ``c_imaginary_n`` (complex Gaussian).

    References:
        Gu, Gupta, Goel and Ré, *On the Parameterization and Initialization of Diagonal State
        Space Models*, 2022, sections 3 and 4, and the minimal S4D of the released code.
    """

    name: ClassVar[str] = "s4d"
    choose_when: ClassVar[str] = (
        "Very long, smooth signals (audio, sensors) in deep stacks with nonlinear blocks in "
        "between; as lru, with several time scales per unit."
    )
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    modes: int = 4

    def __post_init__(self) -> None:
        if type(self.modes) is not int or self.modes < 1:
            raise ValueError(f"S4D: modes must be a whole number above 0, got {self.modes!r}")

    @property
    def states(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("h", *(f"{p}_{n}" for n in self._numbers for p in ("real", "imaginary")))

    @property
    def per_unit(self) -> Mapping[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        own = {"log_step": math.log(0.01), "skip": 1.0}
        for n in self._numbers:
            own |= {
                f"log_decay_{n}": math.log(0.5),
                f"frequency_{n}": math.pi * (n - 1),
                f"c_real_{n}": 0.5,
                f"c_imaginary_{n}": 0.5,
            }
        return own

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    @property
    def _numbers(self) -> range:
        return range(1, self.modes + 1)

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        nn.init.uniform_(weights["log_step"], math.log(0.001), math.log(0.1))
        nn.init.normal_(weights["skip"])
        for n in self._numbers:
            for part in ("c_real", "c_imaginary"):
                nn.init.normal_(weights[f"{part}_{n}"], std=0.5**0.5)

    def linear(self, x: Gates, unit: PerUnit) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        terms = [self._held(n, unit) for n in self._numbers]
        decays = tuple(torch.complex(a, b) for a, b, _, _ in terms)
        return decays, tuple(
            torch.complex(c * x.candidate, d * x.candidate) for _, _, c, d in terms
        )

    def read(self, x: Gates, memories: State, unit: PerUnit) -> Tensor:
        h = unit.skip * x.candidate
        for n, re, im in zip(self._numbers, memories[::2], memories[1::2], strict=True):
            c_re, c_im = getattr(unit, f"c_real_{n}"), getattr(unit, f"c_imaginary_{n}")
            h = h + 2 * (c_re * re - c_im * im)
        return h

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        new: list[Tensor] = []
        for n, re, im in zip(self._numbers, state[1::2], state[2::2], strict=True):
            a, b, c, d = self._held(n, unit)
            new += [a * re - b * im + c * x.candidate, b * re + a * im + d * x.candidate]
        return self.read(x, tuple(new), unit), *new

    def _held(self, n: int, unit: PerUnit) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decay and input factor of mode n over one time step, as real and imaginary parts."""
        rate, turn = torch.exp(getattr(unit, f"log_decay_{n}")), getattr(unit, f"frequency_{n}")
        step = torch.exp(unit.log_step)
        shrink, angle = -rate * step, turn * step
        size, cos, sin = torch.exp(shrink), torch.cos(angle), torch.sin(angle)
        half = torch.sin(angle / 2)
        # e^(dA) - 1 without the cancellation of a small step, then divided by A.
        less_re, less_im = torch.expm1(shrink) * cos - 2 * half * half, size * sin
        square = rate * rate + turn * turn
        into_re = (less_im * turn - less_re * rate) / square
        into_im = -(less_re * turn + less_im * rate) / square
        return size * cos, size * sin, into_re, into_im
