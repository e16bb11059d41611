"""From a file to a task: what kind it is, and whether it is still the same file."""

import hashlib
from pathlib import Path

from steadygrad.tasks import Task, read_forecast, read_text
from steadygrad.tasks.source import read_bytes
from steadygrad.tasks.table import DELIMITERS
from steadygrad.train.config import TrainConfig

TABLE_ENDINGS = frozenset({".csv", ".tsv", ".tab"})


def read_task(config: TrainConfig) -> Task:
    """Read the file as the task it holds.

    Raises:
        InputError: Whatever makes the file or the options unusable.
    """
    kind = guess_kind(config.file) if config.kind == "auto" else config.kind
    if kind == "forecast":
        return read_forecast(config.file, config.target, config.window, config.horizon)
    return read_text(config.file, config.symbol, config.window)


def guess_kind(path: Path) -> str:
    """Return ``forecast`` for a table, by its ending or else by its first lines; else ``text``."""
    if path.suffix.lower() in TABLE_ENDINGS:
        return "forecast"
    lines = read_bytes(path)[:65536].decode("utf-8", "replace").splitlines()[:20]
    if len(lines) >= 3 and any(_is_table(lines, delimiter) for delimiter in DELIMITERS):
        return "forecast"
    return "text"


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the file: a resumed run must see the same data."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_table(lines: list[str], delimiter: str) -> bool:
    """Whether all lines have as many fields as the first, and numbers below the header."""
    width = lines[0].count(delimiter)
    body = lines[1:-1]  # the last may be cut off
    if width == 0 or any(line.count(delimiter) != width for line in body):
        return False
    return all(any(_is_number(cell) for cell in line.split(delimiter)) for line in body)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
