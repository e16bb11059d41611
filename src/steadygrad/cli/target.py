"""Read the target of a command: a model in a user's code, or a run of ``steadygrad train``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from steadygrad import _user_code
from steadygrad.diagnosis.lag import Lag
from steadygrad.errors import InputError
from steadygrad.train import reload

USAGE = "expected module:function, file.py:function, or the folder of a run of steadygrad train"


@dataclass(frozen=True)
class Target:
    """A model, and a function for its loss on one batch."""

    model: nn.Module
    loss_fn: Callable[[], Tensor]
    lag: Lag = None
    losses: tuple[float, ...] = ()


def read_target(text: str, data: Path | None = None) -> Target:
    """Read a target.

    Args:
        text: ``module:function`` or ``file.py:function``, which returns ``(model, loss_fn)``; or
            the folder of a run.
        data: Path of the data of a run, if it has moved.

    Raises:
        InputError: It cannot be found or read, or returns something else.
    """
    path = Path(text)
    if path.exists():
        run = reload(path, data)
        return Target(run.model, run.loss, run.lag, run.losses)
    made = call(text)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise InputError(
            f"{text}: expected a function without arguments that returns (model, loss_fn), a "
            f"torch.nn.Module and a function that computes the loss of one batch; got {made!r:.80}"
        )
    model: nn.Module = made[0]
    loss_fn: Any = made[1]
    if not callable(loss_fn):
        raise InputError(f"{text}: loss_fn, the second of the two, cannot be called: {loss_fn!r}")
    return Target(model, cast(Callable[[], Tensor], loss_fn))


def call(text: str) -> Any:
    """Import ``module:function`` or ``file.py:function`` and return what the function returns."""
    where, colon, name = text.rpartition(":")
    if not colon or not name:
        raise InputError(f"{text}: no such file or folder; {USAGE}")
    made = _user_code.named(where, name)
    if not callable(made):
        raise InputError(f"{text}: {name!r} is not a function, but {type(made).__name__}")
    return made()
