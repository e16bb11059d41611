"""``runs.jsonl``: every finished run, appended at once."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.papers.harness.config import Config, Run

Figures = dict[str, Any]


class Ledger:
    """Finished runs of a paper, by settings and seed."""

    def __init__(self, config: Config) -> None:
        self.path: Path = config.folder / f"{config.prefix}runs.jsonl"
        self.found: dict[tuple[str, int], Figures] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.found[entry["key"], entry["seed"]] = entry["figures"]

    def of(self, run: Run) -> list[Figures]:
        """Figures of a run, by seed."""
        return [v for (key, _), v in sorted(self.found.items()) if key == run.key]

    def holds(self, run: Run, seed: int) -> bool:
        """Whether this was done."""
        return (run.key, seed) in self.found

    def add(self, run: Run, seed: int, figures: Figures) -> None:
        """Write a finished run down."""
        self.found[run.key, seed] = figures
        entry = {"key": run.key, "run": run.own, "seed": seed, "figures": figures}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def strangers(self, runs: Iterable[Run]) -> int:
        """Count the finished runs whose settings are none of these."""
        keys = {run.key for run in runs}
        return sum(key not in keys for key, _ in self.found)

    def forget(self) -> None:
        """Start over."""
        self.found.clear()
        self.path.unlink(missing_ok=True)
