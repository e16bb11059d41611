"""Linear recurrent unit: complex eigenvalues on a ring inside the unit circle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


def reset_ring_(units: Mapping[str, Tensor], r_min: float, r_max: float, max_phase: float) -> None:
    """Draw eigenvalues uniformly from a ring, and the factors that keep the state's size.

    Args:
        units: ``nu``, ``theta`` and ``gamma``; changed in place.
        r_min: Smallest modulus.
        r_max: Largest.
        max_phase: Largest angle.
    """
    nu, theta, gamma = (units[name] for name in ("nu", "theta", "gamma"))
    nn.init.uniform_(nu, r_min**2, r_max**2)  # |lambda|^2
    # A radius of exactly 0 or 1 has no finite parameter.
    nu.clamp_(1e-12, 1 - 1e-7).log_().mul_(-0.5)
    gamma.copy_(0.5 * torch.log1p(-torch.exp(-2 * nu)))
    nu.log_()
    nn.init.uniform_(theta, 0, max_phase)
    theta.clamp_(1e-12).log_()


@final
@dataclass(frozen=True)
class LRU(Cell):
    r"""Linear recurrent unit, its complex state as real and imaginary part.

    .. math::
        s_t = \lambda \odot s_{t-1} + e^{\gamma} \odot (B x_t + b), \qquad
        \lambda = \exp(-e^{\nu} + i\, e^{\theta}), \qquad h_t = \operatorname{Re} s_t

    :math:`|\lambda| = \exp(-e^{\nu}) < 1` whatever the optimiser does, so neither the state nor
    the gradient can explode; over :math:`k` steps a unit's gradient shrinks as
    :math:`|\lambda|^k`, and the ring :math:`|\lambda| \in [r_{\min}, r_{\max}]` of the start
    decides how long it survives. There is no nonlinearity in time: put one between layers. All time
    steps can be computed in parallel (``backend="parallel"``).

    This cell outputs the real part alone. The paper's layer, with its maps C and D, is
    `steadygrad.nn.LRU`.

    Args:
        r_min: Smallest :math:`|\lambda|` of the start. Towards 1 for long memories.
        r_max: Largest.
        max_phase: Largest angle of the start, in radians.

    Shapes:
        ``h, imaginary (B, H)``; ``weight_ih (2H, I)`` is B, real rows first, from a complex
        Gaussian over :math:`\sqrt{2 I}`; ``nu``, ``theta``, ``gamma (H,)`` (the last is the
        paper's :math:`\gamma^{\log}`); no ``weight_hh``.

    References:
        Orvieto et al., *Resurrecting Recurrent Neural Networks for Long Sequences*, 2023,
        section 3 and appendix A.
    """

    name: ClassVar[str] = "lru"
    choose_when: ClassVar[str] = (
        "Very long sequences in deep stacks with nonlinear blocks in between."
    )
    gates: ClassVar[tuple[str, ...]] = ("real", "imaginary")
    states: ClassVar[tuple[str, ...]] = ("h", "imaginary")
    per_unit: ClassVar[Mapping[str, float]] = {"nu": -1.0, "theta": 0.0, "gamma": 0.0}

    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        if not 0 <= self.r_min <= self.r_max <= 1:
            raise ValueError(
                f"LRU: expected 0 <= r_min <= r_max <= 1, got {self.r_min} and {self.r_max}"
            )
        if not 0 < self.max_phase <= 2 * math.pi:
            raise ValueError(f"LRU: max_phase must be above 0 and up to 2π, got {self.max_phase}")

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_ring_(weights, self.r_min, self.r_max, self.max_phase)
        inputs = weights["weight_ih"]
        nn.init.normal_(inputs, std=(2 * inputs.shape[1]) ** -0.5)
        if "bias_ih" in weights:
            nn.init.zeros_(weights["bias_ih"])

    def linear(self, x: Gates, unit: PerUnit) -> tuple[Tensor, Tensor]:
        cos, sin, scale = _turn(unit)
        return torch.complex(cos, sin), torch.complex(scale * x.real, scale * x.imaginary)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        re, im = state
        cos, sin, scale = _turn(unit)
        return (
            cos * re - sin * im + scale * x.real,
            sin * re + cos * im + scale * x.imaginary,
        )


def _turn(unit: PerUnit) -> tuple[Tensor, Tensor, Tensor]:
    """The eigenvalue, real and imaginary part, and the factor of the input."""
    size, angle = torch.exp(-torch.exp(unit.nu)), torch.exp(unit.theta)
    return size * torch.cos(angle), size * torch.sin(angle), torch.exp(unit.gamma)
