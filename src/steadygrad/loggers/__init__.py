"""Loggers for a watch: TensorBoard, W&B, MLflow, trackio, or any callable."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from steadygrad._room import public
from steadygrad.loggers.base import Logger as Logger
from steadygrad.loggers.function import FunctionLogger as FunctionLogger
from steadygrad.loggers.mlflow import MLflowLogger as MLflowLogger
from steadygrad.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
from steadygrad.loggers.trackio import TrackioLogger as TrackioLogger
from steadygrad.loggers.wandb import WandbLogger as WandbLogger

LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MLflowLogger,
    "trackio": TrackioLogger,
}
"""Loggers by name."""

Log = str | Logger | Callable[[int, dict[str, Any]], object]
"""A name in `LOGGERS`, a logger, or a function of the step and a dictionary of values."""


def loggers(log: Log | Sequence[Log] | None) -> list[Logger]:
    """Make the requested loggers.

    Raises:
        ValueError: There is no logger of that name.
        ModuleNotFoundError: The package of the service is not installed; names it.
        TypeError: Neither a name, nor a logger, nor a callable.
    """
    if log is None:
        return []
    asked: list[Log] = list(log) if isinstance(log, list | tuple) else [log]  # type: ignore[list-item]
    return [_logger(each) for each in asked]


def _logger(log: Log) -> Logger:
    if isinstance(log, Logger):
        return log
    if isinstance(log, str):
        if log not in LOGGERS:
            raise ValueError(
                f"log={log!r}: there is no such logger; there are {', '.join(LOGGERS)}"
            )
        try:
            return LOGGERS[log]()
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"log={log!r} needs the package {error.name}: pip install {error.name}",
                name=error.name,
            ) from error
    if callable(log):
        return FunctionLogger(log)
    raise TypeError(
        f"log: expected a name ({', '.join(LOGGERS)}), a steadygrad.loggers.Logger or a callable "
        f"(step, values), got {type(log).__name__}"
    )


if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
