"""The thresholds of all faults in one value; each default stands with its fault."""

import inspect
from typing import Any, final

from steadygrad.faults.base import Threshold, known


def every_threshold() -> dict[str, Threshold]:
    """The thresholds of all faults, by name."""
    return {name: t for fault in known().values() for name, t in fault.thresholds.items()}


class _Signed(type):
    """Shows the thresholds that there are as the arguments of `Thresholds`."""

    @property
    def __signature__(cls) -> inspect.Signature:
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature(
            [
                inspect.Parameter(name, kind, default=t.default, annotation=float)
                for name, t in every_threshold().items()
            ]
        )


@final
class Thresholds(metaclass=_Signed):
    """The numbers that decide. Each stands in the evidence of the findings it decided.

    ``Thresholds(vanishing=1e-3)`` changes one and leaves the others as they are. The names,
    meanings and defaults are those of the faults; ``steadygrad explain`` and docs/faults.md list
    them.

    Args:
        values: Thresholds that differ from their default, by name.

    Raises:
        TypeError: No threshold of this name; the message lists what there is.
        ValueError: A value outside its range, or two that contradict each other.
    """

    def __init__(self, **values: float) -> None:
        there = every_threshold()
        for name in values:
            if name not in there:
                raise TypeError(f"no threshold {name!r}; there are: {', '.join(there)}")
        for name, threshold in there.items():
            object.__setattr__(self, name, values.get(name, threshold.default))
            if not threshold.allows(self.__dict__[name]):
                raise ValueError(
                    f"threshold {name} must {threshold.allowed}, got {self.__dict__[name]}"
                )
        for fault in known().values():
            fault.check(self)

    def __getattr__(self, name: str) -> float:
        # Reached only for names that __init__ has not set.
        raise AttributeError(f"no threshold {name!r}; there are: {', '.join(self.__dict__)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"thresholds are fixed; make new ones: Thresholds({name}={value})")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thresholds) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.items()))

    def __repr__(self) -> str:
        return f"Thresholds({', '.join(f'{n}={v:g}' for n, v in self.__dict__.items())})"
