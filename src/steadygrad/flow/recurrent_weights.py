r"""What the recurrent weights alone say of the gradient: norms, radii, Pascanu's two conditions.

For :math:`h_t = \phi(W x_t + R h_{t-1} + b)` with :math:`|\phi'| \le \gamma`

.. math::
    \sigma_{\max}(R) < 1 / \gamma \;&\Rightarrow\; \text{the gradient vanishes, whatever the data}
    \\
    \text{the gradient explodes} \;&\Rightarrow\; \sigma_{\max}(R) > 1 / \gamma

The second is necessary, not sufficient: what really happens depends on where the units sit, and is
measured by `steadygrad.flow.lyapunov_exponents`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.cells import Elman
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.singular import svdvals
from steadygrad.nn import view

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "recurrent_weights",
            "1",
            "Norm and spectral radius of the recurrent matrix, against the bounds for vanishing.",
        )
    ),
)

LARGEST_SLOPE = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}


@dataclass(frozen=True)
class RecurrentWeights:
    r"""Spectra of the recurrent matrices of one layer and direction.

    Attributes:
        spectral_norm: Per recurrent gate the largest singular value :math:`\sigma_{\max}(R_g)`.
        spectral_radius: Per gate the largest \|eigenvalue\| :math:`\rho(R_g)`; None where h is
            projected and R is not square. Never above the norm.
        slope_bound: :math:`\gamma`; None for a cell of which the conditions do not speak.
    """

    spectral_norm: dict[str, float]
    spectral_radius: dict[str, float | None]
    slope_bound: float | None

    @property
    def must_vanish(self) -> bool | None:
        """Sufficient for vanishing; None for cells with gates, of which the theorem is silent."""
        if self.slope_bound is None:
            return None
        return max(self.spectral_norm.values()) * self.slope_bound < 1

    @property
    def can_explode(self) -> bool | None:
        """Necessary for exploding; None for cells with gates."""
        if self.slope_bound is None:
            return None
        return max(self.spectral_norm.values()) * self.slope_bound > 1


def recurrent_weights(
    layer: nn.Module, *, index: int = 0, reverse: bool = False
) -> RecurrentWeights:
    """Measure the recurrent matrices of one layer and direction.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a steadygrad layer.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.

    Raises:
        TypeError: No recurrent layer.
        ValueError: Its cell multiplies by no recurrent matrix.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 2.1 and supplement.

    Example:
        >>> layer = torch.nn.RNN(2, 8)
        >>> _ = torch.nn.init.orthogonal_(layer.weight_hh_l0, gain=0.9)
        >>> recurrent_weights(layer).must_vanish
        True
    """
    seen = view(layer)
    seen.check(index, reverse)
    cell = seen.cell
    with torch.no_grad():
        weights = seen.weights(index, reverse, dtype=torch.float64)
        if not cell.recurrent:
            raise ValueError(
                f"{type(layer).__name__}: its cell {cell.name} has no recurrent matrix"
            )
        blocks = dict(
            zip(cell.recurrent, weights.weight_hh.chunk(len(cell.recurrent)), strict=True)
        )
        norms = {gate: float(svdvals(block)[0]) for gate, block in blocks.items()}
        radii = {gate: _radius(block) for gate, block in blocks.items()}
    slope = LARGEST_SLOPE[cell.nonlinearity] if isinstance(cell, Elman) else None
    return RecurrentWeights(norms, radii, slope)


def _radius(block: Tensor) -> float | None:
    if block.shape[0] != block.shape[1]:
        return None
    if not block.isfinite().all():  # where the decomposition raises
        return math.nan
    return float(torch.linalg.eigvals(block).abs().max())
