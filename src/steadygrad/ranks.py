"""The processes of one training, and exchanges between them.

A training in a single process is a group of one, without overhead.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar, final

import torch
from torch import Tensor
from torch import distributed as dist

from steadygrad.errors import LostProcess as LostProcess

T = TypeVar("T")
PATIENCE = 60.0  # timeout in seconds for the other processes when a group is made
SETTLED = 0.1  # seconds after which a group's thread has released its last call
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun
_COUNT, _JOINED = itertools.count(), itertools.count()


@final
class Ranks:
    """A group of processes that all make the same calls in the same order.

    Exchanges go through the CPU in a separate group, so that they do not interfere with those of
    the training itself.

    Attributes:
        rank: The number of this process.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank, self.size, self._group = rank, size, group

    @classmethod
    def everyone(cls) -> Self:
        """All processes of the default group of `torch.distributed`; one if there is none.

        Raises:
            LostProcess: Some process did not make this call within a minute.
        """
        if not is_spread():
            return cls()
        rank, size = dist.get_rank(), dist.get_world_size()
        _meet(rank, size)
        return cls(rank, size, dist.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0, which writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def share(self, count: int) -> range:
        """The indices of this process's rows among ``count``: every ``size``-th."""
        return range(self.rank, count, self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        return flags if self.is_alone else tuple(v > 0 for v in self.sum(*map(float, flags)))

    def sum(self, *values: float) -> tuple[float, ...]:
        """For each value the sum over processes, bit-identical in all of them."""
        if self.is_alone:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        return tuple(self.sum_(total).tolist())

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a CPU tensor over the processes, in place."""
        if not self.is_alone:
            with lost():
                dist.all_reduce(tensor, group=self._group)
        return tensor

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, in each of them."""
        if self.is_alone:
            return [value]
        found: list[Any] = [None] * self.size
        with lost():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def from_rank(self, value: T, rank: int = 0) -> T:
        """The value of process ``rank``, in each of them."""
        if self.is_alone:
            return value
        holder = [value if rank == self.rank else None]
        with lost():
            dist.broadcast_object_list(holder, src=rank, group=self._group)
        return holder[0]  # pyright: ignore[reportReturnType]

    def together(self, work: Callable[[], T], only_first: bool = False) -> T:
        """Run ``work`` in every process, or in rank 0 alone; if one rank raises, all raise.

        Args:
            work: Raises ValueError for errors that the user has to fix.
            only_first: Whether only rank 0 runs it; the others get its result.
        """
        value: Any = None
        error: ValueError | None = None
        try:
            value = work() if self.is_first or not only_first else None
        except ValueError as found:
            error = found
        if self.is_alone:
            if error is not None:
                raise error
            return value
        errors = self.gather(error)
        first = next((e for e in errors if e is not None), None)
        if first is not None:
            raise first
        return self.from_rank(value) if only_first else value


def is_spread() -> bool:
    """Whether `torch.distributed` runs with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def joined(device: str = "auto") -> Iterator[int | None]:
    """Join the processes started by torchrun, within the context.

    Yields:
        The local rank, or None if torchrun did not start the process or a default group exists
        already.
    """
    is_launched = all(name in os.environ for name in LAUNCHED) and dist.is_available()
    if not is_launched or dist.is_initialized() or int(os.environ["WORLD_SIZE"]) == 1:
        yield None
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    local = int(os.environ["LOCAL_RANK"])
    if on_gpu:
        torch.cuda.set_device(local)
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(iter(rendezvous("env://")))
    # A separate prefix for every group: an earlier group of the same processes has left addresses
    # there at which no process listens any more.
    store = PrefixStore(f"steadygrad-{next(_JOINED)}", store)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield local
    finally:
        leave()


def leave() -> None:
    """Leave the default group.

    The thread of a Gloo group releases a Python object after a call, for which it needs the GIL.
    Destroying the group holds the GIL and waits for that thread: a deadlock, avoided by waiting
    first.
    """
    time.sleep(SETTLED)
    dist.destroy_process_group()


@contextmanager
def lost() -> Iterator[None]:
    """Turn torch's errors of a failed collective call into `LostProcess`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, LostProcess) or not _is_of_a_peer(error):
            raise
        said = " ".join(str(error).split())
        raise LostProcess(
            f"another process of this training died or is out of step ({said[:160]})"
        ) from error


def _is_of_a_peer(error: RuntimeError) -> bool:
    said = str(error).lower()
    words = ("gloo", "nccl", "connection", "socket", "store", "peer", "timed out")
    return isinstance(error, dist.DistError) or any(word in said for word in words)


def _meet(rank: int, size: int) -> None:
    """Wait until every process has made this call as many times as this one."""
    store = dist.distributed_c10d._get_default_store()
    key = f"steadygrad/{next(_COUNT)}"
    store.set(f"{key}/{rank}", "here")
    try:
        store.wait([f"{key}/{r}" for r in range(size)], timedelta(seconds=PATIENCE))
    except RuntimeError as error:
        missing = [r for r in range(size) if not _is_there(store, f"{key}/{r}")]
        raise LostProcess(
            f"process {rank} waited {PATIENCE:.0f} s for {missing} of {size}: what measures over "
            "all processes has to be called in each of them, in the same order; only the first "
            "writes. To look at this process alone, give ranks='this'"
        ) from error


def _is_there(store: Any, key: str) -> bool:
    try:
        return bool(store.check([key]))
    except RuntimeError:
        return False
