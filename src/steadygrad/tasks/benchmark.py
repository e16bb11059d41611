"""A task of the proving ground: its name, its score without memory, when it is solved."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from steadygrad.errors import InputError
from steadygrad.tasks.base import Score, Split, Task


class Benchmark(Task):
    """A task that is made from its options alone: a frozen dataclass whose fields they are.

    It states its `name`, what a model without memory scores (`no_memory`, by closed form or from
    the data), and when it counts as solved.
    """

    name: ClassVar[str]
    input_kind: ClassVar[Literal["values", "symbols"]] = "values"
    every_step: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    solved_if: ClassVar[tuple[str, float] | None] = None
    """The figure that decides whether the task is solved, and the value that it has to reach."""
    ends_when_solved: ClassVar[bool] = True
    """Whether training ends where the task is solved; else it uses its whole budget."""

    @property
    @abstractmethod
    def no_memory(self) -> Mapping[str, float]:
        """What the best answer that remembers nothing scores on average, by figure."""

    @property
    def deciding(self) -> str:
        """The figure by which runs are compared."""
        return self.solved_if[0] if self.solved_if else next(iter(self.better))

    def solved(self, figures: Mapping[str, float]) -> bool:
        """Whether figures of a scored part mean that the task is solved."""
        if self.solved_if is None:
            return False
        unit, bound = self.solved_if
        value = figures[unit]
        return value <= bound if self.better[unit] == "lower" else value >= bound

    def facts(self) -> dict[str, object]:
        return {
            "task": self.name,
            "time_steps": self.time_steps,
            "required lag": self.required_lag,
            "without memory": dict(self.no_memory),
            "solved if": dict([self.solved_if]) if self.solved_if else None,
        }

    def naive(self, split: Split) -> list[Score]:
        return [
            Score("without memory", value, unit, self.better[unit])
            for unit, value in self.no_memory.items()
        ]

    def expect(self, option: str, holds: bool, expected: str) -> None:
        """Refuse a bad option as soon as the task is made.

        Raises:
            InputError: ``holds`` is False.
        """
        if not holds:
            value = getattr(self, option)
            raise InputError(f"task {self.name}: {option} {value}: expected {expected}")


class Measured(Benchmark):
    """A benchmark of recorded data, which nobody can answer without error.

    It counts as solved where it beats every answer that needs no network, by the first figure of
    `better`. Training uses its whole budget: the lower the better.
    """

    ends_when_solved: ClassVar[bool] = False

    @property
    def solved_if(self) -> tuple[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The best answer without a network on the test part; it has to be beaten, not reached."""
        unit = self.deciding
        values = [s.value for s in self.naive("test") if s.unit == unit]
        return unit, min(values) if self.better[unit] == "lower" else max(values)

    @property
    def deciding(self) -> str:
        return next(iter(self.better))

    def scored(self, name: str) -> dict[str, float]:
        """Figures of the naive answer ``name`` on the test part."""
        return {s.unit: s.value for s in self.naive("test") if s.name == name}

    def solved(self, figures: Mapping[str, float]) -> bool:
        unit, bound = self.solved_if
        bar = Score("naive", bound, unit, self.better[unit])
        return Score("model", figures[unit], unit, self.better[unit]).beats(bar)
