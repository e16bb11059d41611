"""An LSTM with quantised weights and the normalisation that lets it train."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import LSTMLayerNorm
from steadygrad.nn.batch_norm_lstm import BatchNormLSTM
from steadygrad.nn.packed import Packed, pack
from steadygrad.nn.quantise import RowNorm, quantise_
from steadygrad.nn.recurrent import Recurrent

NORMS = ("none", "weight", "layer", "batch-shared", "batch-separate")


@final
class QuantisedLSTM(nn.Module):
    r"""LSTM with quantised weights, normalised as in Hou et al.

    .. math::
        a_k = N(Q(W_k) x_t) + N(Q(R_k) h_{t-1}) + b_k, \qquad k = i, f, g, o

    and the LSTM's equations after that; N is applied to either term for itself. Without it one-bit
    weights make the gradient explode (:math:`\lVert Q \rVert \ge \sqrt H`, see
    `steadygrad.flow.lstm_bound`); all of the normalisations are blind to the scale of Q(W).

    Args:
        input_size: Features of the input, ``I``. One-hot characters are what the paper's sizes
            decode to.
        hidden_size: Units, ``H``.
        method: As `quantise_`; ``"full"`` for full precision, to compare with.
        norm: ``"none"``, ``"weight"`` (gains start at the row norms), ``"layer"`` (the cell
            `steadygrad.cells.LSTMLayerNorm` without its normalised memory; gains start at 0.1),
            ``"batch-shared"`` (gains start at 1) or ``"batch-separate"`` (at 0.1; needs
            ``max_length``), both `BatchNormLSTM` without its normalised memory.
        bits: Of ``"alternating"``.
        num_layers: Layers stacked.
        inputs: Whether the first layer's input weights are quantised, too.
        max_length: Time steps with statistics of their own, of ``"batch-separate"``.
        **options: As `Recurrent`: ``batch_first``, ``dropout``, ``backend``, ...

    Shapes:
        As `torch.nn.LSTM`. There is one bias (``bias_hh`` stays zero), so that an export has the
        paper's size.

    Attributes:
        rnn: The layer inside. `steadygrad.diagnose` sees it unless it is batch-normalised, which
            `steadygrad.flow.step_gradients` sees.

    References:
        Hou et al., *Normalization Helps Training of Quantized LSTM*, NeurIPS 2019.

    Example:
        >>> layer = QuantisedLSTM(50, 512)  # binary, no normalisation
        >>> round(layer.pack().nbytes / 1024)  # KB, as published for Penn Treebank
        149
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        method: str = "binary",
        norm: str = "none",
        *,
        bits: int | None = None,
        num_layers: int = 1,
        inputs: bool = True,
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"QuantisedLSTM: norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if norm.startswith("batch") and num_layers != 1:
            raise ValueError("QuantisedLSTM: batch normalisation is offered for one layer")
        length = {"max_length": max_length} if max_length is not None else {}
        self.method, self.norm = method, norm
        self.rnn = _layer(input_size, hidden_size, norm, num_layers, options | length)
        if method != "full":
            by_row = "weight" if norm == "weight" else "none"
            quantise_(self.rnn, method, bits=bits, norm=by_row, inputs=inputs)
        elif norm == "weight":
            for name in [n for n, _ in self.rnn.named_parameters() if n.startswith("weight_")]:
                rows = RowNorm(getattr(self.rnn, name))
                parametrize.register_parametrization(self.rnn, name, rows)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Run the layer; see the class for shapes."""
        return self.rnn(input, hx)

    def pack(self) -> Packed:
        """The layer with its weights as bits, for `Packed.save`; `unpack_` reads it back."""
        return pack(self.rnn)

    def extra_repr(self) -> str:
        return f"method={self.method!r}, norm={self.norm!r}"


def _layer(
    input_size: int, hidden_size: int, norm: str, num_layers: int, options: dict[str, Any]
) -> nn.Module:
    if norm.startswith("batch"):
        kind, gain = norm.removeprefix("batch-"), 1.0 if norm == "batch-shared" else 0.1
        return BatchNormLSTM(
            input_size,
            hidden_size,
            "separate" if kind == "separate" else "shared",
            gain=gain,
            memory=False,
            **options,
        )
    if norm == "layer":
        cell = LSTMLayerNorm(memory=False)
        layer = Recurrent(cell, input_size, hidden_size, num_layers, bias=False, **options)
        for name, parameter in layer.named_parameters():
            if name.startswith("gain"):
                nn.init.constant_(parameter, 0.1)
        return layer
    layer = Recurrent(LSTMCell(), input_size, hidden_size, num_layers, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_hh"):
            torch.nn.init.zeros_(parameter).requires_grad_(False)
    return layer
