"""Unitary evolution RNN: a complex state multiplied by a product of cheap unitary maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.cells.exprnn import reset_biases_

ROWS = 7
"""Rows of ``weight_hh``: three diagonals of angles, then Re and Im of two reflections."""


@lru_cache(maxsize=32)
def permutation(size: int, seed: int) -> Tensor:
    """The fixed permutation of a layer of ``size`` units."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def unitary(stored: Tensor, order: Tensor) -> Tensor:
    r"""The matrix :math:`D_3 R_2 F^{-1} D_2 \Pi R_1 F D_1`, complex ``(H, H)``, of ``(7, H)``."""
    stored = stored.double() if stored.device.type != "mps" else stored
    size = stored.shape[1]
    turns = torch.exp(1j * stored[:3])
    rows = torch.eye(size, dtype=turns.dtype, device=stored.device)
    # Each line acts on the columns of the identity, from right to left in the formula.
    rows = turns[0].unsqueeze(1) * rows
    rows = torch.fft.fft(rows, dim=0, norm="ortho")  # "ortho" makes it unitary
    rows = _reflect(torch.complex(stored[3], stored[4]), rows)[order]
    rows = turns[1].unsqueeze(1) * rows
    rows = torch.fft.ifft(rows, dim=0, norm="ortho")
    rows = _reflect(torch.complex(stored[5], stored[6]), rows)
    return turns[2].unsqueeze(1) * rows


def _reflect(v: Tensor, rows: Tensor) -> Tensor:
    return rows - 2 * torch.outer(v, v.conj() @ rows) / (v.real.square() + v.imag.square()).sum()


@final
@dataclass(frozen=True)
class Unitary(Cell):
    r"""Unitary evolution RNN, its complex state as real and imaginary part.

    .. math::
        z_t &= W x_t + b + U s_{t-1}, \qquad
        U = D_3 R_2 F^{-1} D_2 \Pi R_1 F D_1  \\
        s_t &= \frac{z_t}{|z_t|} \max(0, |z_t| + b_m), \qquad h_t = \operatorname{Re} s_t

    :math:`D_k = \operatorname{diag}(e^{i w_k})`, :math:`R_k = I - 2 v_k v_k^* / \|v_k\|^2`,
    :math:`F` the unitary Fourier transform, :math:`\Pi` a fixed permutation. :math:`U` is unitary
    for any values of the 7H stored numbers, so the gradient keeps its length through it. modReLU
    can only shorten it while :math:`b_m \le 0`: then :math:`\|\partial L/\partial s_t\| \le
    \|\partial L/\partial s_T\|`, the paper's bound. A positive :math:`b_m` stretches components
    orthogonal to :math:`z` by :math:`1 + b_m/|z|`. The matrix is built once per sequence, with H
    fast Fourier transforms, instead of being applied factor by factor at each step.

    The layer outputs the real part; the paper reads both parts, and the imaginary one is the second
    state here. The paper has no biases b (they start at zero; ``bias=False`` omits them), and it
    learns the initial state (pass one in). modReLU is defined as 0 where :math:`z = 0`.

    Args:
        seed: Of the permutation :math:`\Pi`.

    Shapes:
        ``h, imaginary (B, H)``; ``weight_ih (2H, I)``, real rows first; ``weight_hh (7, H)``: the
        angles :math:`w_1, w_2, w_3`, then Re and Im of :math:`v_1` and :math:`v_2`;
        ``mod_bias (H,)`` is :math:`b_m`.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016, sections 4
        and 5 (the start of the weights too).
    """

    name: ClassVar[str] = "urnn"
    choose_when: ClassVar[str] = (
        "Long copying tasks with few recurrent parameters: seven numbers per unit."
    )
    gates: ClassVar[tuple[str, ...]] = ("real", "imaginary")
    states: ClassVar[tuple[str, ...]] = ("h", "imaginary")
    per_unit: ClassVar[Mapping[str, float]] = {"mod_bias": 0.0}

    seed: int = 0

    def stored_shape(self, hidden_size: int) -> tuple[int, int]:
        return ROWS, hidden_size

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        order = permutation(stored.shape[1], self.seed).to(stored.device)
        u = unitary(stored, order)
        return torch.cat([u.real, u.imag]).to(stored.dtype)

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        reset_biases_(weights)
        for part in weights["weight_ih"].chunk(2):
            nn.init.xavier_uniform_(part)
        nn.init.uniform_(weights["weight_hh"][:3], -torch.pi, torch.pi)
        nn.init.uniform_(weights["weight_hh"][3:], -1, 1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        re, im = state
        z_re = x.real + recur.real(re) - recur.imaginary(im)
        z_im = x.imaginary + recur.imaginary(re) + recur.real(im)
        square = z_re * z_re + z_im * z_im
        # The clamp avoids sqrt(0): its slope is infinite, and inf * 0 in the backward pass is nan.
        size = torch.sqrt(torch.where(square > 0, square, 1.0))
        scale = torch.where(square > 0, torch.relu(size + unit.mod_bias) / size, 0.0)
        return scale * z_re, scale * z_im
