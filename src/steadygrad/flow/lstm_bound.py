r"""How much an LSTM can stretch the gradient in one step: the bound of Hou et al."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import LSTMLayerNorm
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.singular import svdvals
from steadygrad.nn import BatchNormLSTM, cell_of, view
from steadygrad.nn.arrangement import time_axis
from steadygrad.nn.layer_view import Key
from steadygrad.nn.quantise import RowNorm, unit_rows
from steadygrad.scan import Layout, Observed, ScanCall, Weights, observe

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity("lstm_bound", "1", "The most by which one step of an LSTM can stretch a gradient.")
    ),
)

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
    if isinstance(layer, BatchNormLSTM):
        return _batch(layer, x.transpose(0, time_axis(layer, x)), state)
    before, scales = _states(layer, x, state)
    gamma = before.abs().amax(-1)  # (T, B)
    norms, form = _factors(layer)
    if scales is not None:
        norms = {gate: norm * scales[gate] for gate, norm in norms.items()}
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
    weight = view(layer).weights().weight_hh
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


def _states(layer: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Memory before every step ``(T, B, H)``; per gate g/σ ``(T, B)``, None without layer norm."""
    seen = view(layer)

    def look(
        _: Key, x: Tensor, weights: Weights, start: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, Observed]:
        found = observe(ScanCall(seen.cell, x, weights, start, layout))
        return found.hidden, found

    drive = seen.read(x, state)
    (observed,) = seen.run(drive, look)[1].values()
    h, c = (observed.states[n].unflatten(0, (len(drive.batch_sizes), -1)) for n in ("h", "c"))
    if not isinstance(seen.cell, LSTMLayerNorm):
        return c, None
    weights = seen.weights()
    units = dict(zip(seen.cell.per_unit, weights.per_unit, strict=True))
    made = nn.functional.linear(h, weights.weight_hh, weights.bias_hh)
    # Largest gain over σ, with the small number that keeps σ from zero.
    return c, {
        gate: units[f"gain_h_{gate}"].abs().max() / (product.var(-1, correction=0) + 1e-5).sqrt()
        for gate, product in zip(GATES, made.chunk(4, -1), strict=True)
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
    seen = view(layer)
    if len(seen.keys) != 1 or seen.output_size != seen.hidden_size or seen.is_step:
        raise ValueError(
            "lstm_bound: expected one layer, one direction, no projection; got "
            f"num_layers={seen.num_layers}, bidirectional={seen.num_directions == 2}, "
            f"h of {seen.output_size} features for {seen.hidden_size}. Measure layers one by one"
        )
    if x.dim() != 3 or x.shape[-1] != layer.input_size:
        raise ValueError(
            f"lstm_bound: expected an input (T, B, {layer.input_size}), got {tuple(x.shape)}"
        )
