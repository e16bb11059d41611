"""trackio: scalars, the gradient by time step as an image, and findings as text."""

import importlib
from typing import Any, final

from numpy.typing import ArrayLike

from steadygrad.loggers.base import PREFIX, Maps, RowLogger


@final
class TrackioLogger(RowLogger):
    """Logs to the project started by ``trackio.init``; the images when the watch ends."""

    def __init__(self) -> None:
        super().__init__()
        self._trackio: Any = importlib.import_module("trackio")
        self._maps = Maps()

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        self._maps.add(quantity, layer, values, state)

    def close(self) -> None:
        for name, picture in self._maps.latest.items():
            image = self._trackio.Image(picture)
            self._put(self._step, {name.removeprefix(f"{PREFIX}/"): image})
        super().close()

    def _send(self, row: dict[str, Any]) -> None:
        self._trackio.log(row)
