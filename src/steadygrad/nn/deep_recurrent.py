"""Stacks with a skip around every layer, so that the gradient reaches the bottom."""

from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, nn

from steadygrad.cells import Cell, State
from steadygrad.nn.recurrent import Recurrent

Skip = Literal["residual", "highway"]


@final
class DeepRecurrent(nn.Module):
    r"""A stack of recurrent layers of any cell, with a skip through depth around each.

    .. math::
        y^l_t &= y^{l-1}_t + h^l_t  &&\text{residual} \\
        y^l_t &= g^l_t \odot h^l_t + (1 - g^l_t) \odot y^{l-1}_t, \quad
            g^l_t = \sigma(W_g y^{l-1}_t + b_g)  &&\text{highway}

    with :math:`h^l` the hidden state of layer l, which reads :math:`y^{l-1}`, and
    :math:`y^0 = P x`, a projection (none where sizes agree). The gradient has a way from the top
    to the bottom that passes no cell: unchanged in the residual stack, times
    :math:`\prod_l (1 - g^l)` in the highway one, whose gates therefore start nearly shut,
    :math:`b_g = -2`. Through time nothing changes: that is the cell's affair.

    Args:
        cell: The recurrence, or the name of one.
        input_size: Features of :math:`x_t`.
        hidden_size: Features of every layer.
        num_layers: How many.
        skip: Which of the two.
        **options: As `Recurrent`: ``bias``, ``device``, ``dtype``, ``backend``.

    Shapes:
        ``x (T, B, I)``; returns ``(T, B, H)`` and the last state ``(L, B, H)`` per state of the
        cell, as `Recurrent` does.

    References:
        He et al., *Deep Residual Learning for Image Recognition*, 2016; Wu et al., *Google's
        Neural Machine Translation System*, 2016, section 3.1 (residual LSTM stack).
        Srivastava, Greff and Schmidhuber, *Training Very Deep Networks*, 2015, section 2 and 2.2
        (the bias).

    Example:
        >>> layer = DeepRecurrent("lstm", 3, 8, num_layers=6, skip="highway")
        >>> layer(torch.randn(20, 4, 3))[0].shape
        torch.Size([20, 4, 8])
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 4,
        skip: Skip = "residual",
        **options: Any,
    ) -> None:
        super().__init__()
        if skip not in get_args(Skip):
            raise ValueError(f"Unknown skip '{skip}'. Select from {', '.join(get_args(Skip))}.")
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        where = {key: options[key] for key in ("device", "dtype") if key in options}
        self.skip = skip
        self.project = (
            nn.Identity()
            if input_size == hidden_size
            else nn.Linear(input_size, hidden_size, **where)
        )
        self.layers = nn.ModuleList(
            Recurrent(cell, hidden_size, hidden_size, **options) for _ in range(num_layers)
        )
        self.gates = nn.ModuleList()
        for _ in range(num_layers if skip == "highway" else 0):
            gate = nn.Linear(hidden_size, hidden_size, **where)
            nn.init.constant_(gate.bias, -2.0)
            self.gates.append(gate)

    def forward(self, x: Tensor, state: Tensor | State | None = None) -> tuple[Tensor, Any]:
        """Run the stack; see the class for shapes."""
        given = (state,) if isinstance(state, Tensor) else state
        y = self.project(x)
        ends: list[State] = []
        for index, layer in enumerate(self.layers):
            start = None if given is None else tuple(s[index : index + 1] for s in given)
            h, end = layer(y, start[0] if start is not None and len(start) == 1 else start)
            ends.append(end if isinstance(end, tuple) else (end,))
            if self.skip == "residual":
                y = y + h
            else:
                gate = self.gates[index](y).sigmoid()
                y = gate * h + (1 - gate) * y
        last = tuple(torch.cat(values) for values in zip(*ends, strict=True))
        return y, last[0] if len(last) == 1 else last
