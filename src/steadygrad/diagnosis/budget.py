"""How much of a training's time measuring may take."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import TracebackType

LOOK = "replay"  # the work that all the rest is for
PARTS: Mapping[str, float] = {LOOK: 1 / 2, "sample": 1 / 8, "update": 1 / 8, "judge": 1 / 8}
"""What of the share is kept for some kinds, whatever the others take."""
AT_ONCE: Mapping[str, int] = {"sample": 20}
"""Of cheap kinds, how often each is done before its cost counts: rules need so many."""
LONG = 2.0  # seconds from one look to the next
ONCE = 0.03  # seconds of the first look that count; the rest is compiling, and comes once


class Budget:
    """Keeps the time spent on measuring below a share of the time that went by.

    Work is allowed when the share would still hold after it, going by what it cost last time. The
    first piece of each kind is allowed at once: it is paid back before the second. A part of the
    share is kept for the looks, and for the few numbers that every training leaves, so that steps
    too short for what is done at each of them are looked at all the same.

    What happens once in a process, as when a kernel is compiled at the first look, is no share of
    a training, and does not keep the next look waiting.

    Args:
        share: 0.02 for two per cent; 0 forbids all but the first; 1 allows everything.
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"budget is a share of the time, 0 to 1, got {share}")
        self.share = share
        self.spent = 0.0
        self._cost: dict[str, float] = {}
        self._spent_on: defaultdict[str, float] = defaultdict(float)
        self._times: Counter[str] = Counter()
        self._once = 0.0
        self._began = time.perf_counter()

    def start(self) -> None:
        """Begin to count now."""
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.perf_counter() - self._began

    def spent_on(self, kind: str) -> float:
        """Seconds spent on work of this kind."""
        return self._spent_on[kind]

    def wait(self, kind: str) -> float:
        """Seconds until a piece of work of this kind is allowed; 0 or less if it is now."""
        if kind not in self._cost or self.share == 1:
            return 0.0
        if self.share == 0:
            return math.inf
        if self._times[kind] < AT_ONCE.get(kind, 0):
            return 0.0
        cost = self._cost[kind]
        at = (self.spent - self._once + cost) / self.share
        if kind in PARTS:
            own = self._spent_on[kind] - (self._once if kind == LOOK else 0.0)
            at = min(at, (own + cost) / (self.share * PARTS[kind]))
        return at - self.elapsed

    @property
    def is_tight(self) -> bool:
        """Whether a look has to wait for long: then a smaller one is better than none."""
        cost = self._cost.get(LOOK)
        return cost is not None and 0 < self.share < 1 and cost > LONG * self.share * PARTS[LOOK]

    def allows(self, kind: str) -> bool:
        """Whether there is time for a piece of work of this kind."""
        return self.wait(kind) <= 0

    def spend(self, kind: str) -> "Spent":
        """A context; the time of its block is counted."""
        return Spent(self, kind)

    def add(self, kind: str, seconds: float) -> None:
        """Count time that was spent."""
        if kind == LOOK and not self._times[kind]:
            self._once += max(0.0, seconds - ONCE)
        self._times[kind] += 1
        self._cost[kind] = min(seconds, ONCE) if self._times[kind] == 1 else seconds
        self._spent_on[kind] += seconds
        self.spent += seconds


class Spent:
    """Counts the time of a block; made by `Budget.spend`."""

    def __init__(self, budget: Budget, kind: str) -> None:
        self._budget, self._kind = budget, kind

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.add(self._kind, time.perf_counter() - self._began)
