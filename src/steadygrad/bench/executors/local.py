"""Execute runs in processes of this machine, one run and one thread each."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import final

from steadygrad.bench.executors.base import ATTEMPTS, Done, Work, died
from steadygrad.bench.trial import Result, Trial

AHEAD = 4  # runs submitted per worker: enough to keep it busy, few to cancel
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@final
@dataclass(frozen=True)
class Local:
    """A pool of worker processes.

    Args:
        workers: Processes; one per core if not given.
    """

    workers: int | None = None

    @property
    def count(self) -> int:
        """Worker processes."""
        return self.workers or len(os.sched_getaffinity(0))

    def run(self, work: Work, trials: Sequence[Trial]) -> Iterator[Done]:
        suspects: list[Trial] = []
        waiting = deque(trials)
        while waiting or suspects:
            if not suspects:
                suspects = yield from _until_broken(work, waiting, self.count)
            else:  # one by one, to find the run that kills its worker
                yield suspects[0], _alone(work, suspects.pop(0))


def _until_broken(work: Work, waiting: "deque[Trial]", workers: int) -> Iterator[Done]:
    """Yield finished runs; return those in progress when a worker died, if one does."""
    under_way: dict[Future[Result], Trial] = {}
    lost: list[Trial] = []
    with _pool(workers) as pool:
        while (waiting or under_way) and not lost:
            try:
                while waiting and len(under_way) < workers * AHEAD:
                    under_way[pool.submit(work, waiting[0])] = waiting[0]
                    waiting.popleft()
            except BrokenProcessPool:
                pass  # the futures say which runs
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                trial = under_way.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(trial)
                else:
                    yield trial, future.result()
        lost += under_way.values()
    return lost


def _alone(work: Work, trial: Trial) -> Result:
    for _ in range(ATTEMPTS - 1):  # the first attempt was in the pool
        with _pool(1) as pool, contextlib.suppress(BrokenProcessPool):
            return pool.submit(work, trial).result()
    return died(trial)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are terminated with it, and end with this process."""
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, context, initializer=_begin)
        try:
            yield pool
        except BaseException:
            children = multiprocessing.active_children()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.kill()
            raise
        pool.shutdown()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Make newly started processes use one thread, because they share the cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin() -> None:
    """Initialise a worker: ignore Ctrl-C, which the parent handles, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
