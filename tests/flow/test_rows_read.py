"""Which rows of a batch are measured: those that the loss reads."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import steadygrad as sg
from steadygrad.flow import gradient_through_time


@pytest.mark.parametrize("is_packed", [False, True])
def test_rows_that_the_loss_reads_are_measured(is_packed: bool) -> None:
    """Of 12 sequences the loss reads the last two, whose gradient is another than the others'."""
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 8), torch.randn(20, 12, 3)
    x[:, :10] *= 20  # shut gates: another gradient altogether
    lengths = torch.arange(20, 8, -1)

    def loss() -> torch.Tensor:
        given = pack_padded_sequence(x, lengths) if is_packed else x
        return layer(given)[1][0, 10:].square().sum()

    whole = gradient_through_time(layer, loss, lag=5).flows["gru"]
    some = gradient_through_time(layer, loss, lag=5, rows=2).flows["gru"]
    assert some.by_lag.log10_ratio[:9] == pytest.approx(whole.by_lag.log10_ratio[:9], abs=1e-9)
    assert "over 2 sequences" in some.exactness
    found = sg.diagnose(layer, loss, lag=5, rows=2)
    assert found.verdict == "healthy", found


def test_rows_that_the_loss_reads_are_watched() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 8), torch.randn(20, 12, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)
    with sg.watch(layer, optimizer, lag=5, rows=2, every=1) as watch:
        layer(x)[1][0, 10:].square().sum().backward()
        optimizer.step()
        assert watch.verdict == "healthy" and watch.flow["gru"].by_lag.max_lag == 19, watch
