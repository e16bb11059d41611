r"""Shard a batch over ranks; rejoin loss and state.

Every process reads the same batches and takes every ``size``-th row. The loss is a mean over
answers, whose numbers may differ between shares: with :math:`n_r` in process r, :math:`n` in all,

.. math::
    L = \sum_r \frac{n_r}{n} L_r, \qquad
    \nabla L = \frac{1}{R} \sum_r \nabla \Big( R \, \frac{n_r}{n} L_r \Big)

where `DistributedDataParallel` takes the mean over the R processes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad.ranks import Ranks
from steadygrad.tasks import Batch
from steadygrad.train.model import Carried


@dataclass(frozen=True)
class Share:
    """One process's rows of a batch.

    Args:
        batch: The rows; the first row, if none is left for this process.
        rows: Their share of the rows of the batch, 0 to 1; 0 if none is left.
    """

    batch: Batch
    rows: float


def share_of(batch: Batch, ranks: Ranks, every_step: bool) -> Share:
    """Take this process's rows; all of them without other processes."""
    if ranks.is_alone:
        return Share(batch, 1.0)
    count = batch.inputs.shape[1]
    mine = ranks.share(count)
    at = torch.tensor(list(mine) or [0])
    inputs = batch.inputs.index_select(1, at)
    targets = batch.targets.index_select(1 if every_step else 0, at)
    return Share(Batch(inputs, targets, batch.fresh), len(mine) / count)


def joined_state(state: Carried | None, ranks: Ranks) -> Carried | None:
    """Gather the carried state of all rows from the processes."""
    if ranks.is_alone or state is None:
        return state
    mine = (state,) if isinstance(state, Tensor) else state
    shares = ranks.gather(tuple(part.detach().cpu() for part in mine))
    whole = tuple(_interleaved(parts) for parts in zip(*shares, strict=True))
    return whole[0] if isinstance(state, Tensor) else whole


def own_state(state: Carried | None, ranks: Ranks) -> Carried | None:
    """This process's rows of a carried state."""
    if ranks.is_alone or state is None:
        return state
    if isinstance(state, Tensor):
        return state[:, ranks.rank :: ranks.size].contiguous()
    return tuple(part[:, ranks.rank :: ranks.size].contiguous() for part in state)


def _interleaved(parts: tuple[Tensor, ...]) -> Tensor:
    whole = parts[0].new_empty(
        parts[0].shape[0], sum(p.shape[1] for p in parts), *parts[0].shape[2:]
    )
    for rank, part in enumerate(parts):
        whole[:, rank :: len(parts)] = part
    return whole
