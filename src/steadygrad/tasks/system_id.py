"""System identification: predict the output of a system from its inputs in free simulation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks.base import Batches, Score, Sizes, Split, epoch_generator
from steadygrad.tasks.benchmark import Measured
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.scoring import SeriesScores
from steadygrad.tasks.windows import Windows

System = Literal[
    "silverbox", "silverbox-multisine", "silverbox-no-extrapolation", "tanks", "exchanger",
    "hairdryer", "ballbeam", "heating", "buck",
]  # fmt: skip
Record = tuple[Tensor, Tensor]
"""Inputs ``(T, 1, I)`` and output ``(T, 1, 1)`` of one part, from its first row to its last."""
_GITHUB = "https://raw.githubusercontent.com/"
_NONLINEAR = (
    f"{_GITHUB}Rafa7046/Non_Linear_Identification/e5c9b006b0a2ec1650bc018a5fb38d2f4363d4c7/"
)
_BUCK = f"{_GITHUB}wilsonrljr/sysidentpy-data/72715362eadcf860fdbd77d88b5d7e92b6143a83/datasets/"
_DAISY = "DaISy, KU Leuven; put it there as CSV with a header, inputs before the output"

TAPS = 50  # inputs of the linear filter, including the present one


@dataclass(frozen=True)
class _Source:
    """Files of a system, its input and output columns, and the first row of each part.

    ``cuts``: train from the first to the second, validation to the third, test from the fourth
    to the fifth; shares of the rows if below one.
    """

    files: tuple[DataFile, ...]
    inputs: tuple[str, ...]
    output: str
    cuts: tuple[float, float, float, float, float] = (0, 0.5, 0.65, 0.65, 1)


def _silverbox(first: int, last: int) -> _Source:
    """The split of nonlinearbenchmark.org, tested from row ``first`` to ``last``.

    Its training part is 65,062 rows of the multisine; the last quarter of them validates.
    """
    file = DataFile(
        "silverbox/SNLS80mV.csv",
        "ae62d5a91230c10f76e6dd02c8a4fac3c9d4d8a95fbf50e87cb0c4885003e0f1",
        f"{_NONLINEAR}src/data/SNLS80mV.csv",
    )
    return _Source((file,), ("V1",), "V2", (40_650, 89_446, 105_712, first, last))


_SOURCES: dict[str, _Source] = {
    # The arrow at the beginning of the record ends beyond the amplitudes of the multisine.
    "silverbox": _silverbox(100, 40_575),
    "silverbox-multisine": _silverbox(105_712, 127_400),
    "silverbox-no-extrapolation": _silverbox(100, 32_100),
    "tanks": _Source(
        (
            DataFile(
                "cascaded_tanks/dataBenchmark.csv",
                "ef2388ed822f3aef4aa80d6b0f2b466dd80b361786b3eafc7a2957c31ea323a7",
                f"{_NONLINEAR}src/data/tanque.csv",
            ),
        ),
        ("u",),
        "y",
        (0, 700, 1024, 1024, 2048),
    ),
    "exchanger": _Source(
        (
            DataFile(
                "daisy/csv/exchanger.csv",
                "4f5d3624ab047f6efffc4d4317adab3cdccc3341694f2c68978c70a7a1faa7ce",
                hint=_DAISY,
            ),
        ),
        ("q_liquid_flow",),
        "th_outlet_temp",
    ),
    "hairdryer": _Source(
        (
            DataFile(
                "daisy/csv/hairdryer.csv",
                "5da0da55adcf4838fe0ab1d02c1f4e09960c31da61b23048a79054903fdd6cdb",
                hint=_DAISY,
            ),
        ),
        ("u_voltage",),
        "y_air_temp",
    ),
    "ballbeam": _Source(
        (
            DataFile(
                "daisy/csv/ballbeam.csv",
                "97f496f648853328b7a5d48cfb023f93fbd7c31d504b1fafba944d81fd214f34",
                hint=_DAISY,
            ),
        ),
        ("u_beam_angle",),
        "y_ball_position",
    ),
    "heating": _Source(
        (
            DataFile(
                "daisy/csv/heating.csv",
                "cbd335d1b5e5c8dd0d2990b8aae58d843a766d239aed6759015dba9dfa4aa374",
                hint=_DAISY,
            ),
        ),
        ("u_voltage",),
        "y_temperature",
    ),
    "buck": _Source(
        (
            DataFile(
                "sysidentpy/buck_id.csv",
                "d244920026305463079732a91f62968bc30121f651a5699279b42b7ee637c3e7",
                f"{_BUCK}buck_id.csv",
            ),
            DataFile(
                "sysidentpy/buck_valid.csv",
                "adaaa29d0b677eaf7a3b36267f7fd8dc0afd6e9c1d7d054547a0e3f945e0c685",
                f"{_BUCK}buck_valid.csv",
            ),
        ),
        ("input",),
        "y",
        (0, 800, 1001, 1001, 2000),
    ),
}


@final
@dataclass(frozen=True)
class SystemID(SeriesScores, Measured):
    r"""Predict the output of a system at every step from its inputs up to then, not its outputs.

    A recurrent network that sees inputs alone simulates freely (parallel model, closed loop).
    Input and output are scaled to mean 0 and standard deviation 1 over the training part. The
    first ``washout`` steps of a sequence are not scored, because the model's state starts at zero
    and the system's does not. Training sees windows, validation and test are one sequence each.

    Args:
        system: Which record. Silverbox and cascaded tanks have the training and test parts of
            nonlinearbenchmark.org. Silverbox trains on the multisine (48,796 rows, 16,266 validate)
            and is tested on the whole arrow, on the part of the arrow within the amplitudes of
            training (``-no-extrapolation``), or on the rest of the multisine (``-multisine``). The
            tanks train on 700 rows, and 324 validate. Buck converter: the published two files.
            DaISy's (exchanger, hairdryer, ballbeam, heating): the first half trains, 15 % validate,
            the last 35 % test.
        window: Steps of a training window, above ``washout``.
        washout: Steps that are not scored. 50 are what nonlinearbenchmark.org gives a model to find
            its initial state in, for Silverbox and the tanks.

    Shapes:
        Inputs ``(T, B, I)``; targets ``(T, B, 1)``, NaN where not scored.

    Baseline:
        The mean of the training part, the best constant known before the test. Solved by a lower
        NRMSE than a linear filter of the last `TAPS` inputs, fitted by least squares. RMSE in the
        unit of the output; NRMSE divides it by the standard deviation of the output in the scored
        part.

    References:
        Wigren and Schoukens, *Three Free Data Sets for Development and Benchmarking in Nonlinear
        System Identification*, 2013 (Silverbox).
        Schoukens, Mattsson, Wigren and Noël, *Cascaded Tanks Benchmark Combining Soft and Hard
        Nonlinearities*, 2016. De Moor, *DaISy: Database for the Identification of Systems*.
        The package ``nonlinear-benchmarks`` (the splits).
    """

    system: System = "silverbox"
    window: int = 300
    washout: int = 50

    name: ClassVar[str] = "system-id"
    every_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.expect("system", self.system in _SOURCES, ", ".join(_SOURCES))
        self.expect("washout", self.washout >= 0, "0 or above")
        self.expect("window", self.window > self.washout, f"above the washout, {self.washout}")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=len(_SOURCES[self.system].inputs), outputs=1, steps=self.window)

    @property
    def no_memory(self) -> Mapping[str, float]:
        return self.scored("mean")

    def naive(self, split: Split) -> list[Score]:
        asked = self._part(split)[1][self.washout :, None]
        filtered = linear_filter(*self._part("train"), self._part(split)[0])[self.washout :, None]
        answers = {"mean": torch.zeros_like(asked), f"linear filter of {TAPS} inputs": filtered}
        return [
            Score(name, value, unit, "lower")
            for name, answer in answers.items()
            for unit, value in self.figures(self.tally(answer, asked)).items()
        ]

    @property
    def unit(self) -> float:
        return float(_scaled(self.system)[2])

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        u, y = self._part(split)
        if split != "train":
            return Windows(u, y, (torch.zeros(1, dtype=torch.long),), len(u), self.washout)
        last = len(u) - self.window
        if shuffle is None:
            starts = torch.arange(0, last + 1, max(1, self.window - self.washout))
        else:
            generator = epoch_generator(shuffle)
            count = max(size, len(u) // self.window)
            starts = torch.randint(last + 1, (count,), generator=generator)
        return Windows(u, y, starts.split(size), self.window, self.washout)

    def record(self, split: Split, scaled: bool = True) -> Record:
        """A whole part as one sequence, its first ``washout`` outputs included.

        Args:
            split: Which part.
            scaled: Whether as the network sees it, in float32; otherwise in the unit of the
                measurement, in float64.
        """
        if scaled:
            u, y = self._part(split)
        else:
            u, y = (torch.from_numpy(series) for series in _columns(self.system))
            first, last = _bounds(self.system, len(u))[split]
            u, y = u[first:last], y[first:last]
        return u[:, None], y[:, None, None]

    def _part(self, split: Split) -> tuple[Tensor, Tensor]:
        u, y, _ = _scaled(self.system)
        first, last = _bounds(self.system, len(u))[split]
        return u[first:last], y[first:last]


def linear_filter(u: Tensor, y: Tensor, asked: Tensor) -> Tensor:
    """Fit the output ``(N,)`` to the last `TAPS` inputs of ``u (N, I)``; predict for ``asked``."""
    weights = torch.linalg.lstsq(_lagged(u), y.double()[:, None], driver="gelsd").solution
    return (_lagged(asked) @ weights)[:, 0].float()


def _lagged(u: Tensor) -> Tensor:
    """Inputs ``(N, I)`` beside earlier ones and a one; zero before the first."""
    padded = torch.cat([u.new_zeros(TAPS - 1, u.shape[1]), u])
    lagged = padded.unfold(0, TAPS, 1).flatten(1).double()
    return torch.cat([lagged, torch.ones(len(u), 1, dtype=torch.float64)], 1)


def _bounds(system: str, rows: int) -> dict[Split, tuple[int, int]]:
    at = [round(c * rows) if 0 < c <= 1 else int(c) for c in _SOURCES[system].cuts]
    return {"train": (at[0], at[1]), "val": (at[1], at[2]), "test": (at[3], at[4])}


@lru_cache(maxsize=16)
def _scaled(system: str) -> tuple[Tensor, Tensor, float]:
    """Inputs ``(N, I)`` and output ``(N,)``, scaled, and the unit of the scaled output."""
    u, y = _columns(system)
    first, last = _bounds(system, len(y))["train"]
    train_u, train_y = u[first:last], y[first:last]
    scale = float(train_y.std())
    x = (u - train_u.mean(0)) / train_u.std(0)
    return (
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(((y - train_y.mean()) / scale).astype(np.float32)),
        scale,
    )


def _columns(system: str) -> "tuple[np.ndarray, np.ndarray]":
    source = _SOURCES[system]
    tables = [_table(read_file(file).decode()) for file in source.files]
    if system == "tanks":  # estimation and validation data are columns of one file
        (both,) = tables
        u = np.concatenate([both["uEst"], both["uVal"]])[:, None]
        return u, np.concatenate([both["yEst"], both["yVal"]])
    joined = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return np.stack([joined[name] for name in source.inputs], 1), joined[source.output]


def _table(text: str) -> "dict[str, np.ndarray]":
    """Columns by name; empty cells are skipped, so that a column may be shorter."""
    head, *lines = text.splitlines()
    names = [name.strip('" ') for name in head.split(",")]
    columns: dict[str, list[float]] = {name: [] for name in names if name}
    for line in lines:
        for name, cell in zip(names, line.split(","), strict=False):
            if name and cell.strip():
                columns[name].append(float(cell))
    return {name: np.asarray(values) for name, values in columns.items()}
