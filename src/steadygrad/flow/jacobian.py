r"""The step Jacobian on the full state, and its singular values.

.. math::
    J_t = \frac{\partial s_t}{\partial s_{t-1}}

with all states of the cell, h and c for an LSTM, as one vector of N features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steadygrad.flow.linearise import linearise
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.singular import svdvals

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "singular_values",
            "1",
            "How much one step stretches a gradient, direction by direction.",
        )
    ),
)

NUMBERS = 2**22
"""Entries of the Jacobians that are held at a time, unless those of one step are more."""


def step_jacobians(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> Tensor:
    r"""Every step's Jacobian, in the order of the steps.

    Args:
        layer: As `steadygrad.flow.linearise` takes it.
        x: As there.
        state: As there.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.

    Returns:
        ``(T, B, N, N)`` in float64, row = new state, column = old. N is the number of all states'
        features: 2H for an LSTM. That is T·B·N² numbers; for long sequences use `transition` or
        `steadygrad.flow.lyapunov_exponents`, which hold a few steps at a time.

    Example:
        >>> layer = torch.nn.LSTM(3, 5)
        >>> step_jacobians(layer, torch.randn(7, 2, 3)).shape
        torch.Size([7, 2, 10, 10])
    """
    linear = linearise(layer, x, state, index=index, reverse=reverse)
    steps, batch = len(linear.layout.batch_sizes), linear.layout.batch
    whole = linear.jacobian(slice(0, steps * batch)).dense(steps * batch)
    whole = whole.view(steps, batch, *whole.shape[1:])
    return whole.flip(0) if reverse else whole


def singular_values(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> Tensor:
    """``(T, B, N)``: singular values of every step Jacobian, descending.

    All near one: the step neither shrinks nor stretches anything (dynamical isometry).

    Args:
        layer: As `steadygrad.flow.linearise` takes it.
        x: As there.
        state: As there.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.
    """
    linear = linearise(layer, x, state, index=index, reverse=reverse)
    batch = linear.layout.batch
    steps = list(linear.steps())
    # Several steps at once where matrices are small: calling an operation costs more than it does.
    together = max(1, NUMBERS // (batch * sum(linear.widths) ** 2))
    found = []
    for at in range(0, len(steps), together):
        some = steps[at : at + together]
        first, last = sorted((some[0], some[-1]), key=lambda rows: rows.start)
        rows = slice(first.start, last.stop)
        values = svdvals(linear.jacobian(rows).dense(rows.stop - rows.start))
        values = values.view(len(some), batch, -1)
        found.append(values.flip(0) if some[0].start > first.start else values)
    return torch.cat(found)
