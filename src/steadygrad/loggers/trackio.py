"""trackio: scalars, and findings as text."""

import importlib
from collections.abc import Mapping
from typing import Any, final

from steadygrad.loggers.base import PREFIX, Logger


@final
class TrackioLogger(Logger):
    """Logs to the project started by ``trackio.init``."""

    def __init__(self) -> None:
        self._trackio: Any = importlib.import_module("trackio")

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self._log(step, {name: float(value) for name, value in values.items()})

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        text = f"{finding.get('fault')} in {finding.get('layer')}: {finding.get('text')}"
        self._log(step, {"finding": text})

    def _log(self, step: int, values: dict[str, Any]) -> None:
        self._trackio.log(
            {f"{PREFIX}/step": step} | {f"{PREFIX}/{k}": v for k, v in values.items()}
        )
