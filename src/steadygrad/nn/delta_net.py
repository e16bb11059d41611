"""DeltaNet: a memory that replaces what it holds under a key instead of adding to it."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.matrix_memory import Form, MatrixMemory, unit
from steadygrad.scan import DeltaSteps, MatrixSteps


@final
class DeltaNet(MatrixMemory):
    r"""Linear attention with the delta rule, a fast weight memory.

    Per head, with :math:`q, k = \operatorname{silu}(W x_t) / \lVert \cdot \rVert`, v linear in x
    and :math:`\beta_t = \sigma(w^\top x_t + b)`:

    .. math::
        S_t = S_{t-1} - \beta_t k_t (k_t^\top S_{t-1} - v_t^\top)
            = (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top, \qquad
        y_t = \operatorname{RMSNorm}(S_t^\top q_t)

    The gradient is multiplied by :math:`1 - \beta_t` along :math:`k_t` and kept whole in the other
    K - 1 directions: it neither explodes nor, where keys differ, vanishes. With
    ``negative_eigenvalues`` :math:`\beta` goes up to 2, the step along the key to -1: a reflection,
    which can count modulo 2.

    Written as gradient descent: a step of size :math:`\beta` on
    :math:`\tfrac12 \lVert S^\top k_t - v_t \rVert^2`. The short convolutions and the map behind it
    that the released block has stand around the layer.

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
        As `MatrixMemory`. Parameters: ``project`` (rows q, k, v), ``strength`` (:math:`\beta` of
        every head), ``norm``.

    References:
        Schlag, Irie and Schmidhuber, *Linear Transformers Are Secretly Fast Weight Programmers*,
        2021, section 4.2. Yang, Wang, Zhang, Shen and Kim, *Parallelizing Linear Transformers with
        the Delta Rule over Sequence Length*, 2024, sections 2 and 3. Grazzi et al., *Unlocking
        State-Tracking in Linear RNNs Through Negative Eigenvalues*, 2024.
    """

    name: ClassVar[str] = "delta-net"

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
        self.norm = nn.RMSNorm(self.value_size, eps=1e-5, device=device, dtype=dtype)

    def steps(self, x: Tensor) -> DeltaSteps:
        """See the class."""
        q, k, v = map(self.by_head, self.project(x).split(self.parts, -1))
        beta = torch.sigmoid(self.by_head(self.strength(x)))
        q, k, written = delta_terms(q, k, beta, self.negative_eigenvalues)
        return DeltaSteps(q, written, v, erase=(k, written))

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """See the class."""
        return self.merged(self.norm(read))


def delta_terms(
    q: Tensor, k: Tensor, beta: Tensor, negative_eigenvalues: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key of length 1, and the key as the delta rule writes it, times its strength."""
    q, k = unit(F.silu(q)), unit(F.silu(k))
    return q, k, (2 * beta if negative_eigenvalues else beta) * k
