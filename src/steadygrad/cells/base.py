"""What every recurrent cell promises: one step of a recurrence, and names for its parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

State = tuple[Tensor, ...]
"""One tensor ``(B, H)`` per name in `Cell.states`; the first is the hidden state h."""

V = TypeVar("V")


class Named(Generic[V]):
    """Values reached by attribute, one per name: ``x.forget``, ``recur.forget(h)``."""

    def __init__(self, kind: str, values: Mapping[str, V]) -> None:
        self._kind = kind
        self._values = values

    def __getattr__(self, name: str) -> V:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(
                f"no {self._kind} named {name!r}; there are: {', '.join(self._values) or 'none'}"
            ) from None


Gates = Named[Tensor]
"""``x.<gate>`` is ``W x_t + b_ih`` of that gate, ``(B, H)``, projected before the loop."""
Recur = Named[Callable[[Tensor], Tensor]]
"""``recur.<gate>(v)`` is ``R v + b_hh`` of that gate: the step waits here for a product."""
PerUnit = Named[Tensor]
"""``unit.<name>`` is a parameter with one value per hidden unit, broadcast to ``(B, H)``."""


class Cell(ABC):
    r"""One step of a recurrence, :math:`s_t = F(x_t, s_{t-1})`, and the names of its parts.

    A cell is a frozen dataclass: its fields are its options. It owns no weights and knows of
    no time loop. It states

    - `gates`, the row blocks of ``weight_ih``, in order;
    - `recurrent`, the row blocks of ``weight_hh``, in order (the gates, unless said);
    - `states`, the first of which is the hidden state ``h`` that the layer puts out;
    - `per_unit`, parameters with one value per hidden unit, and where they start;

    and one method, `step`, written as the paper writes it.
    """

    name: ClassVar[str]
    gates: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)
    per_unit: ClassVar[Mapping[str, float]] = {}
    can_project: ClassVar[bool] = False
    """Whether h may be shrunk by ``weight_hr``: only if the step uses h in products alone."""

    @property
    def recurrent(self) -> tuple[str, ...]:
        """Names of the row blocks of ``weight_hh``."""
        return self.gates

    @abstractmethod
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        """Advance the state by one time step.

        Args:
            x: Projected input of each gate, ``(B, H)``, its bias ``b_ih`` added.
            recur: Recurrent product of each gate, bias ``b_hh`` added.
            state: One tensor ``(B, H)`` per name in `states`.
            unit: Per-unit parameters, broadcast to ``(B, H)``.

        Rows (sequences) must not mix: only pointwise operations and reductions over the last
        axis may be used between products.
        """
