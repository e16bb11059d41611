"""Drop-in layers: the names, arguments and weights of `torch.nn.RNN`, `LSTM` and `GRU`."""

from typing import Any, final

import torch
from torch import nn

from steadygrad.cells import GRU as GRUCell
from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import Cell, Elman
from steadygrad.nn.recurrent import Recurrent


@final
class RNN(Recurrent):
    """`torch.nn.RNN` with the gradient visible at every time step; also ``"sigmoid"``.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the hidden state.
        num_layers: Layers stacked.
        nonlinearity: ``"tanh"``, ``"relu"`` or ``"sigmoid"`` (which torch does not have).
        **options: As `Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *options: Any,
        **named: Any,
    ) -> None:
        if "proj_size" in named:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        cell = Elman(nonlinearity)  # type: ignore[arg-type]
        super().__init__(cell, input_size, hidden_size, num_layers, *options, **named)

    @property
    def nonlinearity(self) -> str:
        """The cell's nonlinearity."""
        assert isinstance(self.cell, Elman)
        return self.cell.nonlinearity


@final
class LSTM(Recurrent):
    """`torch.nn.LSTM` with the gradient visible at every time step; arguments as there."""

    def __init__(self, input_size: int, hidden_size: int, *options: Any, **named: Any) -> None:
        super().__init__(LSTMCell(), input_size, hidden_size, *options, **named)


@final
class GRU(Recurrent):
    """`torch.nn.GRU` with the gradient visible at every time step; arguments as there."""

    def __init__(self, input_size: int, hidden_size: int, *options: Any, **named: Any) -> None:
        if "proj_size" in named:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__(GRUCell(), input_size, hidden_size, *options, **named)


def cell_of(layer: nn.Module) -> Cell:
    """The recurrence that a layer runs, torch's or ours.

    Raises:
        TypeError: Any other module.
    """
    if isinstance(layer, Recurrent):
        return layer.cell
    if isinstance(layer, nn.LSTM):
        return LSTMCell()
    if isinstance(layer, nn.GRU):
        return GRUCell()
    if isinstance(layer, nn.RNN):
        return Elman(layer.nonlinearity)  # type: ignore[arg-type]
    raise TypeError(
        f"expected a torch.nn.RNN, LSTM or GRU or a steadygrad layer, got {type(layer).__name__}"
    )


def twin_of(layer: nn.Module, dtype: torch.dtype | None = None) -> Recurrent:
    """Build our layer with the weights of a torch layer, or a copy of one of ours.

    Weights are read as attributes, so parametrised ones arrive as they are used.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a `Recurrent`.
        dtype: Of the twin; that of ``layer`` if not given.

    Raises:
        TypeError: Any other module.
    """
    options: dict[str, Any] = {
        name: getattr(layer, name, None)
        for name in ("num_layers", "bias", "batch_first", "bidirectional", "proj_size")
    }
    cell = cell_of(layer)
    weight = layer.weight_ih_l0
    assert isinstance(weight, torch.Tensor)
    assert isinstance(layer.input_size, int) and isinstance(layer.hidden_size, int)
    twin: Any = nn.utils.skip_init(
        Recurrent,
        cell,
        layer.input_size,
        layer.hidden_size,
        **options,
        device=weight.device,
        dtype=dtype or weight.dtype,
    )
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(getattr(layer, name))
        for name, value in twin.named_buffers():  # constants of the cell
            value.copy_(getattr(layer, name))
    if isinstance(layer, Recurrent):  # what bounds or cuts its gradient is part of what it does
        twin.truncate, twin.loop_clip = layer.truncate, layer.loop_clip
    twin.train(layer.training)
    return twin
