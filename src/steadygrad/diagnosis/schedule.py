"""When the processes of a training measure together."""

import math

from steadygrad.diagnosis.budget import LOOK, Budget
from steadygrad.ranks import Ranks

MOST_STEPS = 50  # after so many the first process is asked again


class Turns:
    """Whether a measurement is due, the same answer in every process.

    The first process decides, by its own budget. It is asked only at steps that it named the time
    before, so that a step in between exchanges nothing.

    Args:
        ranks: The processes; one alone follows its budget.
        budget: Of this process.
        step: Training step before the first.
        every: Steps from one measurement to the next, whatever the budget; None to go by that.
    """

    def __init__(self, ranks: Ranks, budget: Budget, step: int, every: int | None = None) -> None:
        self._ranks, self._budget, self._begun, self._next = ranks, budget, step, step + 1
        self._every = every
        self._demanded = False
        self._later = 0
        self._taken_at = step

    @property
    def begun(self) -> int:
        """The step before the first."""
        return self._begun

    def resume(self, begun: int) -> None:
        """Count from where the training began, not from where it was resumed."""
        self._begun = min(self._begun, begun)

    def rewind(self, step: int) -> None:
        """Go on from an earlier step."""
        self._begun, self._next = min(self._begun, step), step + 1
        self._taken_at = min(self._taken_at, step)

    def demand(self, step: int) -> bool:
        """Ask for a measurement at the next step, though it be early: something hangs on it.

        The next such one may come when as many steps again have gone by.

        Returns:
            Whether it will be taken.
        """
        if not self._ranks.is_alone or self._every is not None or step < self._later:
            return False
        self._demanded, self._later = True, 2 * (step - self._begun) + self._begun
        return True

    def taken(self, step: int) -> None:
        """A measurement was taken at this step."""
        self._demanded, self._taken_at = False, step

    def since_look(self, step: int) -> int:
        """Steps since the last measurement, or since the first step."""
        return step - self._taken_at

    def is_due(self, step: int) -> bool:
        """Whether to measure at this step."""
        if self._every is not None or self._ranks.is_alone:
            return self.is_asked(step)
        if not self.is_asked(step):
            return False
        answer = (self._budget.allows(LOOK), self._steps_to_wait(step))
        is_due, wait = self._ranks.from_rank(answer)
        self._next = step + (1 if is_due else wait)
        return is_due

    def is_asked(self, step: int) -> bool:
        """Whether a measurement at this step is possible."""
        if self._every is not None:
            return (step - self._begun - 1) % self._every == 0
        if self._ranks.is_alone:
            return self._demanded or self._budget.allows(LOOK)
        return step >= self._next

    def _steps_to_wait(self, step: int) -> int:
        budget = self._budget
        each = max(budget.elapsed, 1e-9) / max(step - self._begun, 1)
        return math.ceil(min(MOST_STEPS, max(1, budget.wait(LOOK) / each)))
