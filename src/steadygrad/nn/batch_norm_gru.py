"""GRU with batch normalisation inside the recurrence."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn, sigmoid, tanh

from steadygrad.nn.batch_norm import BatchNormRecurrence, Statistics


@final
class BatchNormGRU(BatchNormRecurrence):
    r"""Recurrent batch normalisation of a GRU, reset after the product.

    .. math::
        u = \gamma^x \odot N_t(W x_t) &+ b, \qquad v = \gamma^h \odot N_t(R h_{t-1}) \\
        r_t &= \sigma(u_r + v_r) \\
        z_t &= \sigma(u_z + v_z) \\
        n_t &= \tanh(u_n + r_t \odot (v_n + \beta^h)) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    :math:`N_t` takes mean and variance over the sequences of the batch at that time step; in
    evaluation, running averages, ``separate`` per time step or ``shared`` by all, as in
    `BatchNormLSTM`. In evaluation with shared averages the layer is a `torch.nn.GRU` of other
    weights: gain and average fold into W, R and the biases.

    Cooijmans et al. normalise an LSTM; their paper has no GRU. This one takes their rule, W x and
    R h each by its own statistics and gain, gains of 0.1 at the start, to the form that torch and
    cuDNN compute: the reset gate acts on the normalised product, so R h is one product with one
    normalisation. The shifts of both products are one, b, but for the candidate: there the reset
    gate stands between them, and the product has its own, torch's :math:`b_{hn}`. The state is
    not normalised on its way out: a mean of tanh values, it stays within [-1, 1] from zero on.

    A scaling of R changes nothing, and in the step Jacobian :math:`R` stands divided by the
    standard deviation of :math:`R h_{t-1}`. The way over :math:`z_t` is not normalised: where z is
    near one the gradient passes unchanged.

    Rows mix: a sequence's result depends on the others of its batch while training. Hence no
    `Cell`, and not compiled; the loop is plain torch, the gradient at every step is seen by
    `steadygrad.diagnose`. Not for packed sequences.

    Args:
        input_size: Features of the input, ``I``.
        hidden_size: Units, ``H``.
        statistics: ``"separate"`` or ``"shared"``.
        max_length: Time steps with statistics of their own; needed for ``"separate"``.
        gain: Start of all γ.
        momentum: Weight of a new batch in the running averages.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        Input ``(T, B, I)`` with B at least 2 in training; state ``(1, B, H)``.
        ``weight_ih_l0 (3H, I)``, ``weight_hh_l0 (3H, H)``, ``bias_l0``, ``gain_x_l0`` and
        ``gain_h_l0 (3H,)``, ``shift_h_l0 (H,)``; rows in torch's order r, z, n. Running averages
        ``(S, 3H)``, S steps or one.

    Attributes:
        on_step_gradient: A `StepGradient`, or None; state ``h``.

    References:
        Cooijmans et al., *Recurrent Batch Normalization*, ICLR 2017 (the LSTM).
        Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder*, 2014 (the GRU).
    """

    blocks: ClassVar[int] = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        statistics: Statistics = "separate",
        max_length: int | None = None,
        gain: float = 0.1,
        momentum: float = 0.1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(
            input_size, hidden_size, statistics, max_length, gain, momentum, batch_first, **made
        )
        self.shift_h_l0 = nn.Parameter(torch.empty(hidden_size, **made))
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layer; see the class for shapes."""
        x = self._input(input)
        batch = x.shape[1]
        h = x.new_zeros(batch, self.hidden_size) if hx is None else self._state(hx, batch)
        weight_hh = self.weight_hh_l0  # once: a parametrised weight is computed when it is read
        from_x = x @ self.weight_ih_l0.t()
        hidden = []
        for t, x_t in enumerate(from_x):
            u = (self.normalise("x", x_t, t) + self.bias_l0).chunk(3, 1)
            v = self.normalise("h", h @ weight_hh.t(), t).chunk(3, 1)
            r, z = sigmoid(u[0] + v[0]), sigmoid(u[1] + v[1])
            n = tanh(u[2] + r * (v[2] + self.shift_h_l0))
            h = (1 - z) * n + z * h
            self.offer("h", t, h)
            hidden.append(h)
        return self._output(hidden), h[None]
