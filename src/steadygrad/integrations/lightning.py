"""Lightning, in both namespaces: ``Trainer(callbacks=[SteadygradCallback(lag=50)])``."""

import importlib
from pathlib import Path
from typing import Any

from steadygrad.integrations.watching import Watching


def _bases() -> tuple[type, ...]:
    """The callback classes of the installed namespaces."""
    found: list[type] = []
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            base = importlib.import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
                raise
            continue
        if base not in found:
            found.append(base)
    if not found:
        raise ModuleNotFoundError(
            "steadygrad.integrations.lightning needs Lightning: pip install lightning",
            name="lightning",
        )
    return tuple(found)


class SteadygradCallback(*_bases()):
    """Watches the first optimiser of a training.

    Lightning computes the loss, the backward pass and its clip inside ``optimizer.step(closure)``;
    the gradients are measured after that closure has run, so that the norms before and after
    ``gradient_clip_val`` are both known, also with gradient accumulation.

    Args:
        lag: How many steps back the task needs the gradient to reach.
        page: Where to write the page when the training ends; none if not given.
        index: Index of the optimiser to watch.
        log: Whether to pass the numbers to the loggers of the Trainer, as ``gradient/...``.
        options: Further options of `steadygrad.watch`.

    Attributes:
        watch: The watch, from the first training step on, also after the training.
    """

    def __init__(
        self,
        lag: Any = None,
        page: str | Path | None = None,
        *,
        index: int = 0,
        log: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self._watching = Watching(lag, page, options)
        self._index, self._log = index, log

    @property
    def watch(self) -> Any:
        """The watch; None before the training began."""
        return self._watching.watch

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement."""
        return self._watching.verdict

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._watching.begin(pl_module, trainer.optimizers[self._index])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        watch = self._watching.watch
        if self._log and watch is not None and trainer.logger is not None:
            scalars = {f"gradient/{k}": v for k, v in watch.scalars().items()}
            if scalars and (trainer.global_step % max(trainer.log_every_n_steps, 1)) == 0:
                for logger in trainer.loggers:
                    logger.log_metrics(scalars, step=trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._watching.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._watching.end()
