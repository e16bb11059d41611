r"""How much an LSTM can stretch the gradient in one step: the bound of Hou et al."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import LSTMLayerNorm
from steadygrad.flow.singular import svdvals
from steadygrad.nn import BatchNormLSTM, cell_of
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
    if isinstance(layer, BatchNormLSTM):
        return _batch(layer, x, state)
    steps = list(_steps(layer, x, state))
    gamma = torch.stack([c.abs().amax(-1) for c, _ in steps])  # (T, B), of c before each step
    norms, form = _factors(layer)
    scales = [scale for _, scale in steps]
    if scales[0] is not None:
        norms = {g: n * torch.stack([s[g] for s in scales if s]) for g, n in norms.items()}
    per_gate = {g: n.expand_as(gamma) for g, n in norms.items()}
    lambda1, lambda2 = lambdas(per_gate, gamma)
    return LSTMBound(lambda1, lambda2, form, {g: float(n.max()) for g, n in per_gate.items()})


def lambdas(norms: dict[str, Tensor], gamma: Tensor) -> tuple[Tensor, Tensor]:
    """λ1 and λ2 of a factor per gate and the largest |c| before the step, all ``(T, B)``."""
    lambda2 = norms["input"] / 4 + gamma * norms["forget"] / 4 + norms["candidate"]
    return lambda2 + norms["output"] / 4, lambda2


def squared_lambdas(norms: dict[str, Tensor], gamma: Tensor) -> tuple[Tensor, Tensor]:
    """The same for batch norm: factors of squared norms summed over the batch."""
    i, f, a, o = (norms[g] ** 2 for g in GATES)
    lambda2 = i / 2 + gamma**2 * f / 2 + 8 * a
    return lambda2 + o / 4, lambda2


def _factors(layer: Any) -> tuple[dict[str, Tensor], str]:
    """Per gate the factor that does not depend on time, and the form of the bound."""
    weight = layer.weight_hh_l0
    steps: Any = getattr(layer, "parametrizations", {})
    rows = [s for s in steps["weight_hh_l0"] if isinstance(s, RowNorm)] if steps else []
    norms = spectral_norms(unit_rows(weight) if rows else weight)
    if isinstance(cell_of(layer), LSTMLayerNorm):
        return norms, "layer"
    if not rows:
        return norms, "plain"
    gains = zip(norms.items(), rows[0].gain.chunk(len(GATES)), strict=True)
    return {g: n * gain.abs().max() for (g, n), gain in gains}, "weight"


def spectral_norms(weight: Tensor) -> dict[str, Tensor]:
    """Largest singular value of each gate's block of ``weight_hh``."""
    blocks = zip(GATES, weight.chunk(len(GATES)), strict=True)
    return {g: svdvals(block)[0] for g, block in blocks}


def _steps(layer: Any, x: Tensor, state: Any) -> Iterator[tuple[Tensor, dict[str, Tensor] | None]]:
    """Yield c before every step, and per gate g/σ ``(B,)`` of a layer norm, from the equations."""
    batch = x.shape[1]
    zeros = x.new_zeros(batch, layer.hidden_size)
    h, c = (zeros, zeros) if state is None else (s.reshape(batch, -1) for s in state)
    b_ih, b_hh = (layer.bias_ih_l0, layer.bias_hh_l0) if layer.bias else (0, 0)
    normalised = isinstance(cell_of(layer), LSTMLayerNorm)
    for x_t in x:
        a = (x_t @ layer.weight_ih_l0.t() + b_ih).chunk(4, 1)
        b = (h @ layer.weight_hh_l0.t() + b_hh).chunk(4, 1)
        scales = _scales(layer, b) if normalised else None
        yield c, scales
        if normalised:
            a = [
                getattr(layer, f"gain_x_{g}_l0") * _normal(v) for g, v in zip(GATES, a, strict=True)
            ]
            b = [
                getattr(layer, f"gain_h_{g}_l0") * _normal(v) + getattr(layer, f"shift_{g}_l0")
                for g, v in zip(GATES, b, strict=True)
            ]
        i, f, g, o = (u + v for u, v in zip(a, b, strict=True))
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()


def _normal(value: Tensor) -> Tensor:
    return nn.functional.layer_norm(value, value.shape[-1:])


def _scales(layer: Any, products: Sequence[Tensor]) -> dict[str, Tensor]:
    """Largest gain over σ, by gate; σ with the small number that keeps it from zero."""
    return {
        gate: getattr(layer, f"gain_h_{gate}_l0").abs().max()
        / (value.var(-1, correction=0) + 1e-5).sqrt()
        for gate, value in zip(GATES, products, strict=True)
    }


def _batch(layer: BatchNormLSTM, x: Tensor, state: Any) -> LSTMBound:
    """The squared form; statistics of the batch in training, else the running ones."""
    zeros = x.new_zeros(x.shape[1], layer.hidden_size)
    h, c = (zeros, zeros) if state is None else (s.reshape(zeros.shape) for s in state)
    gains = layer.gain_h_l0.abs()
    before, scales = [], []
    held = {name: b.clone() for name, b in layer.named_buffers()}  # this look moves no average
    for t, x_t in enumerate(x):
        a, b = x_t @ layer.weight_ih_l0.t(), h @ layer.weight_hh_l0.t()
        at = min(t, len(layer.running_var_h) - 1)
        var = b.var(0, correction=0) if layer.training else layer.running_var_h[at]
        before.append(c.abs().max().expand(x.shape[1]))
        scales.append(torch.stack([s.max() for s in (gains / (var + 1e-5).sqrt()).chunk(4)]))
        a = layer.normalise("x", a, t) + layer.normalise("h", b, t) + layer.bias_l0
        i, f, g, o = a.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    for name, value in held.items():
        layer.get_buffer(name).copy_(value)
    gamma = torch.stack(before)
    factors = zip(spectral_norms(layer.weight_hh_l0).items(), torch.stack(scales, 1), strict=True)
    norms = {g: (n * s)[:, None].expand_as(gamma) for (g, n), s in factors}
    lambda1, lambda2 = squared_lambdas(norms, gamma)
    largest = {g: float(n.max()) for g, n in norms.items()}
    return LSTMBound(lambda1, lambda2, "batch", largest, squared=True)


def _check(layer: Any, x: Tensor) -> None:
    if isinstance(layer, BatchNormLSTM):
        if layer.memory:
            raise ValueError("lstm_bound: derived without a normalised memory; use memory=False")
        return
    cell = cell_of(layer)
    plain_norm = isinstance(cell, LSTMLayerNorm) and not cell.memory and not cell.joint
    if not isinstance(cell, LSTMCell) and not plain_norm:
        raise TypeError(
            "lstm_bound: expected an LSTM, or lstm-layer-norm with memory=False and joint=False; "
            f"got {cell!r}"
        )
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
