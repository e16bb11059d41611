"""Examples of a trained model's output for the record: forecasts beside the truth, or text."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks import Forecast, Split, Task, Text
from steadygrad.tasks.ahead import LEVEL, Ahead, forecast_from
from steadygrad.tasks.intervals import MOST, Intervals, Residuals, make_intervals, residuals
from steadygrad.tasks.text_spec import TextSpec
from steadygrad.train.model import SequenceModel
from steadygrad.train.sampling import sample, start_of

SCORED: tuple[Split, ...] = ("val", "test")
TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
LENGTHS = {"char": 240, "word": 60}  # symbols of a sample
BINS = 41  # bins of the histogram of residuals
MOST_SERIES = 6  # series whose next rows are shown
PAST = 3  # most horizons of the past shown before a forecast


@dataclass(frozen=True)
class Shown:
    """Examples of a trained model's output.

    Args:
        note: For the record.
        intervals: Those of a forecast; otherwise None.
    """

    note: Mapping[str, Any] | None
    intervals: Intervals | None = None


def predictor(model: SequenceModel, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from windows ``(T, B, I)`` to outputs on the CPU, without gradient."""

    def predict(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return model(inputs.to(device))[0].cpu()

    return predict


def show(task: Task, model: SequenceModel, device: torch.device, most: int = MOST) -> Shown:
    """Compute examples with a model in evaluation mode.

    Args:
        task: Its data.
        model: The model, on ``device``.
        device: The device.
        most: For a forecast, most windows of a part to evaluate.
    """
    if isinstance(task, Forecast):
        return _forecast(task, predictor(model, device), most)
    if isinstance(task, Text):
        return Shown(_text(TextSpec(task.vocabulary, task.symbol, task.window), model))
    return Shown(None)


def _forecast(task: Forecast, predict: Callable[[Tensor], Tensor], most: int) -> Shown:
    val, test = (residuals(task, predict, split, most) for split in SCORED)
    intervals = make_intervals(val, test)
    note: dict[str, Any] = {
        "kind": "forecast",
        "target": task.target,
        "level": LEVEL,
        "coverage": intervals.coverage,
        "calibrated on": intervals.windows,
        "windows": _windows(task, predict, intervals, test),
        "residuals": _residuals(task, test),
        "next": _next(task, predict, intervals),
    }
    return Shown(note, intervals)


def _windows(
    task: Forecast, predict: Callable[[Tensor], Tensor], intervals: Intervals, test: Residuals
) -> list[dict[str, Any]]:
    """The worst, the median and the best window of the test part, each with its past."""
    whole = np.flatnonzero(np.isfinite(test.errors).all(1))
    if len(whole) == 0:
        return []
    unit = task.units(torch.from_numpy(test.origins[whole])).numpy()
    squares = np.square(test.errors[whole] * unit).mean(1)
    order = np.argsort(squares)
    found: list[dict[str, Any]] = []
    for name, place in (("worst", -1), ("median", len(order) // 2), ("best", 0)):
        at = int(order[place])
        origin = int(test.origins[whole[at]])
        (ahead,) = forecast_from(task, torch.tensor([origin]), predict, intervals)
        found.append(
            {
                "name": name,
                "rmse": float(squares[at]) ** 0.5 * task.scale,
                "past": _past(task, origin),
                **_plain(ahead),
            }
        )
    return found


def _past(task: Forecast, origin: int) -> list[float]:
    rows = min(task.window, PAST * task.horizon)
    return task.y[origin - rows + 1 : origin + 1].tolist()


def _plain(ahead: Ahead) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(ahead).items()}


def _residuals(task: Forecast, test: Residuals) -> dict[str, Any]:
    """The distribution of the errors on the test part, and their growth with the rows ahead."""
    unit = task.units(torch.from_numpy(test.origins)).numpy()
    errors = test.errors * unit
    known = errors[np.isfinite(errors)]
    if len(known) == 0:
        return {}
    # The outermost bins hold the outer hundredth on each side, so that an outlier does not hide the
    # rest.
    low, high = np.quantile(known, [0.005, 0.995])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(known, low, high), BINS, (low, high))
    with np.errstate(invalid="ignore"):
        by_row = np.sqrt(np.nanmean(np.square(errors), 0))
    return {
        "edges": (edges * task.scale).tolist(),
        "counts": counts.tolist(),
        "mean": float(known.mean()) * task.scale,
        "deviation": float(known.std()) * task.scale,
        "rmse by row ahead": (by_row * task.scale).tolist(),
    }


def _next(
    task: Forecast, predict: Callable[[Tensor], Tensor], intervals: Intervals
) -> list[dict[str, Any]]:
    """The forecast from the end of the file."""
    ends = [end - 1 for end in (*task.starts[1:], len(task.y))]
    starts = task.starts
    rows: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        known = np.flatnonzero(task.known.numpy()[start : end + 1])
        if len(known) and int(known[-1]) + 1 >= task.window:
            rows.append(start + int(known[-1]))
    if not rows:
        return []
    found = forecast_from(task, torch.tensor(rows[:MOST_SERIES]), predict, intervals)
    return [
        {**_plain(ahead), "past": _past(task, row)} for ahead, row in zip(found, rows, strict=False)
    ]


def _text(spec: TextSpec, model: SequenceModel) -> dict[str, Any]:
    samples: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        generator = torch.Generator().manual_seed(0)
        codes = sample(model, spec, start_of(spec, generator), temperature, generator)
        drawn = itertools.islice(codes, LENGTHS[spec.symbol])
        samples.append({"temperature": temperature, "text": spec.decode(list(drawn))})
    return {"kind": "text", "samples": samples}
