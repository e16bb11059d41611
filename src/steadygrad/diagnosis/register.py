"""What is found wrong in a training as of now, since when, and what has gone again."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from steadygrad.diagnosis.finding import Finding, Key
from steadygrad.diagnosis.prescribe import prescribe
from steadygrad.record import Record


class Register:
    """The findings of the last look, each with the step at which it was first seen.

    Args:
        model: For which remedies are prescribed.
        record: Where findings, and their end, are written; nothing is written if None.

    Attributes:
        found: As of the last look, by what, where, and in which gate.
    """

    def __init__(self, model: nn.Module, record: Record | None) -> None:
        self._model, self._record = model, record
        self.found: dict[Key, Finding] = {}

    @property
    def findings(self) -> list[Finding]:
        """As of the last look."""
        return list(self.found.values())

    def update(self, findings: Iterable[Finding], step: int) -> None:
        """Take the findings of a new look; those that are not among them are resolved."""
        found: dict[Key, Finding] = {}
        for finding in findings:
            first = self.found.get(finding.key)
            since = step if first is None else first.step
            found[finding.key] = replace(prescribe(finding, self._model), step=since)
            if first is None and self._record:
                self._record.finding(step, found[finding.key].to_record())
        for fault, layer, gate in set(self.found) - set(found):
            if self._record:
                text = f"{fault} in {layer} is gone"
                self._record.event(step, "resolved", text, fault=fault, layer=layer, gate=gate)
        self.found = found
