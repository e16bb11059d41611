"""Processes that were forked off: their kernels run on one thread, or would wait for ever.

A fork copies one thread alone. The pool of OpenMP, which torch and the compiled kernels share, is
copied as a memory of threads that the child does not have, and whoever asks it for a second thread
waits for ever; `torch.nn.LSTM` does. So a child sets torch to one thread: at once, if kernels had
several threads in its parent, and otherwise at its first scan, if its parent had threads that
Python does not know. A child that wants more threads has to be spawned.
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
    """What this process knows of the pool of threads that it has, or was forked away from."""

    was_used = False  # by kernels, in this process or in one that it was forked off from
    had_threads = False  # of others, when this process was forked off
    is_child = False


_pool = _Pool()


def note_threads() -> None:
    """Remember that a kernel gets more than one thread in this process."""
    _pool.was_used = True


def when_forked(call: Callable[[], object]) -> None:
    """Call a bound method in every child, as long as its object lives.

    For calls that were prepared for the threads of the parent.
    """
    _listeners.append(weakref.WeakMethod(call, _listeners.remove))  # pyright: ignore


_listeners: list[Any] = []


def settle() -> None:
    """Before a scan: if this process was forked off from one with threads, use one thread."""
    if _pool.is_child and _pool.had_threads:
        torch.set_num_threads(1)
        _pool.had_threads = False


def _before() -> None:
    try:
        native = sum(1 for _ in _TASKS.iterdir())
    except OSError:  # no such list on this system: take it that there are some
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
