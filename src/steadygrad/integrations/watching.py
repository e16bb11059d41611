"""The common part of the callbacks: a watch from the start to the end of a training."""

from pathlib import Path
from typing import Any

from torch import nn

from steadygrad.diagnosis import Watch, watch
from steadygrad.faults import NOT_JUDGED


class Watching:
    """Holds the watch of one training, and draws a page at its end.

    Args:
        lag: How many steps back the task needs the gradient to reach; see `steadygrad.watch`.
        page: Where to write the page when training ends; none if not given.
        options: Further options of `steadygrad.watch`.
    """

    def __init__(self, lag: Any, page: str | Path | None, options: dict[str, Any]) -> None:
        self.watch: Watch | None = None
        self._options = {"lag": lag, **options}
        self._page = page

    def begin(self, model: nn.Module, optimizer: Any) -> Watch:
        """Start a watch; a watch of an earlier fit ends."""
        self.end()
        self.watch = watch(model, optimizer, **self._options)
        return self.watch

    def end(self) -> None:
        """Draw the page, if requested, and remove the hooks; the findings stay readable."""
        if self.watch is None or self.watch.is_closed:
            return
        if self._page is not None:
            self.watch.save(self._page)
        self.watch.close()

    @property
    def verdict(self) -> str:
        """The watch's verdict; ``"not judged"`` before the training began."""
        return NOT_JUDGED if self.watch is None else self.watch.verdict

    def __str__(self) -> str:
        return self.verdict if self.watch is None else str(self.watch)

    def __getstate__(self) -> dict[str, Any]:
        # Frameworks copy and pickle callbacks; a copy has no watch yet.
        return self.__dict__ | {"watch": None}
