"""How the work of one call is split over threads, by a rule that depends on its sizes alone."""

import array
import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch

from steadygrad.scan.backends.c.openmp import openmp
from steadygrad.scan.backends.forks import note_threads
from steadygrad.scan.layout import Layout

SMALL = 1 << 22
"""Multiplications of a call from which a second thread is worth waking: about 0.15 ms of one.

Half of that is all there is to gain. Where the other core is free, waking takes some 0.02 ms; where
it is busy, the call waits for the scheduler, which takes milliseconds.
"""
OFTEN = 2
"""How many times `SMALL` where threads would have to meet at every step."""
MEETING = 1 << 15
"""Multiplications of a step's recurrent products from which threads gain by meeting twice."""
LARGE = 1 << 18
"""Values of R that the cache of one core does not hold beside everything else."""
ROWS = 4
"""Rows per thread up to which reading R is memory-bound."""


@dataclass(frozen=True)
class Split:
    """Threads of a call.

    Attributes:
        threads: How many.
        together: Whether all share the columns of every product, and wait for each other; if not,
            each processes its own rows of the batch without synchronisation.
        bounds: Where the rows of each thread begin and end, as the kernel reads it.
        most: Rows that scratch memory has to hold: of one thread, or of all where they share.
    """

    threads: int
    together: bool
    bounds: "array.array[int]"
    most: int


def split(layout: Layout, inputs: int, size: int, gates: int) -> Split:
    r"""Choose: rows of the batch, or columns of the products.

    Columns, if there are fewer rows than threads and a step is worth the meetings; or if R is
    large and rows are so few that reading it takes longer than multiplying with it: with rows
    split, every thread reads all of it at every step, with columns, each its part.
    Never columns with more threads than cores: they would wait for each other in turn.

    Args:
        layout: Rows of each time step.
        inputs: Features of the input, ``I``.
        size: Units, ``H``.
        gates: Gates of the cell, ``G``.
    """
    threads = torch.get_num_threads() if openmp() else 1
    steps, batch = len(layout.batch_sizes), layout.batch
    work = steps * batch * size * gates * (size + inputs)
    if work <= SMALL:
        threads = 1
    together = steps > 1 and 1 < threads <= cores() and _columns(threads, batch, gates * size**2)
    together = together and work > OFTEN * SMALL
    threads = threads if together else max(1, min(threads, batch))
    if threads > 1:
        note_threads()
    if layout.is_dense:
        return _dense(batch, threads, together)
    return _packed(layout, threads, together)


def _columns(threads: int, batch: int, values: int) -> bool:
    """Whether columns are better split than rows, ``values`` being the size of R."""
    if batch < threads:
        return batch * values >= MEETING
    return batch <= ROWS * threads and values >= LARGE


@lru_cache(maxsize=1)
def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _dense(batch: int, threads: int, together: bool) -> Split:
    return _split(threads, together, [batch * i // threads for i in range(threads + 1)])


def _packed(layout: Layout, threads: int, together: bool) -> Split:
    """Rows of each thread, contiguous, with about the same number of steps."""
    lengths = layout.present().sum(0).cumsum(0).tolist()
    total = lengths[-1]
    inner = [sum(done <= total * i / threads for done in lengths) for i in range(1, threads)]
    return _split(threads, together, [0, *inner, layout.batch])


def _split(threads: int, together: bool, bounds: list[int]) -> Split:
    most = bounds[-1] if together else max(b - a for a, b in pairwise(bounds))
    return Split(threads, together, array.array("q", bounds), most)
