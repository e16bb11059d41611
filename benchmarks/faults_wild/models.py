"""Models that the cases share, as tutorials write them."""

from typing import Any

import torch
from torch import Tensor, nn

LAYERS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class LastStep(nn.Module):
    """A recurrent layer, and a head on its last output.

    Args:
        kind: ``lstm``, ``gru`` or ``rnn``.
        inputs: Features.
        outputs: Of the head.
        hidden: Units.
        options: Of the layer.
    """

    def __init__(
        self,
        kind: str = "lstm",
        inputs: int = 4,
        outputs: int = 2,
        hidden: int = 24,
        **options: Any,
    ) -> None:
        super().__init__()
        self.rnn = LAYERS[kind](inputs, hidden, **options)
        ways = 2 if options.get("bidirectional") else 1
        self.fc = nn.Linear(ways * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.fc(out[:, -1] if self.rnn.batch_first else out[-1])


class EveryStep(LastStep):
    """The same with an answer at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0])


class LanguageModel(nn.Module):
    """Embedding, recurrent layer, scores of the next symbol."""

    def __init__(self, symbols: int = 12, size: int = 16, hidden: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Embedding(symbols, size)
        self.rnn = nn.LSTM(size, hidden)
        self.decoder = nn.Linear(hidden, symbols)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        out, state = self.rnn(self.encoder(x), state)
        return self.decoder(out), state


@torch.no_grad()
def keep_memory(layer: nn.LSTM, value: float = 4.0) -> None:
    """Open the forget gate, as people do whose task has to remember."""
    hidden = layer.hidden_size
    for name, bias in layer.named_parameters():
        if "bias_ih" in name:
            bias[hidden : 2 * hidden] = value
