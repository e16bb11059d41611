"""Draw a heat map: training step by time step, coloured by log10 norm."""

import base64
import json

import numpy as np
from numpy.typing import NDArray

from steadygrad.report import palette
from steadygrad.report.downsample import spread
from steadygrad.report.figures import plain
from steadygrad.report.frame import area, framed
from steadygrad.report.markup import Html, el, table
from steadygrad.report.plot import reading
from steadygrad.report.png import png


class Heat:
    """A map ``(S, T)`` of log10 norms, reduced to at most ``pixels`` points.

    Args:
        steps: Training steps, ``(S,)``.
        grid: log10 norms, masked where absent.
        pixels: How many points may be drawn. Whole rows and columns are dropped; nothing is
            averaged.
        limits: Range of the colours, to compare two maps; the range of the values by default.
    """

    def __init__(
        self,
        steps: NDArray[np.int64],
        grid: np.ma.MaskedArray,
        pixels: int = 100_000,
        limits: tuple[float, float] | None = None,
    ) -> None:
        times = spread(grid.shape[1], 600)
        columns = spread(len(steps), max(2, min(500, pixels // max(1, len(times)))))
        self.steps = steps[columns]
        self.times = times
        self.grid = grid[np.ix_(columns, times)]
        self.low, self.high = limits or limits_of(grid)
        self.indices = self._indices()

    def image(self) -> str:
        """Return the map as a PNG in a data URL, the last time step at the top."""
        picture = png(self.indices.T[::-1], palette.palette(), palette.ABSENT)
        return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")

    def html(self, title: str, about: str) -> Html:
        """Draw."""
        data = {
            "low": self.low,
            "high": self.high,
            "steps": self.steps.tolist(),
            "times": self.times.tolist(),
        }
        body = el("img", src=self.image(), alt="", draggable="false")
        where = {int(i) for i in np.unique(self.indices)}
        finite = any(i < palette.LEVELS for i in where)
        return framed(
            title=title,
            about=about,
            area=area(body, label=title, data=json.dumps(data), kind="heat"),
            x=ordinal(self.steps),
            y=ordinal(self.times),
            x_name="training step",
            y_name="time step (the last at the top)",
            key=palette.legend(
                reading(self.low, True) if finite else "",
                reading(self.high, True),
                where,
            ),
            numbers=self._table(),
        )

    def _indices(self) -> NDArray[np.uint8]:
        values = np.ma.getdata(self.grid)
        span = self.high - self.low or 1.0
        with np.errstate(invalid="ignore"):
            levels = np.clip((values - self.low) / span, 0, 1) * (palette.LEVELS - 1)
        out = np.nan_to_num(levels).round().astype(np.uint8)
        out[np.isneginf(values)] = palette.ZERO
        out[np.isposinf(values)] = palette.INF
        out[np.isnan(values)] = palette.NAN
        out[np.ma.getmaskarray(self.grid)] = palette.ABSENT
        return out

    def _table(self) -> Html:
        columns, times = spread(len(self.steps), 6), spread(len(self.times), 16)[::-1]
        head = ["Time step", *(f"at training step {plain(int(self.steps[c]))}" for c in columns)]
        rows = [[plain(int(self.times[t])), *(self._words(c, t) for c in columns)] for t in times]
        return table(head, rows)

    def _words(self, column: np.int64, time: np.int64) -> str:
        index = int(self.indices[column, time])
        if index in palette.SPECIAL:
            return palette.SPECIAL[index][1]
        return reading(float(self.grid[column, time]), True)


def limits_of(*grids: np.ma.MaskedArray) -> tuple[float, float]:
    """Return the least and greatest finite value of several maps, 0 and 1 if there is none."""
    finite = [g.compressed()[np.isfinite(g.compressed())] for g in grids]
    values = np.concatenate(finite) if finite else np.zeros(0)
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def ordinal(values: NDArray[np.int64]) -> list[tuple[float, str]]:
    """Ticks of an axis on which all entries are equally wide."""
    chosen = spread(len(values), 5)
    return [((i + 0.5) / len(values), plain(int(values[i]))) for i in chosen]
