"""What the calls of the recurrent layers tell before anything is measured."""

import warnings
from collections.abc import Sequence

from steadygrad.diagnosis.data_rules import Leak
from steadygrad.diagnosis.finding import Finding
from steadygrad.flow import Call

UNSEEN = 3  # steps without a call of a recurrent layer, from the start, before that is said


class Calls:
    """Whether there are any, and whether a state leaks from one batch into the next.

    Args:
        start_step: Steps done before.

    Attributes:
        leaks: As of the last step, by layer.
    """

    def __init__(self, start_step: int) -> None:
        self._start, self._has_seen = start_step, False
        self.forget()

    @property
    def has_seen(self) -> bool:
        """Whether a recurrent layer was called."""
        return self._has_seen

    def restore(self, leaks: dict[str, Finding], has_seen: bool) -> None:
        """Take up what was seen before an interruption."""
        self.leaks, self._has_seen = leaks, has_seen

    def forget(self) -> None:
        """Begin anew."""
        self._leak = Leak()
        self.leaks: dict[str, Finding] = {}

    def see(self, calls: Sequence[Call], step: int) -> None:
        """Take the calls of a step."""
        self._has_seen = self._has_seen or bool(calls)
        if not self._has_seen and step - self._start == UNSEEN:
            warnings.warn(
                f"no call of a recurrent layer was seen in {UNSEEN} steps: only norms can "
                "be measured. Does the training call this very model, with gradients on?",
                stacklevel=2,
            )
        for call in calls:
            found = self._leak.see(call)
            if found:
                self.leaks[call.name] = found
            else:
                self.leaks.pop(call.name, None)
