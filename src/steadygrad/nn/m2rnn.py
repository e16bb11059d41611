"""M2RNN: a matrix as state, taken on by a matrix product and a tanh."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.matrix_memory import Form, MatrixMemory, SoftplusDecay
from steadygrad.scan import MatrixSteps


@final
@dataclass(frozen=True)
class M2RNNSteps(MatrixSteps):
    """The terms of all steps of an `M2RNN`.

    Attributes:
        k: ``(B, N, T, K)``.
        v: ``(B, N, T, V)``.
        keep: The forget gate, ``(B, N, T, 1)``.
        weight: W of every head, ``(N, V, V)``.
    """

    k: Tensor
    v: Tensor
    keep: Tensor
    weight: Tensor

    def step(self, t: int, state: Tensor) -> Tensor:
        """See `M2RNN`."""
        written = self.k[:, :, t, :, None] * self.v[:, :, t, None]
        keep = self.keep[:, :, t, :, None]
        return keep * state + (1 - keep) * torch.tanh(state @ self.weight + written)


@final
class M2RNN(MatrixMemory):
    r"""Matrix-to-matrix RNN: a nonlinear recurrence whose state is a matrix.

    Per head, with :math:`q, k, v = \operatorname{silu}(W x_t)`, and
    :math:`\log f_t = -e^{A} \operatorname{softplus}(w^\top x_t + b)`:

    .. math::
        Z_t &= \tanh(S_{t-1} W + k_t v_t^\top), \qquad
        S_t = f_t S_{t-1} + (1 - f_t) Z_t \\
        o_t &= S_t^\top q_t + d \odot v_t, \qquad
        y_t = \operatorname{RMSNorm}(o_t \odot \operatorname{silu}(W_g x_t))

    The gradient has a way through :math:`f_t` alone, as in an LSTM, and one through W and the
    slope of tanh: as W starts at I, a step neither shrinks nor stretches a small state. It can
    explode, once W is large. The step sees the state through tanh, so no form computes many steps
    at once: ``form`` changes nothing.

    As released, but for its short convolution and the map behind it.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`y_t`, ``H = N V``.
        heads: Number of heads, ``N``.
        key_size: ``K``; V if not given.
        form: See above.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        As `MatrixMemory`. Parameters: ``project`` (rows q, k, v), ``state_weight (N, V, V)``,
        ``decay`` (f; see `steadygrad.nn.matrix_memory.SoftplusDecay`), ``direct`` (d, ``(H,)``, 1
        at the start), ``output_gate``, ``norm`` over all of H.

    References:
        Mishra, Tan, Stoica, Gonzalez and Dao, *M2RNN: Non-Linear RNNs with Matrix-Valued States for
        Scalable Language Modeling*, 2026, and the authors' code (lm-engine and its kernels).
    """

    name: ClassVar[str] = "m2rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        key_size: int | None = None,
        form: Form = "chunked",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, heads, key_size, form, batch_first)
        keys = heads * self.key_size
        self.parts = (keys, keys, hidden_size)
        self.project = nn.Linear(input_size, sum(self.parts), device=device, dtype=dtype)
        eye = torch.eye(self.value_size, device=device, dtype=dtype)
        self.state_weight = nn.Parameter(eye.expand(heads, -1, -1).clone())
        self.decay = SoftplusDecay(input_size, heads, device, dtype)
        self.direct = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.output_gate = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.norm = nn.RMSNorm(hidden_size, eps=1e-5, device=device, dtype=dtype)

    def steps(self, x: Tensor) -> M2RNNSteps:
        """See the class."""
        q, k, v = map(self.by_head, F.silu(self.project(x)).split(self.parts, -1))
        return M2RNNSteps(q, k, v, self.decay(x).exp(), self.state_weight)

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """See the class."""
        assert isinstance(steps, M2RNNSteps)
        o = self.merged(read) + self.direct * self.merged(steps.v)
        return self.norm(o * F.silu(self.output_gate(x)))
