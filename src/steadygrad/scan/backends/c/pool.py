"""Memory for large buffers, used again: what the system hands out anew costs a fault every 4 KB.

A buffer of a hundred megabytes that is made and dropped in every training step costs more in page
faults than the arithmetic on it. Here it is made once, in huge pages where the system has them,
and reused by the next request of about that size once it is free.

Smaller ones too: in the system's heap a long run of pieces, each of which leaves something small
behind, would find every hole a little too narrow, and never use one again.
"""

import math
import mmap
import threading
import weakref

import torch
from torch import Tensor

LEAST = 1 << 17  # bytes from which a buffer comes from here
GRAIN = 1 << 16  # what smaller blocks are a multiple of
LARGE = 1 << 20  # bytes from which a block is made of huge pages
PAGE = 1 << 21  # a huge page
KEPT = 1 << 30  # bytes that wait for the next who asks, at most
SLACK = 1.25  # a waiting block may be larger than what is asked for by so much

_HAS_BLOCKS = hasattr(mmap, "MAP_PRIVATE")
_idle: list[mmap.mmap] = []


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uninitialised memory of the dtype of ``like``; whatever holds it keeps it."""
    count = math.prod(shape)
    size = count * like.element_size()
    if size < LEAST or not _HAS_BLOCKS:
        return like.new_empty(*shape)  # read in half the time that a tuple takes
    block = _take(size)
    view = memoryview(block)  # which lives as long as any tensor on this memory, saved ones too
    loan = _Loan(view, _end)
    loan.block = block
    _lent[id(loan)] = loan
    return torch.frombuffer(view, dtype=like.dtype, count=count).view(shape)


class _Loan(weakref.ref["memoryview[int]"]):
    """A view of a block. `weakref.finalize` would do, and take a fifth of `empty`'s time."""

    __slots__ = ("block",)
    block: mmap.mmap


_lent: dict[int, _Loan] = {}


def _end(loan: _Loan) -> None:
    del _lent[id(loan)]
    _give(loan.block)


class _Scratch(threading.local):
    """What the kernels of one thread work in; the next call finds it in the cache."""

    memory = torch.empty(0, dtype=torch.float32, device="cpu")
    address = size = 0  # of it: asking a tensor takes as long as a small kernel's arithmetic


_scratch = _Scratch()


def scratch(size: int) -> int:
    """Address of so many bytes, this thread's until it asks again."""
    own = _scratch
    if size > own.size:
        own.size, own.memory = 0, _Scratch.memory  # what is too small is given back first
        memory = empty((-(-size // 4),), _Scratch.memory)
        own.memory, own.address, own.size = memory, memory.data_ptr(), 4 * len(memory)
    return own.address


def _take(size: int) -> mmap.mmap:
    grain = PAGE if size >= LARGE else GRAIN
    fitting = [b for b in _idle if size <= len(b) <= size * SLACK + grain]
    for block in sorted(fitting, key=len):
        try:
            _idle.remove(block)
        except ValueError:  # another thread was faster
            continue
        return block
    # Private: a process that is forked off gets a copy, as of any other memory.
    block = mmap.mmap(-1, -(-size // grain) * grain, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give(block: mmap.mmap) -> None:
    _idle.append(block)
    while sum(map(len, _idle)) > KEPT:
        try:
            del _idle[0]  # the one that has waited longest
        except IndexError:
            return
