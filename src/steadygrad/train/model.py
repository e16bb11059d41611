"""The model of a training: inputs or embedding, a recurrent layer, and a linear head."""

from dataclasses import dataclass
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.nn import CNNLSTM, BiLSTM, Recurrent, is_memory, memories
from steadygrad.tasks import Batch, Task
from steadygrad.train.config import TrainConfig

Carried = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Ends:
    """Inputs and outputs of a model.

    Args:
        input_kind: Features, or codes of symbols.
        every_step: Whether it answers at each time step, or only after the last.
        input_size: Features of the input, or the number of symbols.
        output_size: Numbers in one answer, or the number of symbols.
    """

    input_kind: Literal["values", "symbols"]
    every_step: bool
    input_size: int
    output_size: int

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the inputs and outputs of a task."""
        return cls(task.input_kind, task.every_step, task.input_size, task.output_size)


COMPOSED = ("bilstm", "cnn-lstm", "narx")
"""Layers that may be named instead of a cell, for answers after the last step."""


@final
class SequenceModel(nn.Module):
    """Input features or embedded symbols, a recurrent layer, and a linear head.

    Args:
        task: Inputs and outputs.
        cell: Recurrent cell, as text; or a layer with a matrix as state (`steadygrad.nn.MEMORIES`),
            ``bilstm`` or ``cnn-lstm``.
        hidden: Hidden features.
        layers: Recurrent layers.
        dropout: Share of features dropped in training, before, between and after the layers.
        whole: A module from windows ``(T, B, I)`` to answers ``(B, O)``, in place of layer and
            head.

    Shapes:
        ``inputs (T, B, I)`` or codes ``(T, B)``; answers ``(T, B, O)`` where the task asks at
        every step, else ``(B, O)`` from the last hidden state.
    """

    def __init__(
        self,
        task: Task | Ends,
        cell: str,
        hidden: int,
        layers: int = 1,
        dropout: float = 0.0,
        whole: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.every_step = task.every_step
        self.embedding: nn.Embedding | None = None
        features = task.input_size
        if task.input_kind == "symbols":
            features = min(hidden, 128)
            self.embedding = nn.Embedding(task.input_size, features)
        if not 0 <= dropout <= 1:  # torch lets NaN pass, and refuses it at the first call
            raise InputError(f"dropout: expected a share of at least 0, at most 1, got {dropout}")
        self.dropout = nn.Dropout(dropout)
        self.is_whole = whole is not None
        if whole is not None:
            self.recurrent: nn.Module = whole
            self.head: nn.Module = nn.Identity()
            return
        between = dropout if layers > 1 else 0.0  # torch warns about dropout with a single layer
        width = hidden
        if cell == "bilstm":
            self.recurrent = BiLSTM(features, hidden, layers, dropout=between)
            width = 2 * hidden
        elif cell == "cnn-lstm":
            self.recurrent = CNNLSTM(
                features, hidden, causal=True, num_layers=layers, dropout=between
            )
        elif is_memory(cell):
            self.recurrent = memories(cell, features, hidden, layers, between)
        else:
            self.recurrent = Recurrent(cell, features, hidden, layers, dropout=between)
        self.head = nn.Linear(width, task.output_size)

    def forward(
        self, inputs: Tensor, state: Carried | None = None
    ) -> tuple[Tensor, Carried | None]:
        """Return the answers, and the state after the last step, or None if not carried over."""
        x = self.embedding(inputs) if self.embedding is not None else inputs
        if self.is_whole:
            return self.recurrent(x), None
        hidden, carried = self.recurrent(self.dropout(x), state)
        if isinstance(self.recurrent, BiLSTM):
            # At the last step the backward direction has read only one step.
            return self.head(self.dropout(self.recurrent.ends(carried))), None
        hidden = self.dropout(hidden if self.every_step else hidden[-1])
        return self.head(hidden), None if isinstance(self.recurrent, CNNLSTM) else carried


def detach(state: Carried | None) -> Carried | None:
    """Detach the state."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else state.detach()
    return tuple(part.detach() for part in state)


def carried_into(batch: Batch, state: Carried | None) -> Carried | None:
    """The initial state of a batch: that of the batch before, detached, or none."""
    return None if batch.fresh else detach(state)


def describe(model: SequenceModel, config: TrainConfig, hidden: int) -> dict[str, Any]:
    """Return the description of the model for the record."""
    count = sum(p.numel() for p in model.parameters())
    return {
        "cell": config.cell,
        "hidden": hidden,
        "layers": config.layers,
        "parameters": count,
        "text": str(model),
        "torch": torch.__version__,
    }
