"""Benchmark tasks: a name, a score without memory, and a threshold from which they are solved."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from steadygrad.errors import InputError
from steadygrad.tasks.base import Score, Split, Task


class Benchmark(Task):
    """A task made from its options alone, which are the fields of a frozen dataclass.

    It declares its `name`, the score of a model without memory (`no_memory`, in closed form or from
    the data), and when it counts as solved.
    """

    name: ClassVar[str]
    input_kind: ClassVar[Literal["values", "symbols"]] = "values"
    every_step: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    solved_if: ClassVar[tuple[str, float] | None] = None
    """The figure that decides whether the task is solved, and its threshold."""
    ends_when_solved: ClassVar[bool] = True
    """Whether training ends when the task is solved; otherwise it uses its whole budget."""

    @property
    @abstractmethod
    def no_memory(self) -> Mapping[str, float]:
        """Average score of the best answer without memory, by figure."""

    @property
    def deciding(self) -> str:
        """The figure by which runs are compared."""
        return self.solved_if[0] if self.solved_if else next(iter(self.better))

    def solved(self, figures: Mapping[str, float]) -> bool:
        """Whether the figures of a split mean that the task is solved."""
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
        """Refuse a bad option when the task is made.

        Raises:
            InputError: ``holds`` is False.
        """
        if not holds:
            value = getattr(self, option)
            raise InputError(f"task {self.name}: {option} {value}: expected {expected}")


class Measured(Benchmark):
    """A benchmark of recorded data, on which no model is free of error.

    It counts as solved if the model beats every answer that needs no network, by the first figure
    of `better`. Training uses its whole budget.
    """

    ends_when_solved: ClassVar[bool] = False

    @property
    def solved_if(self) -> tuple[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Score of the best answer without a network on the test part, which must be exceeded."""
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
