"""Run a function outside all torch modes of its caller."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def cleanly(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function outside every mode, transform and trace of its caller.

    Fake tensors, hooks of checkpointing, functional transforms, dispatch and function modes,
    autocast, inference mode and the default device are all set per thread, so the function runs in
    a new thread. Anomaly detection is a flag of the whole process: it is switched off meanwhile,
    because it reads values, which a trace does not have.
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
