r"""The leading Lyapunov exponents by the way that a gradient takes, through the compiled kernels.

.. math::
    Z_{t-1} = J_t^\top Q_t, \qquad Z_{t-1} = Q_{t-1} R_t, \qquad
    \lambda_i = \frac{1}{T} \sum_t \log |(R_t)_{ii}|

:math:`J_t^\top` applied to a direction is a backward pass that wants nothing but the gradient of
the state; no Jacobian is formed. A product and its transpose have the same singular values, so in
the long run these are the exponents by which differences grow on their way forward. Over few steps
both still show the directions that they began with.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.flow.linearise import Trajectory
from steadygrad.flow.lyapunov import LONGEST, LyapunovChain
from steadygrad.scan import Layout, ScanCall, scan

SPREAD = {torch.float32: 7.0, torch.float64: 22.0}  # as in `lyapunov`: 6e-8 e^7 over many steps
DEEPEST = {torch.float32: 40.0, torch.float64: 600.0}  # nats that a number of the kind can fall by
FIRST = 4  # steps of a segment while nothing is known of the growth


@torch.no_grad()
def retreat(chain: LyapunovChain, path: Trajectory, segment: int = FIRST) -> None:
    """Feed a chain with all steps of a trajectory, the last one first.

    Args:
        chain: Whose directions are at the end of the trajectory now, and at its beginning then; in
            float64, whatever the trajectory is in, and to be decomposed whenever it is fed.
        path: The layer and what drives it.
        segment: Steps between two decompositions.
    """
    batch, widths = path.layout.batch, [s.shape[1] for s in path.state]
    like = path.rows.new_empty(0, dtype=torch.float64)
    for given, final, steps in reversed(_forward(path, segment)):
        directions = chain.basis(like, batch, sum(widths))
        taken = [_back(given, final, d) for d in directions.to(path.rows.dtype).unbind(2)]
        chain.feed(torch.stack(taken, 2).double(), steps)


def _back(given: Sequence[Tensor], final: Sequence[Tensor], direction: Tensor) -> Tensor:
    """The transposed Jacobian of a segment times one direction ``(B, N)`` of each row."""
    pieces = [p.contiguous() for p in direction.split([s.shape[1] for s in given], 1)]
    found = torch.autograd.grad(final, given, pieces, retain_graph=True, allow_unused=True)
    made = [torch.zeros_like(s) if g is None else g for s, g in zip(given, found, strict=True)]
    return torch.cat(made, 1)


def _forward(path: Trajectory, segment: int) -> list[tuple[list[Tensor], Sequence[Tensor], int]]:
    """Of every segment the states before and after it, with the graph between them."""
    batch, reverse = path.layout.batch, path.layout.reverse
    x = path.rows.view(len(path.layout.batch_sizes), batch, -1)
    begins = range(0, len(x), segment)
    state: Sequence[Tensor] = path.state
    found = []
    for begin in reversed(begins) if reverse else begins:
        part = x[begin : begin + segment]
        given = [s.detach().requires_grad_() for s in state]
        layout = Layout.dense(len(part), batch, reverse)
        with torch.enable_grad():
            call = ScanCall(path.cell, part.flatten(0, 1), path.weights, tuple(given), layout)
            _, state = scan(call)
        found.append((given, state, len(part)))
    return found


def segment_for(exponents: Tensor, dtype: torch.dtype) -> int:
    """Steps that a number may go without a decomposition, by what was measured last."""
    if not bool(torch.isfinite(exponents).all()):
        return 1
    spread = float(exponents.max() - exponents.min())
    fall = float(exponents.abs().max())
    bound = min(SPREAD[dtype] / max(spread, 1e-9), DEEPEST[dtype] / max(fall, 1e-9))
    return int(max(1, min(LONGEST, math.floor(bound))))
