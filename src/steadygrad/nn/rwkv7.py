"""RWKV-7: a decay per row of the memory, and a delta rule whose erasing and writing keys differ."""

import math
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.nn.matrix_memory import Form, MatrixMemory, unit
from steadygrad.scan import DeltaSteps, MatrixSteps


@final
class RWKV7(MatrixMemory):
    r"""Time mixing of RWKV-7, "Goose".

    Per head, with r, k, v linear in x, and :math:`L_\cdot(x) = b + W_2 \phi(W_1 x)` maps of low
    rank:

    .. math::
        w_t &= \exp(-e^{-1/2} \sigma(L_w(x_t))), \qquad a_t = \sigma(L_a(x_t)), \qquad
        \hat\kappa_t = (\xi \odot k_t) / \lVert \xi \odot k_t \rVert \\
        \tilde k_t &= k_t \odot (1 + (a_t - 1) \odot \mu) \\
        S_t &= \operatorname{diag}(w_t) S_{t-1}
            - (a_t \odot \hat\kappa_t) (\hat\kappa_t^\top S_{t-1}) + \tilde k_t v_t^\top \\
        y_t &= g_t \odot \big(\operatorname{LN}(S_t^\top r_t)
            + (r_t^\top (\rho \odot \tilde k_t))\, v_t\big), \qquad g_t = W_2 \sigma(W_1 x_t)

    :math:`\phi` is tanh for w, the identity for a. S is the transpose of the paper's. Each row
    decays at a rate of its own, by no less than :math:`e^{-0.61} = 0.545` a step; what is read by
    :math:`\hat\kappa` is erased at a rate :math:`a` per row. The gradient cannot explode while
    :math:`a` is one number; with a vector the transition is no longer symmetric, and single steps
    may stretch it.

    The token shift (x mixed with the x before it), the value taken over from the first layer and
    the map behind it belong to the released block and stand around the layer.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`y_t`, ``H = N V``; keys have as many.
        heads: Number of heads, ``N``.
        rank: Of the maps L and g.
        form: See `MatrixMemory`.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        As `MatrixMemory`, with ``K = V``. Parameters: ``project`` (rows r, k, v), ``decay``,
        ``rate`` and ``output_gate`` (maps of low rank), ``erase_scale`` (:math:`\xi`),
        ``rate_share`` (:math:`\mu`), ``bonus`` (:math:`\rho`), all ``(H,)``, ``norm``. They start
        as in the released code for its first layer, without its zigzag over the units of a head.

    References:
        Peng et al., *RWKV-7 "Goose" with Expressive Dynamic State Evolution*, 2025, section 4.
    """

    name: ClassVar[str] = "rwkv7"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        rank: int = 32,
        form: Form = "chunked",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, heads, None, form, batch_first)
        if rank < 1:
            raise ValueError(f"RWKV7: rank must be at least 1, got {rank}")

        self.project = nn.Linear(
            input_size, 3 * hidden_size, bias=False, device=device, dtype=dtype
        )
        sizes = (input_size, rank, hidden_size)
        self.decay = _LowRank(*sizes, torch.tanh, True, device, dtype)
        self.rate = _LowRank(*sizes, None, True, device, dtype)
        self.output_gate = _LowRank(*sizes, torch.sigmoid, False, device, dtype)
        own = [torch.empty(hidden_size, device=device, dtype=dtype) for _ in range(3)]
        self.erase_scale, self.rate_share, self.bonus = map(nn.Parameter, own)
        self.norm = nn.LayerNorm(
            self.value_size, eps=self.value_size * 1e-5, device=device, dtype=dtype
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the class says."""
        for gain, rows in zip((1.0, 0.1, 1.0), self.project.weight.chunk(3), strict=True):
            nn.init.orthogonal_(rows, gain=gain)
        for low_rank in (self.decay, self.rate, self.output_gate):
            nn.init.zeros_(low_rank.down.weight)
            nn.init.orthogonal_(low_rank.up.weight, gain=0.1)
        place = torch.linspace(0, 1, self.hidden_size)
        self.decay.up.bias.copy_(-5.5 + 6 * place)
        self.rate.up.bias.fill_(-0.19)
        self.erase_scale.copy_(0.71 - 0.1 * (place - 0.5))
        self.rate_share.fill_(1.02)
        self.bonus.fill_(-0.04)
        self.norm.reset_parameters()

    def steps(self, x: Tensor) -> DeltaSteps:
        """See the class."""
        r, k, v = self.project(x).chunk(3, -1)
        log_decay = -math.exp(-0.5) * torch.sigmoid(self.decay(x))
        rate = torch.sigmoid(self.rate(x))
        erased = unit(self.by_head(k * self.erase_scale))
        k = k * (1 + (rate - 1) * self.rate_share)
        r, k, v, log_decay, rate = map(self.by_head, (r, k, v, log_decay, rate))
        return DeltaSteps(r, k, v, log_decay, erase=(erased, rate * erased))

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """See the class."""
        assert isinstance(steps, DeltaSteps)
        bonus = self.bonus.view(self.heads, 1, -1)
        direct = (steps.q * bonus * steps.k).sum(-1, keepdim=True) * steps.v
        return self.output_gate(x) * self.merged(self.norm(read) + direct)


class _LowRank(nn.Module):
    """``up(between(down(x)))``, a map of low rank with something pointwise between."""

    def __init__(
        self,
        input_size: int,
        rank: int,
        output_size: int,
        between: Callable[[Tensor], Tensor] | None,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(input_size, rank, bias=False, device=device, dtype=dtype)
        self.up = nn.Linear(rank, output_size, bias=bias, device=device, dtype=dtype)
        self._between = between

    def forward(self, x: Tensor) -> Tensor:
        low = self.down(x)
        return self.up(low if self._between is None else self._between(low))
