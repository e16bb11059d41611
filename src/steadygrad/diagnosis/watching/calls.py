"""Rules on the calls of the recurrent layers that need no replay."""

import warnings
from collections.abc import Iterable

from steadygrad.diagnosis.judge import judge_call
from steadygrad.faults import CallFacts, Finding, Thresholds
from steadygrad.flow import Capture
from steadygrad.flow.state_handover import Handovers

UNSEEN = 3  # steps without a call of a recurrent layer, from the start, before that is said


class Calls:
    """Whether there are any, and whether a state leaks from one batch into the next.

    Args:
        start_step: Steps done before.
        thresholds: What decides.

    Attributes:
        findings: As of the last step, by layer.
    """

    def __init__(self, start_step: int, thresholds: Thresholds) -> None:
        self._start, self._thresholds, self._has_seen = start_step, thresholds, False
        self.forget()

    @property
    def has_seen(self) -> bool:
        """Whether a recurrent layer was called."""
        return self._has_seen

    def restore(self, findings: Iterable[tuple[str, Finding]], has_seen: bool) -> None:
        """Take up what was found before an interruption, by layer."""
        self._has_seen = has_seen
        self.findings = {}
        for layer, finding in findings:
            self.findings.setdefault(layer, []).append(finding)

    def forget(self) -> None:
        """Begin anew."""
        self._handovers = Handovers()
        self.findings: dict[str, list[Finding]] = {}

    @property
    def hands_on(self) -> bool:
        """Whether a state was ever handed from one batch to the next."""
        return self._handovers.is_any

    def pause(self) -> None:
        """Miss the steps that follow; the findings stand."""
        self._handovers.pause()

    def told(self) -> list[Finding]:
        """The findings of all layers."""
        return [f for each in self.findings.values() for f in each]

    def see(self, capture: Capture, step: int) -> bool:
        """Take the calls of a step; whether there is a finding where there was none."""
        before = bool(self.told())
        calls = capture.calls
        self._has_seen = self._has_seen or bool(capture.graded or capture.transformed)
        if not self._has_seen and step - self._start == UNSEEN:
            warnings.warn(
                f"no call of a recurrent layer was seen in {UNSEEN} steps: only norms can "
                "be measured. Does the training call this very model, with gradients on?",
                stacklevel=2,
            )
        for call in calls:
            if call.goes_on:  # in a loop, not from one batch to the next
                continue
            handover = self._handovers.see(call)
            if handover is None:  # at most steps: no rule has anything to read
                self.findings.pop(call.name, None)
                continue
            facts = CallFacts(call.name, handover=handover)
            self.findings[call.name] = judge_call(facts, self._thresholds)
        return not before and bool(self.told())
