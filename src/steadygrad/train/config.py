"""The options of a training run, for the Python API, the command line and the record."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from steadygrad.errors import InputError
from steadygrad.plain import shown
from steadygrad.reading import Reading

Kind = Literal["auto", "forecast", "text"]
# The same as in steadygrad.tasks.text, which imports torch and would slow down the help.
Symbol = Literal["char", "word"]

# Options that a resumed run may change: where and how long it runs, never what it computes.
FREE_ON_RESUME = frozenset(
    {"out", "resume", "overwrite", "checkpoint_every_seconds", "threads", "device", "budget"}
    | {"file", "epochs", "max_steps", "rollbacks"}
)
# A larger rate could overflow in Adam's step; the largest time means never.
LARGEST = {"learning_rate": 1e6, "checkpoint_every_seconds": 1e12}
MOST = {"hidden": 2**16, "layers": 2**10, "threads": 2**12}
COUNTS = ("layers", "max_steps", "patience", "validate_every", "batch_size")


@dataclass(frozen=True)
class TrainConfig:
    """Options of one training run.

    Args:
        file: The data: a table to forecast (CSV or similar, xlsx, parquet, ARFF, .tsf, ...), or
            a text to learn; packed or not.
        reading: How to read the file, where it is ambiguous.
        kind: Kind of the file; detected from its name and content if not given.
        target: Column to forecast; the last numeric one if not given.
        window: Time steps seen at once (rows of a CSV, symbols of a text).
        horizon: Rows ahead to forecast; a day, week or year by the dates if not given.
        symbol: Kind of symbol of a text.
        cell: Recurrent cell, with its options after a colon: lstm, gru, elman:nonlinearity=relu;
            or your own, module:Class or file.py:Class; or a layer with a matrix as state: gla,
            delta-net:heads=4, gated-delta-net, rwkv7, m2rnn, mlstm; for a table also bilstm,
            cnn-lstm or narx.
        input_lags: For narx: rows back of the other columns, 1,2,5 or 0-3; 1,2 if not given.
        output_lags: For narx: rows back of the target; 1,2 if not given.
        free_run: For narx: train with the loop closed over the whole horizon, with the other
            columns known ahead; otherwise one row ahead, from true rows.
        hidden: Hidden features; 64 for a forecast (narx: 10), 128 for a text if not given.
        layers: Recurrent layers.
        dropout: Share of features dropped in training, before, between and after the layers.
        remedies: Remedies applied, with their options: forget_bias orthogonal_init:gain=0.9.
        clip: Bound on the gradient's norm at each step; 0 for none.
        epochs: Passes through the training part at most; no bound if not given.
        max_steps: Training steps at most.
        patience: Validations without improvement before stopping.
        validate_every: Training steps between two validations.
        batch_size: Windows, or rows of text, in one batch.
        learning_rate: Step size of Adam at the start, halved when validation stalls; 0.001 for a
            forecast (narx: 0.01), 0.002 for a text if not given.
        budget: Share of the time that measuring the gradient at every time step may take.
        lag: Time steps that the gradient must reach back; only with it can vanishing be a fault. If
            not given, estimated from the training data before training; none: no lag.
        rollbacks: How often a diverging training rolls back to its last good state and continues
            with a remedy, before it ends as diverged; --repair allows three.
        device: Device to train on.
        seed: Fixes weights, order of the data and dropout.
        threads: CPU threads; torch's own choice if not given.
        out: Folder of the run; runs/<name of the file> if not given.
        checkpoint_every_seconds: Time between two checkpoints, in seconds.
        resume: Resume the interrupted run of this folder.
        overwrite: Replace an earlier run in the folder.
    """

    file: Path
    reading: Reading = field(default_factory=Reading)
    kind: Kind = "auto"
    target: str | None = None
    window: int | None = None
    horizon: int | None = None
    symbol: Symbol = "char"
    cell: str = "lstm"
    input_lags: str | None = None
    output_lags: str | None = None
    free_run: bool = False
    hidden: int | None = None
    layers: int = 1
    dropout: float = 0.0
    remedies: tuple[str, ...] = ()
    clip: float = 1.0
    epochs: int | None = None
    max_steps: int = 4000
    patience: int = 8
    validate_every: int = 100
    batch_size: int = 64
    learning_rate: float | None = None
    budget: float = 0.05
    lag: int | Literal["auto", "none"] = "auto"
    rollbacks: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    threads: int | None = None
    out: Path | None = None
    checkpoint_every_seconds: float = 20.0
    resume: bool = False
    overwrite: bool = False

    def settled(self, input_kind: Literal["values", "symbols"]) -> "Settled":
        """Return the options that depend on the kind of data, if not given."""
        is_text, is_narx = input_kind == "symbols", self.cell == "narx"
        return Settled(
            hidden=self.hidden or (128 if is_text else 10 if is_narx else 64),
            learning_rate=self.learning_rate or (2e-3 if is_text else 1e-2 if is_narx else 1e-3),
        )

    @property
    def folder(self) -> Path:
        """The folder that the run writes into."""
        return self.out if self.out is not None else Path("runs") / self.file.stem

    def check(self) -> None:
        """Refuse values that no run could use.

        Raises:
            InputError: An option out of its range, or two that contradict each other.
        """
        for name in (*COUNTS, "window", "horizon", "hidden", "epochs", "threads"):
            value, most = getattr(self, name), MOST.get(name, 2**31 - 1)
            _expect(name, value, value is None or value >= 1, "at least 1")
            _expect(name, value, value is None or value <= most, f"at most {most}")
        lag = 1 if isinstance(self.lag, str) else self.lag
        _expect("lag", lag, lag >= 1, "at least 1")
        _expect("lag", lag, lag < 2**31, "at most 2147483647")
        for name in ("learning_rate", "checkpoint_every_seconds"):
            value = getattr(self, name)
            holds = value is None or 0 < value <= LARGEST[name]
            _expect(name, value, holds, f"above 0, at most {LARGEST[name]:g}")
        _expect("dropout", self.dropout, 0 <= self.dropout < 1, "from 0 to below 1")
        _expect("clip", self.clip, math.isfinite(self.clip) and self.clip >= 0, "0 or above")
        _expect("budget", self.budget, 0 <= self.budget <= 1, "a share from 0 to 1")
        _expect("rollbacks", self.rollbacks, 0 <= self.rollbacks <= 99, "from 0 to 99")
        _expect("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to below 2^63")
        self.reading.check()
        self._check_narx()
        if self.resume and self.overwrite:
            raise InputError("--resume continues a run, --overwrite starts again: give one of them")

    def _check_narx(self) -> None:
        is_narx = self.cell == "narx"
        for name in ("input_lags", "output_lags", "free_run"):
            if not is_narx and getattr(self, name):
                raise InputError(f"--{name.replace('_', '-')}: is of --cell narx")
        if is_narx and not self.free_run and (self.horizon or 1) > 1:
            raise InputError(
                f"--cell narx: without --free-run it is trained one row ahead, --horizon is"
                f" {self.horizon}; give --free-run to train over the horizon"
            )
        if is_narx and self.layers > 1:
            raise InputError(f"--layers {self.layers}: narx has one hidden layer")

    def plain(self) -> dict[str, Any]:
        """Return the options as JSON-able values, in order."""
        values = dataclasses.asdict(self)
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()} | {
            "remedies": list(self.remedies)
        }

    def fixed(self) -> dict[str, Any]:
        """Return the options that a resumed run must share with the interrupted one."""
        return {name: v for name, v in self.plain().items() if name not in FREE_ON_RESUME}


@dataclass(frozen=True)
class Settled:
    """Options that depend on the data where they were not given.

    Args:
        hidden: Hidden features.
        learning_rate: Step size of Adam at the start.
    """

    hidden: int
    learning_rate: float


def _expect(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"--{name.replace('_', '-')} {shown(value)}: expected {expected}")
