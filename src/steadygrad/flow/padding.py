r"""Padded loss: how much of what the loss asks of a layer is asked at padded steps.

.. math::
    \text{share} = \frac{\sum_{(t,b) \in P} |\partial L / \partial y_{t,b}|^2}
    {\sum_{t,b} |\partial L / \partial y_{t,b}|^2}

with the outputs y and the steps P that count as padded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.replay import OutputGradient

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "padded_loss",
            "1",
            "Share of the squared gradient of the loss that enters at padded steps.",
        )
    ),
)

BEYOND = 2  # times the longest run inside from which a run at the end is padding


@dataclass(frozen=True)
class PaddedLoss:
    """What the loss reads at padded steps.

    Attributes:
        share: Share of the squared gradient at the outputs, 0 to 1.
        sequences: Sequences that are read at two padded steps or more.
        longest_run: Steps of the longest run that ends a sequence.
        before: Share of the squared gradient before the ends, however short these are.
        after: Sequences that are read after their end alone.
        late: Steps after its own last one at which such a sequence is read, in the median.
    """

    share: float
    sequences: int
    longest_run: int
    before: float = 1.0
    after: int = 0
    late: int = 0


def padded_loss(call: Call, gradient: OutputGradient) -> PaddedLoss | None:
    """Measure one call; None where nothing can be told.

    Sequences count as padded if they end in runs of one and the same input, of at least two steps,
    of different lengths, and longer than any run of that input before the ends; as many steps as
    the longest of these are taken for the sequence's own. A loss that reads one step of a sequence,
    long after that, tells less: images that end in background look the same and are none.
    """
    output = gradient[0]
    x = call.over_time()
    if output is None or x is None:
        return None
    # (T, B)
    entered = call.arranged.rows(output).double().square().sum(-1).view(x.shape[:2])
    runs, inside = _runs(x)
    steps = torch.arange(len(x), device=x.device)[:, None]
    # Inputs of few values repeat themselves within the sequences, too.
    # So the first steps of a long run at the end may be the sequence's own.
    is_long = (runs >= 2) & (runs > BEYOND * inside)
    padded = (steps >= len(x) - runs + inside) & is_long
    read = ((entered > 0) & padded).sum(0)
    total = float(entered.sum())
    if not total > 0 or runs.unique().numel() < 2:
        return None
    share = float((entered * padded).sum()) / total
    before = float((entered * (steps < len(x) - runs)).sum()) / total
    is_after = (read == 1) & ~((entered > 0) & ~padded).any(0)
    late = int((runs - inside)[is_after].median()) if bool(is_after.any()) else 0
    ends = int((read >= 2).sum())
    return PaddedLoss(share, ends, int(runs.max()), before, int(is_after.sum()), late)


def _runs(x: Tensor) -> tuple[Tensor, int]:
    """Steps of the run of one value that ends each sequence, and of its longest run elsewhere.

    The value is the same for all sequences; what it does not do twice in a row counts as 0.
    """
    value = x[-1].mode(0).values  # what most sequences end in
    same = (x == value).all(-1)
    ends = same.flip(0).long().cumprod(0).sum(0)
    steps = torch.arange(len(x), device=x.device)[:, None]
    same = same & (steps < len(x) - ends)
    count = same.long().cumsum(0)
    before = torch.where(same, 0, count).cummax(0).values  # the count where the run began
    longest = int((count - before).max())
    return ends, longest if longest > 1 else 0
