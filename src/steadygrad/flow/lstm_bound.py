r"""How much an LSTM can stretch the gradient in one step: the bound of Hou et al."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.cells import LSTM as LSTMCell
from steadygrad.nn import cell_of
from steadygrad.nn.quantise import RowNorm, unit_rows

GATES = LSTMCell.gates


@dataclass(frozen=True)
class LSTMBound:
    r"""Factors of the bound at every time step.

    Attributes:
        lambda1: ``(T, B)``, factor of :math:`\lVert \partial\xi/\partial h_t \rVert`.
        lambda2: ``(T, B)``, factor of :math:`\lVert \partial\xi/\partial c_{t+1} \rVert`.
        form: ``"plain"``, ``"weight"``, ``"layer"`` or ``"batch"``.
        norms: Per gate the factor that stands for :math:`\lVert W_h \rVert`, largest over time.
        squared: Whether the bound is one on squared norms summed over the batch (batch norm).
    """

    lambda1: Tensor
    lambda2: Tensor
    form: str
    norms: dict[str, float]
    squared: bool = False

    @property
    def may_explode(self) -> bool:
        """Whether any λ1 exceeds one: necessary for explosion where λ2 is zero, not sufficient."""
        return bool((self.lambda1 > 1).any())


@torch.no_grad()
def lstm_bound(layer: nn.Module, x: Tensor, state: Any = None) -> LSTMBound:
    r"""Bound how much one step back in time can stretch the gradient of an LSTM.

    For a loss :math:`\xi` at a later step, with spectral norms,

    .. math::
        \lVert \partial\xi/\partial h_{t-1} \rVert &\le
            \lambda_1 \lVert \partial\xi/\partial h_t \rVert
            + \lambda_2 \lVert \partial\xi/\partial c_{t+1} \rVert \\
        \lambda_2 &= \tfrac14 \lVert W_{hi} \rVert + \tfrac{\gamma_1}4 \lVert W_{hf} \rVert
            + \lVert W_{ha} \rVert, \qquad
        \lambda_1 = \lambda_2 + \tfrac14 \lVert W_{ho} \rVert

    and :math:`\gamma_1 = \max_j |c_{t-1,j}|`. Where a product is normalised, its factor
    :math:`\lVert W_h \rVert` becomes

    - weight norm: :math:`\max_j g_j \, \lVert D^{-1} W_h \rVert`, D the norms of the rows;
    - layer norm: :math:`\max_j g_j / \sigma_t \, \lVert W_h \rVert`, :math:`\sigma_t` per sequence;
    - batch norm: :math:`\max_j (g_j / \sigma_{t,j}) \lVert W_h \rVert`, and then the bound is one
      on squared norms summed over the batch,
      :math:`\Lambda_2 = \tfrac12 n_i^2 + \tfrac12 \gamma_2^2 n_f^2 + 8 n_a^2`,
      :math:`\Lambda_1 = \Lambda_2 + \tfrac14 n_o^2`, :math:`\gamma_2` the largest over the batch.

    The bound is loose (a factor of five on random networks): a measure of what *can* happen.
    Sign matrices have :math:`\lVert W \rVert \ge \sqrt H`, so one-bit weights can always explode
    and the normalised forms, which do not see the scale of W, cannot be told from full precision.

    Args:
        layer: An LSTM of one layer and one direction: `torch.nn.LSTM`, ours, quantised or not,
            layer- or batch-normalised.
        x: ``(T, B, I)``, or ``(B, T, I)`` for a ``batch_first`` layer.
        state: Initial ``(h, c)`` as the layer takes it; zeros if not given.

    Raises:
        TypeError: Any other layer.
        ValueError: Several layers or directions, a projection, or an input of another shape.

    References:
        Hou et al., *Normalization Helps Training of Quantized LSTM*, NeurIPS 2019: Proposition 1
        and its corollary, Propositions 2 to 4 (normalised forms). :math:`\gamma` is not defined on
        the poster; what the derivation needs is used. For batch norm the poster takes g and σ at
        the largest g; the largest g/σ, used here, is what holds always.
    """
    _check(layer, x)
    x = x.transpose(0, 1) if getattr(layer, "batch_first", False) else x
    weight = getattr(layer, "weight_hh_l0")  # noqa: B009
    norms, form = _factors(layer, weight)
    cells = _cell_states(layer, x, state)
    gamma = cells.abs().amax(-1)  # (T, B), of c before each step
    per_gate = {g: n.expand_as(gamma) for g, n in norms.items()}
    lambda1, lambda2 = lambdas(per_gate, gamma)
    return LSTMBound(lambda1, lambda2, form, {g: float(n.max()) for g, n in norms.items()})


def lambdas(norms: dict[str, Tensor], gamma: Tensor) -> tuple[Tensor, Tensor]:
    """λ1 and λ2 of a factor per gate and the largest |c| before the step, all ``(T, B)``."""
    lambda2 = norms["input"] / 4 + gamma * norms["forget"] / 4 + norms["candidate"]
    return lambda2 + norms["output"] / 4, lambda2


def squared_lambdas(norms: dict[str, Tensor], gamma: Tensor) -> tuple[Tensor, Tensor]:
    """The same for batch norm: factors of squared norms summed over the batch."""
    i, f, a, o = (norms[g] ** 2 for g in GATES)
    lambda2 = i / 2 + gamma**2 * f / 2 + 8 * a
    return lambda2 + o / 4, lambda2


def _factors(layer: nn.Module, weight: Tensor) -> tuple[dict[str, Tensor], str]:
    steps: Any = getattr(layer, "parametrizations", {})
    rows = [s for s in steps["weight_hh_l0"] if isinstance(s, RowNorm)] if steps else []
    norms = spectral_norms(unit_rows(weight) if rows else weight)
    if not rows:
        return norms, "plain"
    gains = rows[0].gain.chunk(len(GATES))
    return {g: n * gain.abs().max() for (g, n), gain in zip(norms.items(), gains, strict=True)}, (
        "weight"
    )


def spectral_norms(weight: Tensor) -> dict[str, Tensor]:
    """Largest singular value of each gate's block of ``weight_hh``."""
    blocks = zip(GATES, weight.chunk(len(GATES)), strict=True)
    return {g: torch.linalg.matrix_norm(block, 2) for g, block in blocks}


