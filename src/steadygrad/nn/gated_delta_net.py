"""Gated DeltaNet: the delta rule with a decay, to forget at once what no key overwrites."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.delta_net import delta_terms
from steadygrad.nn.matrix_memory import Form, MatrixMemory, SoftplusDecay
from steadygrad.scan import DeltaSteps, MatrixSteps


@final
class GatedDeltaNet(MatrixMemory):
    r"""Gated delta rule.

    Per head, with q, k, v and :math:`\beta` as in `DeltaNet`, and
    :math:`\log \alpha_t = -e^{A} \operatorname{softplus}(w^\top x_t + b)`:

    .. math::
        S_t = \alpha_t (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top, \qquad
        y_t = \operatorname{RMSNorm}(S_t^\top q_t) \odot \operatorname{silu}(W_g x_t)

    The gradient is multiplied by :math:`\alpha_t` in all directions, and by :math:`1 - \beta_t`
    besides along :math:`k_t`. It cannot explode through time; how long it lives is up to
    :math:`\alpha`, which starts between 0.2 and 1, mostly above 0.8.

    The short convolutions and the map behind it that the released block has stand around the layer.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`y_t`, ``H = N V``.
        heads: Number of heads, ``N``.
        key_size: ``K``; V if not given.
        negative_eigenvalues: Whether :math:`\beta = 2 \sigma(\cdot)`.
        form: See `MatrixMemory`.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        As `MatrixMemory`. Parameters: ``project`` (rows q, k, v), ``strength`` (:math:`\beta`),
        ``decay`` (:math:`\alpha`; see `steadygrad.nn.matrix_memory.SoftplusDecay`), ``norm``,
        ``output_gate``.

    References:
        Yang, Kautz and Hatamizadeh, *Gated Delta Networks: Improving Mamba2 with Delta Rule*, 2024,
        section 3.
    """

    name: ClassVar[str] = "gated-delta-net"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        key_size: int | None = None,
        negative_eigenvalues: bool = False,
        form: Form = "chunked",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, heads, key_size, form, batch_first)
        self.negative_eigenvalues = negative_eigenvalues
        keys = heads * self.key_size
        self.parts = (keys, keys, hidden_size)
        self.project = nn.Linear(input_size, sum(self.parts), device=device, dtype=dtype)
        self.strength = nn.Linear(input_size, heads, device=device, dtype=dtype)
        self.decay = SoftplusDecay(input_size, heads, device, dtype)
        self.norm = nn.RMSNorm(self.value_size, eps=1e-5, device=device, dtype=dtype)
        self.output_gate = nn.Linear(
            input_size, hidden_size, bias=False, device=device, dtype=dtype
        )

    def steps(self, x: Tensor) -> DeltaSteps:
        """See the class."""
        q, k, v = map(self.by_head, self.project(x).split(self.parts, -1))
        beta = torch.sigmoid(self.by_head(self.strength(x)))
        q, k, written = delta_terms(q, k, beta, self.negative_eigenvalues)
        log_decay = self.decay(x)
        return DeltaSteps(q, written, v, log_decay, erase=(k, log_decay.exp() * written))

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """See the class."""
        return self.merged(self.norm(read)) * F.silu(self.output_gate(x))
