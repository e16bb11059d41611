r"""The weight gradient by time step: which steps make up the gradient of R and W.

.. math::
    \frac{\partial L}{\partial R} = \sum_t G_t, \qquad G_t = \delta_t^\top h_{t-1}, \qquad
    \|G_t\|_F^2 = \sum_{b,b'} (\delta_t \delta_t^\top)_{bb'}\, (h_{t-1} h_{t-1}^\top)_{bb'}

with the pre-activation gradients :math:`\delta_t`, ``(B, G*H)``. The norm needs two B x B products
per step, never the matrix. It is exact to about 1e-8 of the largest row's share.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.flow.by_source import gradients_of
from steadygrad.flow.capture import Capture
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.replay import rows_of
from steadygrad.flow.sources import is_reached
from steadygrad.flow.walk import Leg, walk
from steadygrad.scan import Layout

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "weight_gradient", "gradient", "Which time steps make up the gradient of the weights."
        )
    ),
)

Rows = NDArray[np.float64]


def weight_gradient_by_step(
    model: nn.Module, loss_fn: Callable[[], Tensor], *, rows: int | None = None
) -> dict[str, dict[str, Rows]]:
    """Measure every time step's share of the gradient of the weights.

    Args:
        model: Any model that holds recurrent layers; it is not touched.
        loss_fn: Computes the scalar loss of one batch.
        rows: Use at most so many sequences; all if not given.

    Returns:
        Per layer and direction, for ``weight_ih`` and ``weight_hh``, ``(T,)``: log10 of the
        Frobenius norm of the part that step t adds.

    Raises:
        ValueError: The model holds no recurrent layer, or the loss does not depend on one.
    """
    with Capture(model) as capture, torch.random.fork_rng():
        with torch.enable_grad():
            loss = loss_fn()
        calls, grads = gradients_of(capture, loss)
        found: dict[str, dict[str, Rows]] = {}
        for call, grad in zip(calls, grads, strict=True):
            if call.is_viewed and is_reached(grad):
                legs = list(walk(call.view, rows_of(call, grad, rows), torch.float64))
                for leg in sorted(legs, key=lambda leg: leg.key):
                    found[call.view.name(leg.key, call.name)] = _norms(leg)
    return found


def _norms(leg: Leg) -> dict[str, Rows]:
    got = leg.back
    squares = [_by_step(leg.layout, got.products[p], got.arguments[p]) for p in got.products]
    recurrent = torch.stack(squares).logsumexp(0) if squares else None
    norms = {"weight_ih": _by_step(leg.layout, got.pre, leg.x)}
    if recurrent is not None:
        norms["weight_hh"] = recurrent
    return {name: (0.5 * value / np.log(10)).numpy() for name, value in norms.items()}


def _by_step(layout: Layout, delta: Tensor, argument: Tensor) -> Tensor:
    """``(T,)``: natural logarithm of the squared norm of each step's outer product."""
    d, a = layout.pad(delta, 0.0), layout.pad(argument, 0.0)
    # Squares of what is small would underflow: the largest element of each is taken out first.
    top_d, top_a = (v.abs().amax((1, 2), keepdim=True).clamp_min(1e-300) for v in (d, a))
    d, a = d / top_d, a / top_a
    square = ((d @ d.mT) * (a @ a.mT)).sum((1, 2)).clamp_min(0.0)
    return square.log() + 2 * (top_d.log() + top_a.log()).flatten()
