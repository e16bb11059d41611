"""An LSTM with the interface of a plain recurrence."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.nn import LSTM


@final
class HiddenOnly(nn.Module):
    """Return the hidden state of an LSTM alone, as `torch.nn.RNN` does.

    The cell state starts at zero with every call and is not returned.

    Args:
        lstm: The wrapped layer, torch's or ours. It is a submodule, so that searches for recurrent
            layers find it.

    Shapes:
        As `torch.nn.RNN`: ``(x, h_0) -> (y, h_n)``, ``h_0`` zeros if not given; what else is given
        (``lengths``, ``resets``) is the layer's.
    """

    def __init__(self, lstm: nn.LSTM | LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, x: Tensor | PackedSequence, h_0: Tensor | None = None, *args: Any, **given: Any
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        state = None if h_0 is None else (h_0, torch.zeros_like(h_0))
        y, (h_n, _) = self.lstm(x, state, *args, **given)
        return y, h_n
