"""Gated linear attention: every row of the memory has a decay of its own, set by the input."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.matrix_memory import Form, MatrixMemory
from steadygrad.scan import DeltaSteps, MatrixSteps


@final
class GLA(MatrixMemory):
    r"""Gated linear attention.

    Per head, with :math:`q, k \in \mathbb{R}^K` and :math:`v \in \mathbb{R}^V` linear in x:

    .. math::
        \alpha_t &= \sigma(W_2 W_1 x_t + b)^{1/\tau}, \qquad
        S_t = \operatorname{diag}(\alpha_t) S_{t-1} + k_t v_t^\top \\
        o_t &= S_t^\top q_t / \sqrt K, \qquad
        y_t = \operatorname{RMSNorm}(o_t) \odot \operatorname{silu}(W_r x_t + b_r)

    The gradient at row i of S is multiplied by :math:`\alpha_{t,i} < 1` in every step: it cannot
    explode through time, and lives about :math:`1 / (1 - \alpha)` steps. :math:`\tau = 16` starts
    :math:`\alpha` near 0.96.

    This is the recurrence with its norm and output gate; the map behind them is a `torch.nn.Linear`
    of yours. The norm is that of the released code (the paper writes LN).

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`y_t`, ``H = N V``.
        heads: Number of heads, ``N``.
        key_size: ``K``; half of V if not given, as in the paper, and at least 1.
        gate_rank: Rank of :math:`W_2 W_1`.
        gate_divisor: :math:`\tau`.
        form: See `MatrixMemory`.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        As `MatrixMemory`. Parameters: ``project`` (rows q, k, v), ``gate`` (W_1, W_2), ``norm``,
        ``output_gate``.

    References:
        Yang, Wang, Shen, Panda and Kim, *Gated Linear Attention Transformers with
        Hardware-Efficient Training*, 2023, section 4.
    """

    name: ClassVar[str] = "gla"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        key_size: int | None = None,
        gate_rank: int = 16,
        gate_divisor: float = 16.0,
        form: Form = "chunked",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if key_size is None:
            key_size = max(1, hidden_size // max(heads, 1) // 2)
        super().__init__(input_size, hidden_size, heads, key_size, form, batch_first)
        if gate_rank < 1 or gate_divisor <= 0:
            raise ValueError(
                f"GLA: gate_rank must be at least 1 and gate_divisor above 0, got {gate_rank} and "
                f"{gate_divisor}"
            )
        self.gate_divisor = gate_divisor
        keys = heads * key_size
        self.parts = (keys, keys, hidden_size)
        self.project = nn.Linear(input_size, sum(self.parts), device=device, dtype=dtype)
        self.gate = nn.Sequential(
            nn.Linear(input_size, gate_rank, bias=False, device=device, dtype=dtype),
            nn.Linear(gate_rank, keys, device=device, dtype=dtype),
        )
        self.norm = nn.RMSNorm(self.value_size, eps=1e-5, device=device, dtype=dtype)
        self.output_gate = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def steps(self, x: Tensor) -> DeltaSteps:
        """See the class."""
        q, k, v = map(self.by_head, self.project(x).split(self.parts, -1))
        log_decay = F.logsigmoid(self.by_head(self.gate(x))) / self.gate_divisor
        return DeltaSteps(q * self.key_size**-0.5, k, v, log_decay)

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """See the class."""
        return self.merged(self.norm(read)) * F.silu(self.output_gate(x))
