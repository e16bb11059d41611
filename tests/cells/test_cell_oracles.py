"""Every cell of the lineage against a second formulation that shares no code with it."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadygrad import cells
from steadygrad.cells import Cell
from steadygrad.cells.lstm_greff import Variant
from steadygrad.nn import Recurrent
from tests.cells import cell_oracles as by
from tests.cells.cell_oracles import GRU_GATES, LSTM_GATES, Loop

F64 = torch.float64
T, B, I, H = 9, 2, 3, 6
Oracle = Callable[[Recurrent, Tensor], Tensor]


def loop(gates: str, steps: Loop, recurrent: str | None = None) -> Oracle:
    return lambda layer, x: by.outputs(layer, x, gates, steps, recurrent)


def relu(a: Any) -> Any:
    return np.maximum(a, 0)


ORACLES: dict[Cell, Oracle] = {
    cells.Elman(): by.torch_layer(nn.RNN),
    cells.Elman("relu"): by.torch_layer(nn.RNN, nonlinearity="relu"),
    cells.Elman("sigmoid"): loop("candidate", by.elman(by.sig)),
    cells.Elman("identity"): loop("candidate", by.elman(lambda a: a)),
    cells.IRNN(): by.torch_layer(nn.RNN, nonlinearity="relu"),
    cells.LSTM(): by.torch_layer(nn.LSTM),
    cells.LSTM1997(): loop("input candidate output", by.lstm_1997),
    cells.LSTM1997(truncated=True): loop("input candidate output", by.lstm_1997),
    cells.LSTMPeephole(): loop(LSTM_GATES, by.graves()),
    cells.LSTMPeephole(peephole_gradient=False): loop(LSTM_GATES, by.graves()),
    cells.LSTMCoupled(): loop("input candidate output", by.coupled),
    cells.LSTMZoneout(0.3, 0.2): loop(LSTM_GATES, by.zoneout_lstm(0.3, 0.2)),
    cells.LSTMDropout(): by.torch_layer(nn.LSTM),
    cells.LSTMDropout(place="hidden"): by.torch_layer(nn.LSTM),
    cells.LSTMLayerNorm(): lambda layer, x: by.layer_norm_lstm(layer, x, False, True),
    cells.LSTMLayerNorm(joint=True): lambda layer, x: by.layer_norm_lstm(layer, x, True, True),
    cells.LSTMLayerNorm(memory=False): lambda layer, x: by.layer_norm_lstm(layer, x, False, False),
    cells.GRU(): by.torch_layer(nn.GRU),
    cells.GRUOriginal(): loop(GRU_GATES, by.gru_before),
    cells.GRUZoneout(0.3): loop(GRU_GATES, by.gru_after(0.3)),
    cells.GRULayerNorm(): lambda layer, x: by.layer_norm_gru(layer, x, False),
    cells.GRULayerNorm(joint=True): lambda layer, x: by.layer_norm_gru(layer, x, True),
    cells.MGU(): loop("forget candidate", by.mgu),
    cells.MUT1(): loop(GRU_GATES, by.mut(1), "reset candidate"),
    cells.MUT2(): loop(GRU_GATES, by.mut(2)),
    cells.MUT3(): loop(GRU_GATES, by.mut(3)),
    cells.IndRNN(): loop("candidate", by.ind_rnn(relu), ""),
    cells.IndRNN("tanh", 0.7): loop("candidate", by.ind_rnn(np.tanh, 0.7), ""),
    cells.Clockwork(3): loop("candidate", by.clockwork(3)),
    cells.Clockwork(4): loop("candidate", by.clockwork(4)),
}
for _variant in get_args(Variant):
    _blocks = by.greff_blocks(_variant)
    ORACLES[cells.LSTMGreff(_variant)] = loop(_blocks[0], by.graves(_variant), _blocks[1])


def made(cell: Cell) -> tuple[Recurrent, Tensor]:
    """A layer whose parameters are all off their start, and an input."""
    generator = torch.Generator().manual_seed(0)
    layer = Recurrent(cell, I, H, dtype=F64, backend="eager").eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-1, 1, generator=generator))
    return layer, torch.randn(T, B, I, dtype=F64, generator=generator)


def agrees(cell: Cell, oracle: Oracle) -> bool:
    layer, x = made(cell)
    with torch.no_grad():
        return torch.allclose(layer(x)[0], oracle(layer, x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", ORACLES, ids=repr)
def test_values_are_those_of_the_second_formulation(cell: Cell) -> None:
    assert agrees(cell, ORACLES[cell])
