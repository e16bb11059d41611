"""The interface of a logger, and the picture of the gradient by time step."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOOR = -12.0
"""log10 of the share of the gradient that is drawn black; the full gradient is white."""
ROWS = 128  # latest measurements in a picture
PREFIX = "gradient"


class Logger:
    """Base class: a logger overrides the methods that its service supports.

    Every method is called from inside ``optimizer.step()``, so it must be quick and must not
    change any random state. Names of scalars are those of `steadygrad.Watch.latest`.
    """

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Log numbers of one training step."""

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        """Log one value per time step, ``(T,)``, of one layer at one training step."""

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        """Log an event."""

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        """Log a finding: ``fault``, ``layer``, ``text`` and the evidence."""

    def note(self, key: str, value: Any) -> None:
        """Log a fact about the whole training."""

    def close(self) -> None:
        """Close what this logger opened; what the user opened stays open."""


class Maps:
    """Collects the rows ``log10_grad`` of each layer and state into one picture.

    Attributes:
        latest: The picture of each.
    """

    def __init__(self) -> None:
        self._rows: dict[str, deque[NDArray[np.float64]]] = {}
        self.latest: dict[str, NDArray[np.uint8]] = {}

    def add(
        self, quantity: str, layer: str, values: ArrayLike, state: str
    ) -> tuple[str, NDArray[np.uint8]] | None:
        """Add a row; return the name and the picture, or None if it is not a gradient.

        The picture is ``(measurements, T)``, one row of pixels per measurement, the latest at the
        bottom; white for the largest gradient of that measurement, black for 10^-12 of it or less,
        and for values that were not measured or are NaN.
        """
        if quantity != "log10_grad":
            return None
        name = f"{PREFIX}/{layer}/{state}"
        row = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
        rows = self._rows.setdefault(name, deque(maxlen=ROWS))
        rows.append(row)
        width = max(len(r) for r in rows)
        picture = np.zeros((len(rows), width), dtype=np.uint8)
        for i, each in enumerate(rows):
            # Align sequences of different lengths at their ends, so that lags line up.
            picture[i, width - len(each) :] = _shade(each)
        self.latest[name] = picture
        return name, picture


class RowLogger(Logger):
    """For services that count the calls of their ``log``: one call for each training step.

    A row is sent when the next one begins, and at the end. A call for each number would run far
    ahead of the steps that you count, and a service that takes rows in order alone would then drop
    yours.
    """

    def __init__(self) -> None:
        self._step = 0
        self._row: dict[str, Any] = {}

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self._put(step, {name: float(value) for name, value in values.items()})

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        text = f"{finding.get('fault')} in {finding.get('layer')}: {finding.get('text')}"
        before = self._row.get(f"{PREFIX}/finding") if step == self._step else None
        self._put(step, {"finding": text if before is None else f"{before}\n{text}"})

    def close(self) -> None:
        self._flush()

    def _put(self, step: int, values: Mapping[str, Any]) -> None:
        if step != self._step:
            self._flush()
        self._step = step
        self._row |= {f"{PREFIX}/{name}": value for name, value in values.items()}

    def _flush(self) -> None:
        if self._row:
            self._send({f"{PREFIX}/step": self._step} | self._row)
            self._row = {}

    def _send(self, row: dict[str, Any]) -> None:
        """Log one row."""
        raise NotImplementedError


def _shade(row: NDArray[np.float64]) -> NDArray[np.uint8]:
    finite = row[np.isfinite(row)]
    if not len(finite):
        return np.zeros(len(row), dtype=np.uint8)
    share = 1 - (row - finite.max()) / FLOOR
    share = np.where(np.isposinf(row), 1.0, np.nan_to_num(share, nan=0.0, neginf=0.0))
    return (255 * np.clip(share, 0, 1)).round().astype(np.uint8)
