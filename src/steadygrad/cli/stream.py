"""``steadygrad stream RUN``: a line in, a line out."""

import json as json_format
import sys
from pathlib import Path

from steadygrad.errors import InputError


def stream(run: Path, temperature: float = 0.8, seed: int | None = None, json: bool = False) -> int:
    """Answer each line of the standard input with one line, as it comes.

    Of a table: a row in, the forecast from there out, with commas between; an empty line while
    there are fewer rows than the model sees, or where a line cannot be read (why is said on the
    other channel, stderr). A header as the first line is not answered. Of a text: a line in, the
    line that the model goes on with out.

    Args:
        run: Folder of the run, or its model.safetensors.
        temperature: Of a text: 0 takes the most probable symbol, 1 draws as the model has learnt.
        seed: Of a text: the same seed draws the same answers.
        json: Answer with one JSON document a line, with dates and intervals.
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
