"""Quantise the weights of a recurrent layer in training, and take it back."""

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from steadygrad.nn.batch_norm_lstm import BatchNormLSTM
from steadygrad.nn.layer_view import cell_of
from steadygrad.nn.quantisers import QUANTISERS, LossAware, Quantiser

M = TypeVar("M", bound=nn.Module)

_SHORT = {"binary": "binary-connect", "ternary": "ter-connect"}
_KINDS = ("weight_ih", "weight_hh")


class RowNorm(nn.Module):
    r"""Weight normalisation after quantisation: row j becomes :math:`g_j W_j / |W_j|`.

    It makes the product blind to the scale of :math:`W`, which is what a quantiser distorts.

    Args:
        weight: Full-precision weight; g starts at the norms of its rows.

    References:
        Salimans and Kingma, *Weight Normalization*, 2016; Hou et al., 2019.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(weight.detach().norm(dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with rows of norm `gain`."""
        return self.gain[:, None] * unit_rows(weight)


def unit_rows(weight: Tensor) -> Tensor:
    """Rows of norm one; a row of zeros stays one."""
    return weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-8)


def quantise_(
    layer: M,
    method: str = "binary",
    *,
    bits: int | None = None,
    norm: str = "none",
    inputs: bool = True,
) -> M:
    r"""Compute with quantised weights from now on; train the full-precision ones behind them.

    ``weight_ih_l*`` and ``weight_hh_l*`` get a torch parametrisation, gate by gate; biases and a
    projection keep full precision. The gradient at the quantised weight is handed straight
    through. An optimiser made before holds the right parameters still; make it after all the same
    if ``norm="weight"``, which brings gains to train.

    What happens to the gradient: any matrix of signs has :math:`\lVert W \rVert \ge \sqrt H`, so
    one-bit weights without a normalisation explode; see `steadygrad.flow.lstm_bound`.

    Args:
        layer: A `torch.nn.RNN`, `LSTM`, `GRU` or one of our layers of any cell, in place.
        method: ``"binary"`` (the same as ``"binary-connect"``), ``"ternary"``
            (``"ter-connect"``), ``"bwn"``, ``"lab"``, ``"twn"``, ``"lat"`` or ``"alternating"``.
        bits: Of ``"alternating"`` alone: 1 to 8; 2 if not given.
        norm: ``"none"``, or ``"weight"`` for weight normalisation after the quantisation.
        inputs: Whether to quantise the input weights of the first layer, too; the paper leaves
            them where the input has one feature. Those of higher layers always are.

    Returns:
        ``layer``, for chaining.

    Raises:
        TypeError: ``layer`` is no recurrent layer.
        ValueError: An unknown method or norm, bits that do not apply, a layer quantised already.

    Compiled: yes, by every back end; the quantisation runs once per call, before the loop.

    References:
        Hou et al., *Normalization Helps Training of Quantized LSTM*, NeurIPS 2019.
    """
    kind = _check(layer, method, bits, norm)
    blocks = _blocks(layer)
    for name in _weights(layer):
        if not inputs and name.startswith("weight_ih_l0"):
            continue
        weight: Any = getattr(layer, name)
        options = {} if bits is None else {"bits": bits}
        quantiser = kind(blocks[name.partition("_l")[0]], weight, **options)
        rows = RowNorm(weight) if norm == "weight" else None
        parametrize.register_parametrization(layer, name, quantiser)
        if rows is not None:
            parametrize.register_parametrization(layer, name, rows)
    return layer


def dequantise_(layer: M, keep: str = "full") -> M:
    """Undo `quantise_`: plain weights again.

    Args:
        layer: A layer that `quantise_` treated, in place.
        keep: ``"full"`` for the full-precision weights as trained (the very parameters of before),
            ``"quantised"`` for the values that were computed with.

    Raises:
        ValueError: Nothing in ``layer`` is quantised, or another word for ``keep``.
    """
    if keep not in ("full", "quantised"):
        raise ValueError(f"dequantise_: keep must be 'full' or 'quantised', got {keep!r}")
    for name in quantised(layer):
        parametrize.remove_parametrizations(layer, name, leave_parametrized=keep == "quantised")
    return layer


def quantised(layer: nn.Module) -> dict[str, Quantiser]:
    """Quantiser of every weight of ``layer`` that `quantise_` treated.

    Raises:
        ValueError: There is none.
    """
    found = {
        name: steps[0]
        for name, steps in getattr(layer, "parametrizations", {}).items()
        if isinstance(steps[0], Quantiser)
    }
    if not found:
        raise ValueError(
            f"{type(layer).__name__} has no quantised weight; call steadygrad.nn.quantise_ first"
        )
    return found


def follow_adam(layer: nn.Module, optimizer: torch.optim.Optimizer) -> RemovableHandle:
    """Give ``"lab"`` and ``"lat"`` Adam's second moment after every step; call once.

    Args:
        layer: A quantised layer whose full-precision weights ``optimizer`` trains.
        optimizer: `torch.optim.Adam` or AdamW.

    Returns:
        Take it off with ``.remove()``.
    """
    pairs = [
        (cast(Tensor, cast(nn.ModuleDict, layer.parametrizations)[name].original), q.second_moment)
        for name, q in quantised(layer).items()
        if isinstance(q, LossAware)
    ]

    def copy(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for weight, moment in pairs:
            state = optimizer.state.get(weight, {})
            if "exp_avg_sq" in state:
                moment.copy_(state["exp_avg_sq"])

    return optimizer.register_step_post_hook(copy)


def _weights(layer: nn.Module) -> list[str]:
    return [n for n, _ in layer.named_parameters(recurse=False) if n.startswith(_KINDS)]


def _blocks(layer: nn.Module) -> dict[str, int]:
    if isinstance(layer, BatchNormLSTM):
        return dict.fromkeys(_KINDS, 4)
    cell = cell_of(layer)
    return {"weight_ih": len(cell.gates), "weight_hh": len(cell.recurrent)}


def _check(layer: nn.Module, method: str, bits: int | None, norm: str) -> type[Quantiser]:
    _blocks(layer)  # refuses what is no recurrent layer
    known = [*_SHORT, *QUANTISERS]
    if method not in known:
        raise ValueError(f"quantise_: method must be one of {', '.join(known)}, got {method!r}")
    if bits is not None and method != "alternating":
        raise ValueError(f"quantise_: bits={bits} is for 'alternating' alone, not for {method!r}")
    if norm not in ("none", "weight"):
        raise ValueError(
            f"quantise_: norm must be 'none' or 'weight', got {norm!r}; layer and batch "
            "normalisation change the step: use steadygrad.nn.QuantisedLSTM"
        )
    if any(n.startswith(_KINDS) for n in getattr(layer, "parametrizations", {})):
        raise ValueError(
            "quantise_: a weight of this layer is parametrised already; undo that first "
            "(steadygrad.nn.dequantise_, or torch.nn.utils.parametrize.remove_parametrizations)"
        )
    return QUANTISERS[_SHORT.get(method, method)]
