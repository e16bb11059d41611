"""``steadygrad forecast RUN FILE``: forecast the rows after the end of a file."""

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.tasks.ahead import Backtest


def forecast(
    run: Path,
    file: Path,
    horizon: int | None = None,
    level: float = 0.8,
    backtest: int | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Forecast the rows after the end of a file with a trained model, with intervals.

    The file has the columns of the training file; rows at its end with an empty target are rows to
    forecast. CSV is printed to stdout, and notes on the data to stderr. The intervals come from the
    errors on the validation part of the training; their coverage on its test part is printed, too.

    Args:
        run: Folder of the run, or its model.safetensors.
        file: The rows up to now.
        horizon: Rows ahead; as trained if not given.
        level: Share of the truth that an interval should contain.
        backtest: Forecast from this many earlier rows, a horizon apart, and score those instead.
        out: File to write to, JSON if it ends in .json, otherwise CSV.
        json: Print JSON.
    """
    from steadygrad.deploy import ForecastModel, load

    model = load(run)
    if not isinstance(model, ForecastModel):
        raise InputError(f"{run}: was trained on a text; use steadygrad generate {run}")
    if backtest is not None:
        if horizon is not None:
            raise InputError("--backtest: scores the horizon of the training; leave out --horizon")
        return _backtest(model.backtest(file, backtest, level=level), out, json)
    found = model.forecast(file, horizon=horizon, level=level)
    for note in found.notes:
        print(f"  {note}", file=sys.stderr)
    print(f"  {found.about}", file=sys.stderr)
    if out is not None:
        print(found.save(out))
    else:
        print(json_format.dumps(found.plain(), indent=2) if json else found.csv().rstrip("\n"))
    return 0


def _backtest(found: "Backtest", out: Path | None, json: bool) -> int:
    from steadygrad.deploy.forecasting import backtest_plain

    if out is not None or json:
        text = json_format.dumps(plain(backtest_plain(found)), indent=2)
        if out is None:
            print(text)
        else:
            out.write_text(text, encoding="utf-8")
            print(out)
        return 0
    for ahead in found.forecasts:
        pairs = [
            (v - t) ** 2 for v, t in zip(ahead.values, ahead.truth, strict=False) if t is not None
        ]
        when = ahead.after_date or f"row {ahead.after + 1}"
        name = f"{ahead.series}  " if ahead.series else ""
        error = f"{(sum(pairs) / len(pairs)) ** 0.5:.4g}" if pairs else "no truth"
        print(f"{name}after {when}: RMSE {error}")
    width = max(map(len, found.scores))
    for name, scores in found.scores.items():
        told = ", ".join(f"{unit} {value:.4g}" for unit, value in scores.items())
        print(f"{name:<{width}}  {told}")
    if found.coverage is not None:
        print(f"intervals of {found.level:.0%} held {found.coverage:.1%} of the truth")
    return 0
