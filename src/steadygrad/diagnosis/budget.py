"""How much of a training's time measuring may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Keeps the time spent on measuring below a share of the time that went by.

    Work is allowed when the share would still hold after it, going by what it cost last time. The
    first piece of each kind is allowed at once: it is paid back before the second.

    Args:
        share: 0.02 for two per cent; 0 forbids all but the first; 1 allows everything.
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"budget is a share of the time, 0 to 1, got {share}")
        self.share = share
        self.spent = 0.0
        self._cost: dict[str, float] = {}
        self._began = time.perf_counter()

    def start(self) -> None:
        """Begin to count now."""
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.perf_counter() - self._began

    def cost(self, kind: str) -> float:
        """What a piece of work of this kind cost last time, in seconds; 0 if not known."""
        return self._cost.get(kind, 0.0)

    def allows(self, kind: str) -> bool:
        """Whether there is time for a piece of work of this kind."""
        if kind not in self._cost or self.share == 1:
            return True
        return self.spent + self._cost[kind] <= self.share * self.elapsed

    @contextmanager
    def spend(self, kind: str) -> Iterator[None]:
        """Count the time of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            cost = time.perf_counter() - began
            self._cost[kind] = cost
            self.spent += cost
