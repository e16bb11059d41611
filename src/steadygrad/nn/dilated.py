"""Layers that skip through time: each reads its own state of several steps ago."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.nn.utils.rnn import PackedSequence

from steadygrad.cells import Cell, State
from steadygrad.nn.jit_traces import with_held_sizes
from steadygrad.nn.recurrent import Recurrent


@final
class Dilated(nn.Module):
    r"""A stack of recurrent layers, layer l with dilation :math:`d_l`, of any cell.

    .. math::
        s^l_t = F(h^{l-1}_t, s^l_{t - d_l}), \qquad h^0_t = x_t

    A layer of dilation d is d interleaved recurrences with shared weights. Over n steps its
    gradient passes :math:`n / d` steps of the cell, so it lives d times as long; with dilations
    1, 2, 4, ... the shortest way over n steps has about :math:`\log n` of them. They are run as d
    times as many rows over a d-th of the steps, which is also faster.

    Args:
        cell: The recurrence, or the name of one.
        input_size: Features of :math:`x_t`.
        hidden_size: Features of the states.
        dilations: One per layer, from the input up.
        **options: As `Recurrent`: ``bias``, ``device``, ``dtype``, ``backend``.

    Shapes:
        ``x (T, B, I)``; returns ``(T, B, H)`` and the state: per layer a tuple with a tensor
        ``(d, B, H)`` per state of the cell, the last d of them, oldest first. Zeros if not given.

    Raises:
        ValueError: A dilation below one, or an input that is not ``(T, B, I)``.

    References:
        Chang et al., *Dilated Recurrent Neural Networks*, 2017, section 2.

    Example:
        >>> output, state = Dilated("gru", 3, 8, dilations=(1, 2, 4))(torch.randn(20, 4, 3))
        >>> output.shape, [s[0].shape[0] for s in state]
        (torch.Size([20, 4, 8]), [1, 2, 4])
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        dilations: Sequence[int] = (1, 2, 4),
        **options: Any,
    ) -> None:
        super().__init__()
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations must be whole numbers from 1, one a layer: {dilations}")
        self.dilations = tuple(dilations)
        self.layers = nn.ModuleList(
            Recurrent(cell, hidden_size if i else input_size, hidden_size, **options)
            for i in range(len(self.dilations))
        )

    def forward(
        self, x: Tensor, state: Sequence[State] | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Run the layers; see the class for shapes."""
        if x.dim() != 3 or not len(x):
            raise ValueError(f"Dilated: expected input (T, B, I), got {tuple(x.shape)}")
        if state is not None and len(state) != len(self.layers):
            raise ValueError(f"Dilated: expected {len(self.layers)} states, got {len(state)}")
        if is_tracing():
            x = with_held_sizes(x)
        last: list[State] = []
        for index, dilation in enumerate(self.dilations):
            layer = self.layers[index]
            assert isinstance(layer, Recurrent)
            x, end = _interleaved(layer, x, state[index] if state else None, dilation)
            last.append(end)
        return x, tuple(last)


def _interleaved(
    layer: Recurrent, x: Tensor, state: State | None, dilation: int
) -> tuple[Tensor, State]:
    """Run one layer over ``x (T, B, I)``, its state ``(d, B, ·)`` per state of the cell."""
    steps, batch = (int(size) for size in x.shape[:2])  # of a graph, too, they are fixed
    if state is None:
        shape = (dilation, batch, layer.hidden_size)
        state = tuple(x.new_zeros(shape) for _ in layer.cell.states)
    # In memory the steps of all recurrences already stand as a packed sequence has them.
    active = min(dilation, steps)
    whole, rest = divmod(steps, dilation)
    sizes = torch.tensor([dilation * batch] * whole + [rest * batch] * (rest > 0))
    start = tuple(s[:active].reshape(1, active * batch, -1) for s in state)
    packed = PackedSequence(x.reshape(steps * batch, -1), sizes)
    output, end = layer(packed, start[0] if len(start) == 1 else start)
    ends = end if isinstance(end, tuple) else (end,)
    joined = (
        torch.cat([e.view(active, batch, -1), s[active:]]) for e, s in zip(ends, state, strict=True)
    )
    # The recurrence that comes next goes first.
    return output.data.view(steps, batch, -1), tuple(j.roll(-rest, 0) for j in joined)
