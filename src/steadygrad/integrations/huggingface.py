"""Hugging Face's Trainer: ``Trainer(..., callbacks=[SteadygradCallback(lag=50)])``."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback  # type: ignore[import-not-found]

from steadygrad.integrations.watching import Watching


class SteadygradCallback(TrainerCallback):
    """Watches a `transformers.Trainer`.

    The Trainer calls its own loggers before callbacks, so the numbers are logged by the watch, with
    ``log="wandb"`` or similar, into the same run.

    Args:
        lag: How many steps back the task needs the gradient to reach.
        page: Where to write the page when the training ends; none if not given.
        options: Further options of `steadygrad.watch`.

    Attributes:
        watch: The watch, from the start of the training on.
    """

    def __init__(self, lag: Any = None, page: str | Path | None = None, **options: Any) -> None:
        self._watching = Watching(lag, page, options)

    @property
    def watch(self) -> Any:
        """The watch; None before the training began."""
        return self._watching.watch

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement."""
        return self._watching.verdict

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._watching.begin(kwargs["model"], kwargs["optimizer"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._watching.end()
