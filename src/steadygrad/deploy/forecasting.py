"""A trained forecast at work: on a new file, on a frame, from earlier rows, and row by row."""

import csv
import io
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.plain import Misfit
from steadygrad.reading import Table, read_frame, read_table
from steadygrad.tasks.ahead import LEVEL, Ahead, Backtest, backtest, forecast_table
from steadygrad.tasks.forecast_spec import ForecastSpec
from steadygrad.tasks.from_table import apply_spec
from steadygrad.tasks.intervals import Intervals
from steadygrad.train.model import Ends, SequenceModel
from steadygrad.train.model_file import ModelFacts
from steadygrad.train.model_outputs import predictor

FAR = 0.05  # between coverage and level, beyond which it is told in words


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of the rows after the end of a file.

    Args:
        target: What is forecast.
        level: Share of the truth that the intervals should hold.
        coverage: The share that they held in the test part of the training's file; None where it
            was not measured at this level.
        series: One forecast for each series.
        notes: What was done.
    """

    target: str
    level: float
    coverage: float | None
    series: tuple[Ahead, ...]
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each row ahead: series, date or row, forecast, low, high."""
        found: list[dict[str, Any]] = []
        for ahead in self.series:
            for i, value in enumerate(ahead.values):
                row: dict[str, Any] = {"series": ahead.series} if ahead.series else {}
                if ahead.dates is not None:
                    row["date"] = ahead.dates[i]
                else:
                    row["row"] = ahead.after + i + 2  # counted from 1
                found.append({**row, "forecast": value, "low": ahead.low[i], "high": ahead.high[i]})
        return found

    def frame(self) -> Any:
        """Return the rows as a ``pandas.DataFrame``, dates as dates."""
        import pandas

        frame = pandas.DataFrame(self.rows())
        if "date" in frame:
            frame["date"] = pandas.to_datetime(frame["date"])
        return frame

    def csv(self) -> str:
        """Return the rows as CSV with a header; an empty cell where an interval is not known."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {
            "target": self.target,
            "level": self.level,
            "coverage": self.coverage,
            "rows": self.rows(),
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON to a path that ends in ``.json``, else CSV."""
        path = Path(path)
        text = json.dumps(self.plain(), indent=2) if path.suffix == ".json" else self.csv()
        path.write_text(text, encoding="utf-8")
        return path

    def __str__(self) -> str:
        rows = self.rows()
        names = list(rows[0])
        cells = [names] + [[_shown(row[n]) for n in names] for row in rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
        return "\n".join([*lines, self.about])

    @property
    def about(self) -> str:
        """One sentence about the intervals."""
        if all(low is None for a in self.series for low in a.low):
            return f"{self.target}: no intervals (too few windows to take them from)"
        told = f"{self.target}, with intervals of {self.level:.0%}"
        if self.coverage is None:
            return f"{told}; their coverage was not measured".replace("%", " %")
        off = self.coverage - self.level
        size = "" if abs(off) <= FAR else f": too {'narrow' if off < 0 else 'wide'} there"
        return f"{told}, which held {self.coverage:.1%} of the test part{size}".replace("%", " %")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@final
class ForecastModel:
    """A trained model with all that it knows of its data.

    Args:
        module: In evaluation mode.
        facts: Of its file.

    Attributes:
        module: The ``torch.nn.Module``; windows ``(T, B, I)`` to outputs ``(B, K)`` and a state.
        facts: Options, versions and data of its training.
        spec: Columns, scaling, window and horizon.
        intervals: Widths of its prediction intervals; None if it has none.
    """

    def __init__(self, module: SequenceModel, facts: ModelFacts) -> None:
        assert facts.data is not None
        self.module, self.facts = module, facts
        try:
            self.spec = ForecastSpec.of({k: v for k, v in facts.data.items() if k != "kind"})
            plain = facts.intervals
            self.intervals = None if plain is None else Intervals.of(plain)
            self._check(facts.ends)
        except (TypeError, KeyError, Misfit) as error:
            raise InputError(
                f"the model of {facts.file} is of another version ({error}); train it again"
            ) from None

    def _check(self, ends: Ends) -> None:
        """Refuse parts of a file that do not belong together.

        Raises:
            Misfit: Inputs, horizon or intervals are not those of the module.
        """
        wanted = Ends("values", False, len(self.spec.inputs), self.spec.horizon)
        if ends != wanted:
            raise Misfit(f"a module of {ends} beside data of {wanted}")
        if self.intervals is not None and len(self.intervals.widths) != self.spec.horizon:
            raise Misfit(
                f"intervals of {len(self.intervals.widths)} rows beside a horizon of "
                f"{self.spec.horizon}"
            )

    def read(self, rows: Any) -> Table:
        """Read a file or a ``pandas.DataFrame`` as the file of the training was read.

        Raises:
            InputError: It cannot be, or lacks a column.
        """
        if isinstance(rows, str | Path):
            return read_table(Path(rows), spec=self.spec.table)
        return read_frame(rows, spec=self.spec.table)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the module's outputs ``(B, K)`` for windows ``(T, B, I)``, without gradient."""
        return predictor(self.module, torch.device("cpu"))(inputs)

    def forecast(self, rows: Any, *, horizon: int | None = None, level: float = LEVEL) -> Forecasts:
        """Forecast the rows after the end of a table.

        Args:
            rows: Path of a file, or a ``pandas.DataFrame``, with the columns of the training.
                Rows at its end with an empty target are rows to be forecast.
            horizon: Rows ahead; as trained if not given. Beyond that forecasts are taken for
                known, where nothing else is needed.
            level: Of the prediction intervals.

        Raises:
            InputError: The table cannot be read, is too short, or the horizon cannot be had.
        """
        made, notes = forecast_table(
            self.read(rows),
            self.spec,
            self.predict,
            self.intervals,
            horizon=horizon,
            level=level,
        )
        return Forecasts(self.spec.target, level, self.coverage(level), tuple(made), notes)

    def backtest(self, rows: Any, origins: int = 10, *, level: float = LEVEL) -> Backtest:
        """Forecast from the last ``origins`` rows that lie a horizon apart, and score it.

        Args:
            rows: As in `forecast`; rows that the model was trained on flatter it.
            origins: How many.
            level: Of the prediction intervals.

        Raises:
            InputError: The table cannot be read, or is too short for one.
        """
        task = apply_spec(self.read(rows), self.spec)
        return backtest(task, self.predict, self.intervals, origins, level)

    def coverage(self, level: float) -> float | None:
        """Share of the truth of the test part within the intervals; None if not measured."""
        return None if self.intervals is None else self.intervals.coverage.get(f"{level:g}")

    def stream(self) -> "ForecastStream":
        """Return a stream: a row in, the forecast from there out."""
        return ForecastStream(self)


@final
class ForecastStream:
    """Takes one row after the other, and forecasts from each what comes next.

    What `push` returns equals the forecast of a file that ends there: the last rows are kept and
    read as a file is.

    Args:
        model: The model.

    Raises:
        InputError: It was trained on several series, or with inputs known ahead.
    """

    def __init__(self, model: ForecastModel) -> None:
        table = model.spec.table
        if len(table.names) > 1:
            raise InputError(
                f"a stream holds one series, the model was trained on {len(table.names)}"
                f" (column {table.series!r}); forecast a file instead"
            )
        if known := [i.column for i in model.spec.inputs if i.source == "known"]:
            raise InputError(
                f"{', '.join(dict.fromkeys(known))}: known ahead in training, which a stream cannot"
                " give; forecast a file instead"
            )
        self.model = model
        self.header = [c.name for c in table.columns]
        self._delimiter = table.delimiter if table.format == "text" else ","
        # Twice the window: a gap at its beginning is filled with what came before it.
        self._rows: deque[str | Mapping[str, Any]] = deque(maxlen=2 * model.spec.window)

    @property
    def missing(self) -> int:
        """How many rows are still needed before the first forecast."""
        return max(0, self.model.spec.window - len(self._rows))

    def push(self, row: str | Mapping[str, Any]) -> Ahead | None:
        """Take in a row; return the forecast from there, or None while rows are `missing`.

        Args:
            row: A line as in the file of the training (its header is taken for one), or a mapping
                from columns to values.

        Raises:
            InputError: The row cannot be read; it is not taken in.
        """
        if isinstance(row, str):
            row = row.rstrip("\r\n")
            cells = next(csv.reader([row], delimiter=self._delimiter), [])
            if not self._rows and {c.strip() for c in cells} >= self._needed():
                self.header = [c.strip() for c in cells]
                return None
            if len(cells) != len(self.header):
                raise InputError(
                    f"a line of {len(cells)} cells, expected {len(self.header)}:"
                    f" {', '.join(self.header)}"
                )
        elif absent := self._needed() - set(row):
            raise InputError(f"the row lacks {', '.join(sorted(absent))}")
        if self._rows and isinstance(row, str) != isinstance(self._rows[-1], str):
            raise InputError("a stream takes lines or mappings, not both")
        first = self._rows[0] if len(self._rows) == self._rows.maxlen else None
        self._rows.append(row)
        try:
            table = self._table()
            if self.missing:
                return None
            made, _ = forecast_table(
                table, self.model.spec, self.model.predict, self.model.intervals
            )
        except InputError:
            self._rows.pop()
            if first is not None:
                self._rows.appendleft(first)
            raise
        return made[0]

    def _needed(self) -> set[str]:
        return {c.name for c in self.model.spec.table.columns if c.role != "dropped"}

    def _table(self) -> Table:
        if isinstance(self._rows[-1], str):
            text = io.StringIO()
            writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
            if self.model.spec.table.has_header:
                writer.writerow(self.header)
            lines = "\n".join(str(line) for line in self._rows)
            data = (text.getvalue() + lines + "\n").encode(self.model.spec.table.encoding)
            return read_table(Path("stream"), data=data, spec=self.model.spec.table)
        import pandas

        return read_frame(
            pandas.DataFrame(list(self._rows)), spec=self.model.spec.table, name="stream"
        )


def backtest_plain(found: Backtest) -> dict[str, Any]:
    """Return a backtest as JSON can hold it."""
    return asdict(found)
