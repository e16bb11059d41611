"""Batch normalisation inside a recurrence: the normaliser, its averages, weights and checks."""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.step_gradient import Looped

Statistics = Literal["separate", "shared"]


class BatchNormRecurrence(Looped):
    """What a batch-normalised recurrence has besides its step; see `BatchNormLSTM`.

    A subclass states ``blocks``, writes ``forward`` with `normalise`, adds the terms it normalises
    beyond W x and R h with `add_term`, and calls `reset_parameters` when all are there.
    """

    mixes_rows: ClassVar[bool] = True
    blocks: ClassVar[int]
    """Gates and candidates, the blocks of rows of either weight."""

    gain_x_l0: nn.Parameter
    gain_h_l0: nn.Parameter
    running_mean_h: Tensor
    running_var_h: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        statistics: Statistics,
        max_length: int | None,
        gain: float,
        momentum: float,
        batch_first: bool,
        **made: Any,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.statistics, self.max_length = statistics, max_length
        self._check()
        self.gain, self.momentum, self.batch_first = gain, momentum, batch_first
        rows = self.blocks * hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, input_size, **made))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden_size, **made))
        self.bias_l0 = nn.Parameter(torch.empty(rows, **made))
        self.add_term("x", rows, **made)
        self.add_term("h", rows, **made)

    def add_term(self, term: str, width: int, **made: Any) -> None:
        """Make γ and the running averages of a term that `normalise` is to know."""
        steps = self.max_length or 1  # shared statistics have no max_length
        self.register_parameter(f"gain_{term}_l0", nn.Parameter(torch.empty(width, **made)))
        for kind in ("mean", "var"):
            start = torch.full((steps, width), float(kind == "var"), **made)
            self.register_buffer(f"running_{kind}_{term}", start)

    def reset_parameters(self) -> None:
        """Weights from U(-1/√H, 1/√H), gains at `gain`, biases and shifts zero."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("weight"):
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.constant_(parameter, self.gain if name.startswith("gain") else 0.0)

    def normalise(self, term: str, value: Tensor, step: int) -> Tensor:
        """γ N(value) of a term (``"x"``, ``"h"``, ...) at one time step."""
        mean, var = getattr(self, f"running_mean_{term}"), getattr(self, f"running_var_{term}")
        at = min(step, len(mean) - 1)
        gain = getattr(self, f"gain_{term}_l0")
        return F.batch_norm(
            value, mean[at], var[at], gain, None, self.training, self.momentum, 1e-5
        )

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, statistics={self.statistics!r}, "
            f"max_length={self.max_length}"
        )

    def _input(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a dense tensor, got {type(x).__name__}")
        if x.dim() != 3 or x.shape[-1] != self.input_size or 0 in x.shape:
            axes = "B, T" if self.batch_first else "T, B"
            raise ValueError(
                f"{name}: expected an input ({axes}, {self.input_size}), got {tuple(x.shape)}"
            )
        x = x.transpose(0, 1) if self.batch_first else x
        if self.training and x.shape[1] < 2:
            raise ValueError(f"{name}: training needs at least 2 sequences in a batch, got 1")
        return x

    def _state(self, state: Tensor, batch: int) -> Tensor:
        """``(B, H)`` of a state as the layer takes it."""
        expected = (1, batch, self.hidden_size)
        got = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        if got != expected:
            raise ValueError(f"{type(self).__name__}: expected a state {expected}, got {got}")
        return state.squeeze(0)

    def _output(self, hidden: list[Tensor]) -> Tensor:
        return torch.stack(hidden, 1 if self.batch_first else 0)

    def _check(self) -> None:
        name, sizes = type(self).__name__, (self.input_size, self.hidden_size)
        if min(sizes) < 1:
            raise ValueError(
                f"{name}: input_size and hidden_size must be at least 1, got {sizes[0]}, {sizes[1]}"
            )
        if self.statistics not in ("separate", "shared"):
            raise ValueError(
                f"{name}: statistics must be 'separate' or 'shared', got {self.statistics!r}"
            )
        length, separate = self.max_length, self.statistics == "separate"
        if separate != (length is not None) or (length is not None and length < 1):
            raise ValueError(
                f"{name}: max_length, at least 1, goes with statistics='separate' and with that "
                f"alone; got {length} with {self.statistics!r}"
            )
