"""A recurrent layer between what the data looks like and what is asked."""

from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad.nn import Recurrent
from steadygrad.tasks import Batch, Task
from steadygrad.train.config import TrainConfig

Carried = Tensor | tuple[Tensor, ...]


@final
class SequenceModel(nn.Module):
    """Input features or embedded symbols, a recurrent layer, and a linear head.

    Args:
        task: What goes in and comes out.
        cell: Recurrent cell, as text.
        hidden: Hidden features.
        layers: Recurrent layers.
        dropout: Share of features dropped in training, before, between and after the layers.

    Shapes:
        ``inputs (T, B, I)`` or codes ``(T, B)``; answers ``(T, B, O)`` where the task asks at
        every step, else ``(B, O)`` from the last hidden state.
    """

    def __init__(
        self, task: Task, cell: str, hidden: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.every_step = task.every_step
        self.embedding: nn.Embedding | None = None
        features = task.input_size
        if task.input_kind == "symbols":
            features = min(hidden, 128)
            self.embedding = nn.Embedding(task.input_size, features)
        self.dropout = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0  # torch warns about it in one layer
        self.recurrent = Recurrent(cell, features, hidden, layers, dropout=between)
        self.head = nn.Linear(hidden, task.output_size)

    def forward(self, inputs: Tensor, state: Carried | None = None) -> tuple[Tensor, Carried]:
        """Return the answers, and the state after the last step."""
        x = self.embedding(inputs) if self.embedding is not None else inputs
        hidden, carried = self.recurrent(self.dropout(x), state)
        hidden = self.dropout(hidden if self.every_step else hidden[-1])
        return self.head(hidden), carried


def detach(state: Carried | None) -> Carried | None:
    """Cut the gradient, keep the values."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else state.detach()
    return tuple(part.detach() for part in state)


def carried_into(batch: Batch, state: Carried | None) -> Carried | None:
    """The state that a batch begins with: that of the batch before, without gradient, or none."""
    return None if batch.fresh else detach(state)


def describe(model: SequenceModel, config: TrainConfig) -> dict[str, Any]:
    """Return what the record says about the model."""
    count = sum(p.numel() for p in model.parameters())
    return {
        "cell": config.cell,
        "hidden": model.head.in_features,
        "layers": config.layers,
        "parameters": count,
        "text": str(model),
        "torch": torch.__version__,
    }
