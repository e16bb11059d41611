"""LSTM with batch normalisation inside the recurrence."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn, sigmoid, tanh

from steadygrad.nn.batch_norm import BatchNormRecurrence, Statistics

State = tuple[Tensor, Tensor]


@final
class BatchNormLSTM(BatchNormRecurrence):
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
    `steadygrad.diagnose`. Not for packed sequences.

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

    states: ClassVar[tuple[str, ...]] = ("h", "c")
    blocks: ClassVar[int] = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        statistics: Statistics = "separate",
        max_length: int | None = None,
        gain: float = 0.1,
        memory: bool = True,
        momentum: float = 0.1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(
            input_size, hidden_size, statistics, max_length, gain, momentum, batch_first, **made
        )
        self.memory = memory
        if memory:
            self.add_term("c", hidden_size, **made)
        self.shift_c_l0 = nn.Parameter(torch.empty(hidden_size, **made)) if memory else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from U(-1/√H, 1/√H), gains at `gain`, zero bias but one of the forget gate."""
        super().reset_parameters()
        with torch.no_grad():
            self.bias_l0.view(4, -1)[1] = 1.0

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        """Run the layer; see the class for shapes."""
        x = self._input(input)
        batch = x.shape[1]
        zeros = x.new_zeros(batch, self.hidden_size)
        h, c = (zeros, zeros) if hx is None else (self._state(s, batch) for s in hx)
        weight_hh = self.weight_hh_l0  # once: a parametrised weight is computed when it is read
        from_x = x @ self.weight_ih_l0.t()
        hidden = []
        for t, x_t in enumerate(from_x):
            a = self.normalise("x", x_t, t) + self.normalise("h", h @ weight_hh.t(), t)
            i, f, g, o = (a + self.bias_l0).chunk(4, 1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            out = c if self.shift_c_l0 is None else self.normalise("c", c, t) + self.shift_c_l0
            h = sigmoid(o) * tanh(out)
            self.offer("h", t, h)
            self.offer("c", t, c)
            hidden.append(h)
        return self._output(hidden), (h[None], c[None])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, memory={self.memory}"
