"""``steadygrad stream RUN``: answer each line of the input with one line."""

import json as json_format
import sys
from pathlib import Path

from steadygrad.errors import InputError


def stream(run: Path, temperature: float = 0.8, seed: int | None = None, json: bool = False) -> int:
    """Answer each line of the standard input with one line, as it comes.

    For a table: reads a row, prints the forecast after it, separated by commas; an empty line while
    there are fewer rows than the window, or if a line cannot be read (the reason is printed to
    stderr). A header as the first line is skipped. For a text: reads a line, prints the model's
    continuation.

    Args:
        run: Folder of the run, or its model.safetensors.
        temperature: For a text: 0 takes the most probable symbol, 1 draws with the learnt
            probabilities.
        seed: For a text: seed of the draws.
        json: Answer with one JSON document per line, with dates and intervals.
    """
    from steadygrad.deploy import TextModel, load
    from steadygrad.deploy.forecasting import ForecastStream

    model = load(run)
    if isinstance(model, TextModel):
        pen = model.stream(temperature=temperature, seed=seed)
        for line in sys.stdin:
            try:
                text = pen.push(line)
            except InputError as error:
                print(f"steadygrad: {error}", file=sys.stderr)
                text = ""
            print(json_format.dumps({"text": text}) if json else text, flush=True)
        return 0
    rows: ForecastStream = model.stream()
    print(f"  {rows.missing} rows are needed before the first forecast", file=sys.stderr)
    for number, line in enumerate(sys.stdin):
        before = rows.missing
        try:
            found = rows.push(line)
        except InputError as error:
            print(f"steadygrad: line {number + 1}: {error}", file=sys.stderr)
            found = None
        else:
            if number == 0 and rows.missing == before:  # the header
                continue
        if json:
            document = None
            if found is not None:
                document = {
                    "after": found.after_date,
                    "dates": found.dates,
                    "forecast": found.values,
                    "low": found.low,
                    "high": found.high,
                }
            print(json_format.dumps(document), flush=True)
        else:
            told = "" if found is None else ",".join(f"{v:.8g}" for v in found.values)
            print(told, flush=True)
    return 0
