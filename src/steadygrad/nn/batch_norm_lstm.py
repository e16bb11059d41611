"""LSTM with batch normalisation inside the recurrence."""

import math
from typing import Any, Literal, final

import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn import functional as F

from steadygrad.nn.step_gradient import StepGradient, offer

State = tuple[Tensor, Tensor]


@final
class BatchNormLSTM(nn.Module):
    r"""Recurrent batch normalisation.

    .. math::
        i, f, g, o &= \gamma^x \odot N_t(W x_t) + \gamma^h \odot N_t(R h_{t-1}) + b \\
        c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh g \\
        h_t &= \sigma(o) \odot \tanh(\gamma^c \odot N_t(c_t) + \beta^c)

    :math:`N_t` takes mean and variance over the sequences of the batch at that time step; in
    evaluation, running averages. ``separate`` keeps them per time step (those of the last one serve
    beyond ``max_length``): the first steps of a recurrence have other statistics than the later
    ones. ``shared`` keeps one average for all. The shifts of both products are one, b.

    A scaling of R changes nothing, and in the step Jacobian :math:`R` stands divided by the
    standard deviation of :math:`R h_{t-1}`; small gains (0.1) keep tanh and the gates where they
    have a slope, without them the gradient fades.

    Rows mix: a sequence's result depends on the others of its batch while training. Hence no
    `Cell`, and not compiled; the loop is plain torch, the gradient at every step is seen by
    `steadygrad.flow.step_gradients`. Not for packed sequences.

    Args:
        input_size: Features of the input, ``I``.
        hidden_size: Units, ``H``.
        statistics: ``"separate"`` or ``"shared"``.
        max_length: Time steps with statistics of their own; needed for ``"separate"``.
        gain: Start of all γ.
        memory: Whether c is normalised on its way out (Cooijmans et al.; Hou et al. do not).
        momentum: Weight of a new batch in the running averages.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        Input ``(T, B, I)`` with B at least 2 in training; state ``(h, c)`` each ``(1, B, H)``.
        ``weight_ih_l0 (4H, I)``, ``weight_hh_l0 (4H, H)``, ``bias_l0``, ``gain_x_l0`` and
        ``gain_h_l0 (4H,)``; rows in torch's order. Running averages ``(S, 4H)``, S steps or one.

    Attributes:
        on_step_gradient: A `StepGradient`, or None; states ``h`` and ``c``.

    References:
        Cooijmans et al., *Recurrent Batch Normalization*, ICLR 2017.
        Hou et al., *Normalization Helps Training of Quantized LSTM*, 2019 (shared and separate).
    """

    gain_x_l0: nn.Parameter
    gain_h_l0: nn.Parameter
    running_mean_h: Tensor
    running_var_h: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        statistics: Literal["separate", "shared"] = "separate",
        max_length: int | None = None,
        gain: float = 0.1,
        memory: bool = True,
        momentum: float = 0.1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(input_size, hidden_size, statistics, max_length)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.statistics, self.max_length = statistics, max_length
        self.gain, self.memory, self.momentum = gain, memory, momentum
        self.batch_first = batch_first
        self.on_step_gradient: StepGradient | None = None
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        rows, steps = 4 * hidden_size, max_length if statistics == "separate" else 1
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, input_size, **made))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden_size, **made))
        self.bias_l0 = nn.Parameter(torch.empty(rows, **made))
        widths = {"x": rows, "h": rows} | ({"c": hidden_size} if memory else {})
        for term, width in widths.items():
            self.register_parameter(f"gain_{term}_l0", nn.Parameter(torch.empty(width, **made)))
            for kind in ("mean", "var"):
                start = torch.full((steps or 1, width), float(kind == "var"), **made)
                self.register_buffer(f"running_{kind}_{term}", start)
        self.shift_c_l0 = nn.Parameter(torch.empty(hidden_size, **made)) if memory else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from U(-1/√H, 1/√H), gains at `gain`, zero bias but one of the forget gate."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("weight"):
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.constant_(parameter, self.gain if name.startswith("gain") else 0.0)
        with torch.no_grad():
            self.bias_l0.view(4, -1)[1] = 1.0

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        """Run the layer; see the class for shapes."""
        x = self._input(input)
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        h, c = (zeros, zeros) if hx is None else (s.squeeze(0) for s in hx)
        weight_hh = self.weight_hh_l0  # once: a parametrised weight is computed when it is read
        from_x = x @ self.weight_ih_l0.t()
        hidden = []
        for t, x_t in enumerate(from_x):
            a = self.normalise("x", x_t, t) + self.normalise("h", h @ weight_hh.t(), t)
            i, f, g, o = (a + self.bias_l0).chunk(4, 1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            out = c if self.shift_c_l0 is None else self.normalise("c", c, t) + self.shift_c_l0
            h = sigmoid(o) * tanh(out)
            offer(self.on_step_gradient, "h", t, h)
            offer(self.on_step_gradient, "c", t, c)
            hidden.append(h)
        output = torch.stack(hidden)
        output = output.transpose(0, 1) if self.batch_first else output
        return output, (h[None], c[None])

    def normalise(self, term: str, value: Tensor, step: int) -> Tensor:
        """γ N(value) of the term ``"x"``, ``"h"`` or ``"c"`` at one time step."""
        mean, var = getattr(self, f"running_mean_{term}"), getattr(self, f"running_var_{term}")
        at = min(step, len(mean) - 1)
        gain = getattr(self, f"gain_{term}_l0")
        return F.batch_norm(
            value, mean[at], var[at], gain, None, self.training, self.momentum, 1e-5
        )

    def _input(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"BatchNormLSTM: expected a dense tensor, got {type(x).__name__}")
        if x.dim() != 3 or x.shape[-1] != self.input_size or 0 in x.shape:
            raise ValueError(
                f"BatchNormLSTM: expected an input (T, B, {self.input_size}), got {tuple(x.shape)}"
            )
        x = x.transpose(0, 1) if self.batch_first else x
        if self.training and x.shape[1] < 2:
            raise ValueError("BatchNormLSTM: training needs at least 2 sequences in a batch, got 1")
        return x

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, statistics={self.statistics!r}, "
            f"max_length={self.max_length}, memory={self.memory}"
        )


def _check(inputs: int, hidden: int, statistics: str, max_length: int | None) -> None:
    if min(inputs, hidden) < 1:
        raise ValueError(
            f"BatchNormLSTM: input_size and hidden_size must be at least 1, got {inputs}, {hidden}"
        )
    if statistics not in ("separate", "shared"):
        raise ValueError(
            f"BatchNormLSTM: statistics must be 'separate' or 'shared', got {statistics!r}"
        )
    if (statistics == "separate") != (max_length is not None) or (max_length or 1) < 1:
        raise ValueError(
            "BatchNormLSTM: max_length, at least 1, goes with statistics='separate' and with that "
            f"alone; got {max_length} with {statistics!r}"
        )
