"""A clean context: run a function in none of the modes that its caller is in."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def cleanly(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function outside of every mode, transform and trace of its caller.

    Fake tensors, hooks of checkpointing, functional transforms, dispatch and function modes,
    autocast, inference mode and the default device are all set per thread, so a new thread has none
    of them. Anomaly detection is one flag for the whole process: it is switched off meanwhile, for
    it looks at values, which a trace does not have.
    """
    done: Future[R] = Future()

    def run() -> None:
        try:
            if torch.is_anomaly_enabled():
                with torch.autograd.set_detect_anomaly(False):
                    done.set_result(call(*args, **kwargs))
            else:
                done.set_result(call(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="steadygrad-trace")
    thread.start()
    thread.join()
    return done.result()
