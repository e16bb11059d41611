"""mLSTM: a matrix as memory, written by outer products and read by queries."""

from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.step_gradient import Looped
from steadygrad.scan import DeltaSteps

Memory = tuple[Tensor, Tensor, Tensor]
"""The matrix C ``(B, N, d, d)``, the normaliser n ``(B, N, d)``, the stabiliser m ``(B, N)``."""


@final
class MLSTM(Looped):
    r"""Matrix-memory LSTM of xLSTM, in a recurrent and a parallel form that agree.

    Per head, with :math:`q, k, v \in \mathbb{R}^d`:

    .. math::
        m_t &= \max(\log \sigma(\bar f_t) + m_{t-1}, \bar\imath_t) \\
        i_t &= \exp(\bar\imath_t - m_t), \qquad f_t = \exp(\log \sigma(\bar f_t) + m_{t-1} - m_t) \\
        C_t &= f_t C_{t-1} + i_t\, v_t k_t^\top, \qquad n_t = f_t n_{t-1} + i_t k_t \\
        h_t &= \sigma(\bar o_t) \odot C_t q_t / \max(|n_t^\top q_t|, e^{-m_t})

    with :math:`k` scaled by :math:`1/\sqrt d`. One forget gate scales the whole memory of a head:
    along it the gradient lives as long as :math:`f` stays near one, and no recurrent matrix stands
    in its way. The gates see the input alone, so many time steps can be computed at once: with
    :math:`F_t = \sum_{s \le t} \log \sigma(\bar f_s)` it is
    :math:`m_t = F_t + \max(m_0, \max_{s \le t} (\bar\imath_s - F_s))`, and what is left is linear
    in C and n, a `steadygrad.nn.DeltaSteps`.

    This is the paper's cell: gates from the input. (In the released block they see q, k and v, and
    a convolution, a norm and a skip stand around it.) It is no `steadygrad.nn.Recurrent`: its
    memory is a matrix per head, not a number per unit. So it does not compile to C. While somebody
    looks at its states (C, n and m), it takes the recurrent form; `steadygrad.diagnose` does so in
    a replay.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`h_t`, ``H = N d``.
        heads: Number of heads, ``N``; divides ``hidden_size``.
        form: ``"parallel"``, products over many steps, or ``"recurrent"``, a loop over time.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        Input ``(T, B, I)``; memory `Memory`, zeros if not given. Output ``(T, B, H)`` and the
        last memory. Parameters: ``project`` (rows q, k, v, output gate) and ``gates`` (rows input,
        forget). Gate weights start at zero, :math:`b_f` from 3 to 6 over the heads, :math:`b_i`
        from :math:`N(0, 0.1^2)`, as in the released code.

    Raises:
        ValueError: Sizes that do not fit, or no such form.

    References:
        Beck et al., *xLSTM: Extended Long Short-Term Memory*, 2024, equations 19 to 27 and
        appendix A.3 (the parallel form, here in chunks).
    """

    name: ClassVar[str] = "mlstm"
    states: ClassVar[tuple[str, ...]] = ("C", "n", "m")
    batch_axis: ClassVar[int] = 0
    is_streaming: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        form: Literal["parallel", "recurrent"] = "parallel",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or hidden_size % heads:
            raise ValueError(f"MLSTM: hidden_size {hidden_size} cannot be cut into {heads} heads")
        if form not in ("parallel", "recurrent"):
            raise ValueError(f"MLSTM: no form {form!r}; there are: parallel, recurrent")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.heads = heads
        self.form = form
        self.batch_first = batch_first
        self.project = nn.Linear(input_size, 4 * hidden_size, device=device, dtype=dtype)
        self.gates = nn.Linear(input_size, 2 * heads, device=device, dtype=dtype)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the class says; the projections as `torch.nn.Linear` does."""
        self.project.reset_parameters()
        nn.init.zeros_(self.gates.weight)
        i, f = self.gates.bias.chunk(2)
        nn.init.normal_(i, std=0.1)
        f.copy_(torch.linspace(3, 6, self.heads))

    def forward(self, input: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Run the layer; see the class for shapes."""
        if input.dim() != 3 or input.shape[-1] != self.input_size:
            axes = "(B, T" if self.batch_first else "(T, B"
            raise ValueError(
                f"MLSTM: expected input {axes}, {self.input_size}), got {tuple(input.shape)}"
            )
        x = input if self.batch_first else input.transpose(0, 1)
        batch, steps = x.shape[:2]
        size = self.hidden_size // self.heads
        # (B, T, 4, N, d) -> four of (B, N, T, d)
        parts = self.project(x).view(batch, steps, 4, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k, v, o = parts.unbind()
        i, f = self.gates(x).view(batch, steps, 2, self.heads).permute(2, 0, 3, 1).unbind()
        if memory is None:
            memory = (
                x.new_zeros(batch, self.heads, size, size),
                x.new_zeros(batch, self.heads, size),
                x.new_full((batch, self.heads), -torch.inf),
            )
        given = (q, k * size**-0.5, v, i, F.logsigmoid(f), memory)
        one_by_one = self.form == "recurrent" or self.on_state is not None
        h, memory = recurrent(*given, self.offer) if one_by_one else parallel(*given)
        h = (torch.sigmoid(o) * h).transpose(1, 2).reshape(batch, steps, -1)
        return (h if self.batch_first else h.transpose(0, 1)), memory

    def extra_repr(self) -> str:
        """Sizes and form."""
        return f"{self.input_size}, {self.hidden_size}, heads={self.heads}, form={self.form!r}"


def floor(m: Tensor) -> Tensor:
    """``exp(-m)``, the least divisor; up to e^80: behind it h is 0, and its slope no number."""
    return torch.exp(-m.clamp(min=-80))


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    log_f: Tensor,
    memory: Memory,
    offer: Callable[[str, int, Tensor], None] | None = None,
) -> tuple[Tensor, Memory]:
    """One time step after another: q, k, v ``(B, N, T, d)``; i, log f ``(B, N, T)``."""
    c, n, m = memory
    outputs = []
    for t in range(q.shape[2]):
        m_before, m = m, torch.maximum(log_f[..., t] + m, i[..., t])
        kept = torch.exp(log_f[..., t] + m_before - m)[..., None]
        written = torch.exp(i[..., t] - m)[..., None]
        n = kept * n + written * k[:, :, t]
        c = kept[..., None] * c + (written * v[:, :, t])[..., None] * k[:, :, t, None]
        if offer is not None:
            for name, state in (("C", c), ("n", n), ("m", m)):
                offer(name, t, state)
        size = (n * q[:, :, t]).sum(-1).abs()
        read = (c @ q[:, :, t, :, None]).squeeze(-1)
        outputs.append(read / torch.maximum(size, floor(m))[..., None])
    return torch.stack(outputs, 2), (c, n, m)


def parallel(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, memory: Memory
) -> tuple[Tensor, Memory]:
    """Many time steps at once; arguments and values as `recurrent`."""
    c, n, m_start = memory
    total = log_f.cumsum(-1)
    m = total + torch.maximum((i - total).cummax(-1).values, m_start[..., None])
    before = torch.cat([m_start[..., None], m[..., :-1]], -1)
    steps = DeltaSteps(
        q,
        k * torch.exp(i - m)[..., None],
        # n is one more column of the memory, in which each step writes 1.
        F.pad(v, (0, 1), value=1.0),
        (log_f + before - m)[..., None],
    )
    read, state = steps.at_once(torch.cat([c.mT, n[..., None]], -1))
    h = read[..., :-1] / torch.maximum(read[..., -1].abs(), floor(m))[..., None]
    return h, (state[..., :-1].mT, state[..., -1], m[..., -1])
