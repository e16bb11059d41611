"""What is found wrong in a training as of now, since when, and what has gone again."""

from collections.abc import Iterable
from dataclasses import replace

from steadygrad.diagnosis.prescribe import Prescriber
from steadygrad.diagnosis.trial import Batch, Trial
from steadygrad.diagnosis.watching.saved import Raised
from steadygrad.diagnosis.watching.sinks import Sinks
from steadygrad.faults import Finding, Key

LASTS = 5  # looks in a row


class Register:
    """The findings of the last look, each with the step at which it was first seen.

    Args:
        prescriber: Of remedies.
        sinks: Where findings, and their end, are written.

    Attributes:
        found: As of the last look, by what, where, and in which gate.
        passing: Candidates that were raised at some look, confirmed or not, and not there from
            the first of them on and has not been raised by five in a row.
    """

    def __init__(self, prescriber: Prescriber, sinks: Sinks) -> None:
        self._prescriber, self._sinks = prescriber, sinks
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.found: dict[Key, Finding] = {}
        self.passing: set[Key] = set()
        self._raised: dict[Key, int] = {}
        self._looks = 0
        self._untried: dict[Key, Trial | None] = {}

    def saved(self) -> tuple[Raised, ...]:
        """Candidates as a checkpoint keeps them."""
        return tuple(Raised(*key, n, key in self.passing) for key, n in self._raised.items())

    def restore(self, found: Iterable[Finding], raised: Iterable[Raised], looks: int) -> None:
        """Take up findings, what `saved` returned, and how many looks there were."""
        self.found, self._looks = {f.key: f for f in found}, looks
        self._untried = {key: None for key, f in self.found.items() if not f.effects}
        self._raised = {(r.fault, r.layer, r.gate): r.looks for r in raised}
        self.passing = {(r.fault, r.layer, r.gate) for r in raised if r.passing}

    @property
    def looks(self) -> int:
        """Looks so far."""
        return self._looks

    def see(self, raised: Iterable[Finding]) -> None:
        """Count what a look has raised."""
        self._looks += 1
        self._raised = {f.key: self._raised.get(f.key, 0) + 1 for f in raised}
        self.passing = {k for k, n in self._raised.items() if n < min(LASTS, self._looks)}

    @property
    def findings(self) -> list[Finding]:
        """As of the last look."""
        return list(self.found.values())

    def try_remedies(self) -> None:
        """Put the remedies of each finding in order of what they do to a copy of the model.

        That takes a second or so for each fault: it is done once, and not before somebody reads it.
        """
        for key, trial in list(self._untried.items()):
            if trial is None or key not in self.found:
                continue
            del self._untried[key]
            found = self.found[key] = self._prescriber.tried(self.found[key], trial)
            if found.step is not None:
                self._sinks.amend(found.step, found.to_record())

    def update(self, findings: Iterable[Finding], step: int, batch: Batch | None = None) -> None:
        """Take the findings of a new look; those that are not among them are resolved.

        Args:
            findings: All of them.
            step: Of the training.
            batch: What was caught at this look, on which remedies can be tried; it is kept, with a
                copy of the model, until that is done.
        """
        found: dict[Key, Finding] = {}
        trial: Trial | None = None
        for finding in findings:
            first = self.found.get(finding.key)
            since = step if first is None else first.step
            finding = self._prescriber.prescribe(finding, first)
            found[finding.key] = replace(finding, step=since)
            if first is None:
                self._untried[finding.key] = None
            if batch is not None and self._untried.get(finding.key, batch) is None:
                if self._prescriber.has_to_try(finding):
                    trial = trial or self._prescriber.trial(batch)
                    self._untried[finding.key] = trial
                else:
                    del self._untried[finding.key]
            if first is None:
                self._sinks.finding(step, found[finding.key].to_record())
        for fault, layer, gate in set(self.found) - set(found):
            text = f"{fault} in {layer} is gone"
            self._sinks.event(step, "resolved", text, fault=fault, layer=layer, gate=gate)
            self._untried.pop((fault, layer, gate), None)
        self.found = found
