"""Forecasting: predict the next rows of a measured series from a window of earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, final

from torch import Tensor

from steadygrad.reading import read_table
from steadygrad.tasks.base import Batches, Better, Score, Sizes, Split
from steadygrad.tasks.benchmark import Measured
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.forecast import Forecast
from steadygrad.tasks.from_table import make_forecast

Series = Literal["etth1", "pm25", "sunspots", "temperatures", "passengers", "shampoo"]
_GITHUB = "https://raw.githubusercontent.com/"
_BROWNLEE = f"{_GITHUB}jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f/"


def _small(name: str, sha256: str) -> DataFile:
    return DataFile(f"small_series/{name}", sha256, f"{_BROWNLEE}{name}")


_SOURCES: Mapping[str, tuple[DataFile, str]] = {  # file, and the column to forecast
    "etth1": (
        DataFile(
            "ett/ETTh1.csv",
            "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
            f"{_GITHUB}zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/"
            "ETT-small/ETTh1.csv",
        ),
        "OT",
    ),
    "pm25": (
        DataFile(
            "beijing_pm25/pollution.csv",
            "892e9559205d16d32623135c127a3951c12e46ea1e0b3093e107ce89a9fd60e2",
            f"{_BROWNLEE}pollution.csv",
        ),
        "pm2.5",
    ),
    "sunspots": (
        _small(
            "monthly-sunspots.csv",
            "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        ),
        "Sunspots",
    ),
    "temperatures": (
        _small(
            "daily-min-temperatures.csv",
            "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
        ),
        "Temp",
    ),
    "passengers": (
        _small(
            "airline-passengers.csv",
            "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        ),
        "Passengers",
    ),
    "shampoo": (
        _small("shampoo.csv", "f709eaa344b2d07039a49e2193cbff5e56206354f3a8203c0e02471beb39a451"),
        "Sales",
    ),
}


@final
@dataclass(frozen=True)
class SeriesForecast(Measured):
    r"""Forecast the next ``horizon`` rows of a column from a window of all columns.

    As `steadygrad train` does with any file (see `Forecast`). The parts are 70, 10 and 20 % in
    order of time, not those of the papers, so scores are not comparable with theirs.

    Args:
        series: ``"etth1"`` (oil temperature of a transformer, by the hour, 7 columns), ``"pm25"``
            (fine dust in Beijing, by the hour, with the weather), ``"sunspots"`` (by the month
            since 1749), ``"temperatures"`` (daily minima in Melbourne), ``"passengers"`` (of
            airlines, by the month), ``"shampoo"`` (sales, by the month).
        window: Rows seen; if not given, enough for the horizon and for one period.
        horizon: Rows ahead; if not given, one day, week or year by the dates.

    Shapes:
        Inputs ``(T, B, I)``; targets as in `Forecast`.

    Baseline:
        The last value. Solved by a lower RMSE than that, the seasonal answer, the training mean
        and ridge regression on the same window, in the unit of the series.

    References:
        Zhou et al., *Informer: Beyond Efficient Transformer for Long Sequence Time-Series
        Forecasting*, 2021 (ETTh1). Liang et al., *Assessing Beijing's PM2.5 Pollution*, 2015.
    """

    series: Series = "etth1"
    window: int | None = None
    horizon: int | None = None

    name: ClassVar[str] = "forecast"
    better: ClassVar[Mapping[str, Better]] = Forecast.better

    def __post_init__(self) -> None:
        self.expect("series", self.series in _SOURCES, ", ".join(_SOURCES))
        for option in ("window", "horizon"):
            self.expect(option, (getattr(self, option) or 1) >= 1, "at least 1 row")

    @property
    def forecast(self) -> Forecast:
        """The series, read once and cached."""
        return _read(self.series, self.window, self.horizon)

    @property
    def sizes(self) -> Sizes:
        return self.forecast.sizes

    @property
    def no_memory(self) -> Mapping[str, float]:
        return self.scored("last value")

    def facts(self) -> dict[str, object]:
        return super().facts() | self.forecast.facts()

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        return self.forecast.batches(split, size, shuffle)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.forecast.loss(outputs, targets)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.forecast.tally(outputs, targets)

    def figures(self, total: Tensor) -> dict[str, float]:
        return self.forecast.figures(total)

    def naive(self, split: Split) -> list[Score]:
        return self.forecast.naive(split)


@lru_cache(maxsize=8)
def _read(series: str, window: int | None, horizon: int | None) -> Forecast:
    file, target = _SOURCES[series]
    table = read_table(Path(file.path), data=read_file(file))
    return make_forecast(table, target, window, horizon)
