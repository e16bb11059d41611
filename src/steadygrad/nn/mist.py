"""A recurrence that looks back over exponentially spaced delays."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.step_gradient import Looped


@final
class MIST(Looped):
    r"""Mixed history recurrent network.

    .. math::
        a_t &= \operatorname{softmax}(W_a x_t + R_a h_{t-1} + b_a) \in \mathbb{R}^{|D|}
            &&\text{attention over delays} \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r)  &&\text{reset gate} \\
        h_t &= \tanh\bigl(W x_t + R\,(r_t \odot \textstyle\sum_{d \in D} a_{t,d}\, h_{t-d}) +
            b\bigr)

    with delays D = 1, 2, 4, .... The gradient over n steps can take the long delays: the shortest
    way has about :math:`\log_2 n` products with R where a plain recurrence has n. The weights
    :math:`a` along it multiply it, too: they sum to one, and begin near :math:`1/|D|`.

    The loop is written in Python: a step reads states of many ages, which the compiled recurrence
    (a state from one step to the next) does not have.

    Args:
        input_size: Features of :math:`x_t`.
        hidden_size: Features of :math:`h_t`.
        delays: D, each once; the paper takes 1, 2, 4, ..., 128.
        device: Where the weights are made.
        dtype: Of the weights.

    Attributes:
        on_step_gradient: A `steadygrad.nn.StepGradient` that sees the gradient at every h_t, or
            None.

    Shapes:
        ``x (T, B, I)``; returns ``(T, B, H)`` and the last ``max(D)`` hidden states, oldest first,
        ``(max(D), B, H)``; hand them on to go on. Zeros if not given.

    Raises:
        ValueError: Delays that are none, below one or twice, or an input that is not ``(T, B, I)``.

    References:
        DiPietro, Rupprecht, Navab and Hager, *Analyzing and Exploiting NARX Recurrent Neural
        Networks for Long-Term Dependencies*, 2017, section 4.

    Example:
        >>> output, history = MIST(3, 8, delays=(1, 2, 4))(torch.randn(20, 2, 3))
        >>> output.shape, history.shape
        (torch.Size([20, 2, 8]), torch.Size([4, 2, 8]))
    """

    is_streaming: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        delays: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not delays or min(delays) < 1 or len(set(delays)) != len(delays):
            raise ValueError(f"delays must be different whole numbers from 1, got {delays}")
        self.delays = tuple(delays)
        self.hidden_size = hidden_size
        looks = len(self.delays) + hidden_size
        self.input = nn.Linear(input_size, looks + hidden_size, device=device, dtype=dtype)
        self.look = nn.Linear(hidden_size, looks, bias=False, device=device, dtype=dtype)
        self.mixed = nn.Linear(hidden_size, hidden_size, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over ``x``; see the class for shapes."""
        if x.dim() != 3 or not len(x):
            raise ValueError(f"MIST: expected input (T, B, I), got {tuple(x.shape)}")
        depth = max(self.delays)
        shape = (depth, x.shape[1], self.hidden_size)
        if history is None:
            history = x.new_zeros(shape)
        if history.shape != shape:
            raise ValueError(f"MIST: expected history {shape}, got {tuple(history.shape)}")
        states = list(history)
        count = len(self.delays)
        from_x = self.input(x).split([count, self.hidden_size, self.hidden_size], -1)
        for step, (attend, reset, candidate) in enumerate(zip(*from_x, strict=True)):
            looked = self.look(states[-1])
            weight = F.softmax(attend + looked[:, :count], -1)
            gate = (reset + looked[:, count:]).sigmoid()
            past = torch.stack([states[-d] for d in self.delays], -1)  # (B, H, |D|)
            mixture = (past * weight[:, None]).sum(-1)
            h = (candidate + self.mixed(gate * mixture)).tanh()
            self.offer("h", step, h)
            states.append(h)
        return torch.stack(states[depth:]), torch.stack(states[-depth:])
