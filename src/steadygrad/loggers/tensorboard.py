"""TensorBoard: scalars, the gradient by time step as an image, findings as text."""

from collections.abc import Mapping
from typing import Any, final

from numpy.typing import ArrayLike

from steadygrad.loggers.base import PREFIX, Logger, Maps


@final
class TensorBoardLogger(Logger):
    """Writes event files that ``tensorboard --logdir`` shows.

    Args:
        where: A folder, or your own ``SummaryWriter``, which is then not closed. By default torch's
            folder, ``runs/DATE_HOST``.
    """

    def __init__(self, where: Any = None) -> None:
        self._is_ours = where is None or isinstance(where, str) or hasattr(where, "__fspath__")
        self._writer: Any = _writer(where) if self._is_ours else where
        self._maps = Maps()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{PREFIX}/{name}", float(value), step)

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        drawn = self._maps.add(quantity, layer, values, state)
        if drawn is not None:
            self._writer.add_image(drawn[0], drawn[1], step, dataformats="HW")

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        self._writer.add_text(f"{PREFIX}/events", text, step)

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        text = f"**{finding.get('fault')}** in {finding.get('layer')}: {finding.get('text')}"
        self._writer.add_text(f"{PREFIX}/findings", text, step)
        self._writer.flush()  # show faults at once, not when a buffer is full

    def close(self) -> None:
        if self._is_ours:
            self._writer.close()


def _writer(where: Any) -> Any:
    import importlib

    # Imported by name, because loggers must not depend on torch.
    tensorboard = importlib.import_module("torch.utils.tensorboard")
    return tensorboard.SummaryWriter(None if where is None else str(where))
