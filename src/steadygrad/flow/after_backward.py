"""What is to be done when a backward pass has ended, gradients reduced over processes included."""

from collections.abc import Callable
from typing import Any

from torch.autograd import Variable


def after_backward(do: Callable[[], None]) -> None:
    """Call ``do`` at the very end of the backward pass that runs now; from within a hook.

    `DistributedDataParallel` reduces gradients in a callback of its own at the end of the pass,
    which may come after one that was asked for earlier; a callback that is asked for by a callback
    comes after both.
    """
    engine: Any = Variable._execution_engine  # type: ignore[attr-defined]
    engine.queue_callback(lambda: engine.queue_callback(do))
