"""``config.toml``: what is run, and what the table says of it."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadygrad.errors import InputError

Settings = dict[str, Any]
"""All settings of one run: those of the paper, and its own over them."""


NEEDED = ("number", "title", "setting", "method", "seeds", "budget", "scaled")


@dataclass(frozen=True)
class Run:
    """One entry of ``[[runs]]``.

    Args:
        settings: What `attempt` is given.
        own: Those among them that the entry itself states.
        seeds: How many.
        rows: What the table says of it.
    """

    settings: Settings
    own: Settings
    seeds: int
    rows: tuple[Settings, ...]

    @property
    def key(self) -> str:
        """Tell these settings from all others."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Own settings as one line."""
        return ", ".join(f"{k} {v}" for k, v in self.own.items())


@dataclass(frozen=True)
class Config:
    """A paper's configuration, as run or in full."""

    folder: Path
    paper: Settings
    runs: tuple[Run, ...]
    full: bool = False

    @property
    def prefix(self) -> str:
        """Before the names of the files that are written."""
        return "full." if self.full else ""


def read(folder: Path, full: bool = False) -> Config:
    """Read the configuration of a folder; with ``full``, as published.

    Raises:
        InputError: Nothing was scaled down, so that there is no fuller configuration, or a key that
            every paper has to state is missing.
    """
    given = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    over = given.pop("full", None)
    if full:
        if over is None:
            raise InputError("--full: what is run without it is what was published")
        everyones = given.get("rows", [])
        for row in [*everyones, *(row for run in given["runs"] for row in run.get("rows", ()))]:
            row.pop("why", None)  # of the other budget
            row.pop("scaled", None)
        each = over.pop("each", {})
        given = _merged(given, over)
        given["runs"] = [_merged(run, each) for run in given["runs"]]
        given["paper"]["scaled"] = False
    missing = [k for k in NEEDED if k not in given.get("paper", ())]
    missing += [] if given.get("runs") else ["[[runs]]"]
    if missing:
        raise InputError(f"config.toml: [paper] has no {', '.join(missing)}; see benchmarks.papers")
    paper, runs, rows = given.pop("paper"), given.pop("runs"), given.pop("rows", ())
    every = {"seeds": paper["seeds"], "rows": rows}
    return Config(folder, paper, tuple(_run(given, every | run) for run in runs), full)


def _run(common: Settings, entry: Settings) -> Run:
    own = {k: v for k, v in entry.items() if k not in ("rows", "seeds")}
    return Run(_merged(common, own), own, entry["seeds"], tuple(entry["rows"]))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Merge ``over`` into a copy of ``base``, table by table."""
    found = dict(base)
    for key, value in over.items():
        old = found.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        found[key] = _merged(old, value) if both and old is not None else value
    return found
