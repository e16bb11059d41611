"""The output of a notebook's cell that follows a training."""

import importlib
import time
from typing import Any

from steadygrad.errors import InputError

_SHARE = 0.05  # of the time, at most, goes into drawing


class NotebookOutput:
    """Output of the cell that is running now, drawn again and again in its place.

    It is the notebook's own output: it needs no server, and works where the kernel runs on another
    machine. What was drawn last stays in the notebook when it is saved.

    Args:
        every: Seconds between two drawings, at least.

    Raises:
        InputError: This is no notebook.
    """

    def __init__(self, every: float) -> None:
        if not every > 0:
            raise InputError(f"every: expected seconds between two drawings, above 0, got {every}")
        self._display = _display()
        self._every = every
        self._due = 0.0
        self._handle: Any = None

    @property
    def is_due(self) -> bool:
        """Whether to draw again: some time has passed, and a small share of it would be taken."""
        return time.monotonic() >= self._due

    def draw(self, markup: str, began: float) -> None:
        """Show ``markup``, which was begun at ``began`` of the monotonic clock."""
        shown = self._display.HTML(markup)
        cost = 0.0
        if self._handle is None:  # the first one loads what draws, and that once
            self._handle = self._display.display(shown, display_id=True)
        else:
            self._handle.update(shown)
            cost = time.monotonic() - began
        self._due = time.monotonic() + max(self._every, cost / _SHARE)


def _display() -> Any:
    """IPython's module of this name, if a notebook is running."""
    try:
        shell = importlib.import_module("IPython").get_ipython()
    except ModuleNotFoundError:
        shell = None
    if getattr(shell, "kernel", None) is None:  # a terminal would print one drawing after the other
        raise InputError(
            "show() draws in the output of a notebook's cell, and no notebook is running; serve() "
            "opens a page in the browser, print() and save() work anywhere"
        )
    return importlib.import_module("IPython.display")
