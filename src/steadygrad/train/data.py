"""Read a file as a task, and fingerprint it."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

from steadygrad.errors import InputError
from steadygrad.reading.lines import Progress
from steadygrad.reading.options import ALL
from steadygrad.reading.prose import has_table_ending, is_table
from steadygrad.tasks import Task, read_forecast, read_text
from steadygrad.train.config import TrainConfig


def read_task(config: TrainConfig, progress: Progress | None = None) -> Task:
    """Read the file as a task.

    Args:
        config: The options.
        progress: Called with the bytes read and the total.

    Raises:
        InputError: The file or the options cannot be used.
    """
    kind = guess_kind(config.file) if config.kind == "auto" else config.kind
    if kind == "forecast":
        horizon, reading = config.horizon, config.reading
        if config.cell == "narx" and config.free_run:
            reading = replace(reading, known=reading.known or ALL)
        elif config.cell == "narx":
            horizon = 1
        try:
            return read_forecast(
                config.file, config.target, config.window, horizon, reading, progress
            )
        except InputError as error:
            if config.kind == "forecast" or has_table_ending(config.file):
                raise
            raise InputError(f"{error}. If it is a text to be learnt, pass --kind text") from None
    return read_text(config.file, config.symbol, config.window, config.reading.encoding)


def guess_kind(path: Path) -> Literal["forecast", "text"]:
    """Return ``forecast`` for a table, by its form, ending or first lines; else ``text``."""
    return "forecast" if is_table(path) else "text"


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the file, because a resumed run must use the same data."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
