"""Make kernels in forked processes run on one thread, which otherwise would deadlock.

A fork copies only the calling thread. OpenMP's pool, which torch and the compiled kernels share,
still lists threads that the child does not have, and waits for them forever when a second thread is
requested; `torch.nn.LSTM` hangs this way. So a child sets torch to one thread: at once if kernels
used several threads in its parent, otherwise at its first scan if the parent had native threads
unknown to Python. A child that needs more threads must be spawned.
"""

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_TASKS = Path("/proc/self/task")


class _Pool:
    """The state of the thread pool of this process, or of the parent it was forked from."""

    was_used = False  # used by kernels, in this process or a parent
    had_threads = False  # other native threads at the time of the fork
    is_child = False


_pool = _Pool()


def note_threads() -> None:
    """Note that kernels use more than one thread in this process."""
    _pool.was_used = True


def when_forked(call: Callable[[], object]) -> None:
    """Call a bound method in every forked child while its object is alive.

    For calls that were prepared for the threads of the parent.
    """
    _listeners.append(weakref.WeakMethod(call, _listeners.remove))  # pyright: ignore


_listeners: list[Any] = []


def settle() -> None:
    """Before a scan: use one thread if this process was forked from one with threads."""
    if _pool.is_child and _pool.had_threads:
        torch.set_num_threads(1)
        _pool.had_threads = False


def _before() -> None:
    try:
        native = sum(1 for _ in _TASKS.iterdir())
    except OSError:  # the system has no such list: assume that there are some
        native = threading.active_count() + 1
    _pool.had_threads = native > threading.active_count()


def _in_child() -> None:
    _pool.is_child = True
    if _pool.was_used:
        torch.set_num_threads(1)
        _pool.had_threads = False
    for listener in list(_listeners):
        if (call := listener()) is not None:
            call()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
