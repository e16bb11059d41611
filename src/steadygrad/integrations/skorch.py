"""skorch: ``NeuralNetClassifier(..., callbacks=[SteadygradCallback(lag=50)])``."""

from pathlib import Path
from typing import Any

from skorch.callbacks import Callback  # type: ignore[import-not-found]

from steadygrad.faults import NOT_JUDGED
from steadygrad.integrations.watching import Watching


class SteadygradCallback(Callback):
    """Watches a skorch net; the verdict of each epoch is in its history.

    Args:
        lag: How many steps back the task needs the gradient to reach.
        page: Where to write the page when the training ends; none if not given.
        options: Further options of `steadygrad.watch`, as a dictionary, because scikit-learn's
            ``get_params`` needs every parameter by name.

    Attributes:
        watch: The watch, from the start of the training on.
    """

    def __init__(
        self,
        lag: Any = None,
        page: str | Path | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.lag, self.page, self.options = lag, page, options

    def initialize(self) -> "SteadygradCallback":
        self._watching = Watching(self.lag, self.page, self.options or {})
        return self

    @property
    def watch(self) -> Any:
        """The watch; None before the training began."""
        watching = getattr(self, "_watching", None)
        return None if watching is None else watching.watch

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement."""
        return NOT_JUDGED if self.watch is None else self.watch.verdict

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self._watching.begin(net.module_, net.optimizer_)

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        net.history.record("gradient_verdict", self.verdict)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self._watching.end()
