"""What a command looks at: a model of the reader's own code, or a run of ``steadygrad train``."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from steadygrad.diagnosis.lag import Lag
from steadygrad.errors import InputError
from steadygrad.train import reload

USAGE = "expected module:function, file.py:function, or the folder of a run of steadygrad train"


@dataclass(frozen=True)
class Target:
    """A model, and a loss of one batch with it."""

    model: nn.Module
    loss_fn: Callable[[], Tensor]
    lag: Lag = None
    losses: tuple[float, ...] = ()


def read_target(text: str, data: Path | None = None) -> Target:
    """Read what was named.

    Args:
        text: ``module:function`` or ``file.py:function``, which returns ``(model, loss_fn)``; or
            the folder of a run.
        data: Where the data of a run lies now, if it has moved.

    Raises:
        InputError: It cannot be found or read, or does not return what is wanted.
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
    try:
        module = _imported(where)
    except ModuleNotFoundError as error:
        raise InputError(f"{text}: {error}; {USAGE}") from None
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(f"{text}: no function {name!r} in {where}; there are: {', '.join(there)}")
    return function()


def _imported(where: str) -> Any:
    if not where.endswith(".py"):
        folder = str(Path.cwd())
        if folder not in sys.path:  # as `python -m` has it
            sys.path.insert(0, folder)
        return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise InputError(f"{where}: no such file; {USAGE}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
