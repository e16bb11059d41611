r"""Axes: which axis of a batch behaves as time does, and where the loss reads it.

Along time neighbours are alike, along a batch they are not more alike than any two. With x of shape
``(T, B, I)``, the mean distance of values k steps apart, and its mean over eight k between one
ninth and eight ninths of the axis,

.. math::
    d_T(k) = |x_{t+k,b} - x_{t,b}|, \qquad r_T = d_T(1) / \overline{d_T}, \qquad
    d_B(k) = |x_{t,b+k} - x_{t,b}|, \qquad r_B = d_B(1) / \overline{d_B},

a ratio near one means that the order along that axis does not matter, a small one that it does. One
k alone would not do: values a whole season apart are as alike as neighbours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.replay import OutputGradient, rows_of
from steadygrad.flow.sources import entries

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity("axes", "1", "Distance of neighbours over that of far ones, along time and batch.")
    ),
)

MOST_STEPS, MOST_ROWS = 256, 64  # looked at for an order and a size: every look pays for them
FEWEST = 8  # steps and rows from which an order can be seen


@final
@dataclass(frozen=True)
class Axes:
    """How one call lies in its layer.

    Attributes:
        steps: Time steps, as the layer takes them.
        rows: Sequences, as the layer takes them.
        steps_read: Time steps that the loss reads.
        rows_read: Sequences that the loss reads.
        reads_first: Whether it reads the first step and no other, of a layer that runs forward.
        along_time: :math:`r_T`; nan where it cannot be told.
        along_batch: :math:`r_B`; nan where it cannot be told.
        input_size: Root mean square of the largest feature of the input; nan for symbols.
    """

    steps: int
    rows: int
    steps_read: int
    rows_read: int
    reads_first: bool
    along_time: float
    along_batch: float
    input_size: float


@torch.no_grad()
def axes(call: Call, grad: OutputGradient) -> Axes | None:
    """Measure one call; None where its rows are of several lengths or no view shows them."""
    x = call.over_time()
    if x is None or call.chain is not None or not x.numel():
        return None
    found = entries(rows_of(call, grad), call.view.num_directions)
    read = found.any(1).nonzero().flatten().tolist()
    steps, batch = x.shape[:2]
    x = x[:MOST_STEPS, :MOST_ROWS].detach().float()
    size = x.square().mean((0, 1)).max().sqrt()
    return Axes(
        steps,
        batch,
        len(read),
        int(found.any(0).sum()),
        read == [0] and call.view.num_directions == 1,
        _order(x),
        _order(x.transpose(0, 1)),
        float(size),
    )


@torch.no_grad()
def from_zero(calls: Sequence[Call]) -> Counter[str]:
    """Calls of one time step from a state of zeros, by layer, where a layer has no others.

    Only where the input has features and no row is handed a past.
    """
    found: Counter[str] = Counter()
    others: set[str] = set()
    for call in calls:
        layer = call.name.partition("#")[0]
        steps = call.over_time()
        is_anew = not any(bool(s.any()) for s in call.state)
        if steps is None or len(steps) != 1 or call.chain is not None or not is_anew:
            others.add(layer)
        else:
            found[layer] += 1
    for layer in others:
        found.pop(layer, None)
    return found


def _order(x: Tensor) -> float:
    """Mean distance of neighbours along the first axis over that of values far apart."""
    count = len(x)
    if count < FEWEST:
        return float("nan")
    # Not the median: of values that are zero or one it is either, by chance.
    near, *far = (
        float((x[k:] - x[: count - k]).norm(dim=-1).mean())
        for k in (1, *sorted({max(2, count * k // 9) for k in range(1, 9)}))
    )
    mean = sum(far) / len(far)
    return near / mean if mean > 0 else float("nan")
