"""The common part of the callbacks: a watch from the start to the end of a training."""

import copy
from pathlib import Path
from typing import Any, Self

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
        self._own: Watch | None = None
        self._latest: list[Watch] = []  # of this and of all copies
        self._options = {"lag": lag, **options}
        self._page = page

    @property
    def watch(self) -> Watch | None:
        """The watch of this training, or the latest of a copy's; None before any began.

        Frameworks copy the callbacks that they are given, and train with the copy: NeuralForecast
        with every fit, scikit-learn with every fold.
        """
        if self._own is not None:
            return self._own
        return self._latest[0] if self._latest else None

    def begin(self, model: nn.Module, optimizer: Any) -> Watch:
        """Start a watch; a watch of an earlier fit ends."""
        self.end()
        self._own = watch(model, optimizer, **self._options)
        self._latest[:] = [self._own]
        return self._own

    def end(self) -> None:
        """Draw the page, if requested, and remove the hooks; the findings stay readable."""
        own = self._own
        if own is None or own.is_closed:
            return
        if self._page is not None:
            own.save(self._page)
        own.close()

    @property
    def verdict(self) -> str:
        """The watch's verdict; ``"not judged"`` before the training began."""
        return NOT_JUDGED if self.watch is None else self.watch.verdict

    def __str__(self) -> str:
        return self.verdict if self.watch is None else str(self.watch)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        # The list is shared, so that the callback of the user knows what its copies watched.
        made.__dict__ |= self.__dict__ | {
            "_own": None,
            "_options": copy.deepcopy(self._options, memo),
        }
        return made

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled has no watch yet.
        return self.__dict__ | {"_own": None, "_latest": []}
