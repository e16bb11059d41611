"""A callable as a logger: ``log=lambda step, values: ...``."""

from collections.abc import Callable, Mapping
from typing import Any, final

from steadygrad.loggers.base import Logger


@final
class FunctionLogger(Logger):
    """Calls a function with the step and a plain dictionary of numbers and texts.

    Args:
        function: ``function(step, values)``. Numbers come under their names; a finding comes as
            ``{"finding": text, "fault": name, "layer": name}``, an event as ``{"event": text}``.
    """

    def __init__(self, function: Callable[[int, dict[str, Any]], object]) -> None:
        self._function = function

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self._function(step, dict(values))

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        self._function(step, {"event": text, "kind": kind})

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        told = {name: finding.get(name) for name in ("fault", "layer", "gate")}
        self._function(step, {"finding": finding.get("text"), **told})
