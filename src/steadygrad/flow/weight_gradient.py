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
from torch.nn import functional as F

from steadygrad.flow.by_source import gradients_of
from steadygrad.flow.capture import Capture
from steadygrad.flow.layer_names import direction_name
from steadygrad.flow.replay import Replay, rows_of
from steadygrad.flow.sources import is_reached
from steadygrad.scan import Layout, Weights
from steadygrad.scan.backends import eager

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
            if is_reached(grad):
                replay = Replay(call.layer, rows_of(call, grad, rows))
                for key, norms in _walk(replay).items():
                    found[direction_name(call.name, key, replay.twin)] = norms
    return found


@torch.no_grad()
def _walk(replay: Replay) -> dict[tuple[int, bool], dict[str, Rows]]:
    """Walk the layers of one call up and, with the gradients at their pre-activations, down."""
    twin, sizes = replay.twin, replay.rows.batch_sizes
    x, legs = replay.x, []
    noise = iter(twin.fixed_noise or list(twin.noise(len(x), sizes[0], None)))
    state = replay.state
    for layer in range(twin.num_layers):
        legs.append([])
        for reverse in (False, True)[: twin.num_directions]:
            weights = twin.weights(layer, reverse, next(noise))
            start = tuple(s[layer * twin.num_directions + reverse] for s in state)
            layout = Layout(sizes, reverse)
            projected = F.linear(x, weights.weight_ih, weights.bias_ih)
            trip = eager.forward(twin.cell, layout, projected, weights, start, keep=True)
            legs[-1].append((layout, x, weights, trip))
        x = torch.cat([trip.hidden for *_, trip in legs[-1]], 1)
    found: dict[tuple[int, bool], dict[str, Rows]] = {}
    above = replay.rows.output.to(x.dtype)
    for layer in reversed(range(twin.num_layers)):
        below = torch.zeros_like(legs[layer][0][1])
        parts = above.chunk(twin.num_directions, 1)
        for back, (layout, given, weights, trip) in enumerate(legs[layer]):
            last = [s[layer * twin.num_directions + back].to(x.dtype) for s in replay.rows.last]
            got = eager.backward(
                twin.cell,
                layout,
                trip.saved,
                weights,
                parts[back].contiguous(),
                last,
                twin.loop_clip,
            )
            found[layer, bool(back)] = _norms(layout, given, weights, got)
            below += got.pre @ weights.weight_ih
        above = below
    return dict(sorted(found.items()))


def _norms(layout: Layout, x: Tensor, weights: Weights, got: eager.Gradients) -> dict[str, Rows]:
    squares = [_by_step(layout, got.products[p], got.arguments[p]) for p in got.products]
    recurrent = torch.stack(squares).logsumexp(0) if squares else None
    norms = {"weight_ih": _by_step(layout, got.pre, x)}
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
