"""PyTorch-Ignite: ``attach(trainer, model, optimizer, lag=50)`` returns the holder of the watch."""

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events  # type: ignore[import-not-found]
from torch import nn

from steadygrad.integrations.watching import Watching


def attach(
    trainer: Engine,
    model: nn.Module,
    optimizer: Any,
    lag: Any = None,
    page: str | Path | None = None,
    **options: Any,
) -> Watching:
    """Watch the training that an ignite engine runs.

    The numbers are in ``trainer.state.metrics`` as ``gradient/...`` after every iteration, for
    ignite's own loggers.

    Args:
        trainer: The engine.
        model: The model.
        optimizer: Its optimiser.
        lag: How many steps back the task needs the gradient to reach.
        page: Where to write the page when the training ends; none if not given.
        options: Further options of `steadygrad.watch`.

    Returns:
        The holder of the watch, with ``.watch`` and ``.verdict``; `print` it for the findings.
    """
    watching = Watching(lag, page, options)

    @trainer.on(Events.STARTED)
    def _begin(_: Engine) -> None:
        watching.begin(model, optimizer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def _numbers(engine: Engine) -> None:
        if watching.watch is not None:
            scalars = watching.watch.scalars()
            engine.state.metrics |= {f"gradient/{k}": v for k, v in scalars.items()}

    @trainer.on(Events.COMPLETED | Events.EXCEPTION_RAISED)
    def _end(_: Engine, error: BaseException | None = None) -> None:
        watching.end()
        if error is not None:
            raise error  # with this handler, ignite no longer raises the exception itself

    return watching