def _cell_states(layer: Any, x: Tensor, state: Any) -> Tensor:
    """``(T, B, H)``, c before every step, written out from the equations."""
    steps, batch, _ = x.shape
    zeros = x.new_zeros(batch, layer.hidden_size)
    h, c = (zeros, zeros) if state is None else (s.reshape(batch, -1) for s in state)
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0) if layer.bias else 0
    before = []
    for t in range(steps):
        before.append(c)
        i, f, a, o = (x[t] @ layer.weight_ih_l0.t() + h @ layer.weight_hh_l0.t() + bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * a.tanh()
        h = o.sigmoid() * c.tanh()
    return torch.stack(before)


def _check(layer: Any, x: Tensor) -> None:
    if not isinstance(cell_of(layer), LSTMCell):
        raise TypeError(f"lstm_bound: expected an LSTM, got {type(layer).__name__}")
    if layer.num_layers != 1 or layer.bidirectional or layer.proj_size:
        raise ValueError(
            "lstm_bound: expected one layer, one direction, no projection; got "
            f"num_layers={layer.num_layers}, bidirectional={layer.bidirectional}, "
            f"proj_size={layer.proj_size}. Measure the layers one by one"
        )
    if x.dim() != 3 or x.shape[-1] != layer.input_size:
        raise ValueError(
            f"lstm_bound: expected an input (T, B, {layer.input_size}), got {tuple(x.shape)}"
        )
