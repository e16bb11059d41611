"""The interface of a recurrent cell: one step of a recurrence, and names for its parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from torch import Tensor

State = tuple[Tensor, ...]
"""One tensor ``(B, H)`` per name in `Cell.states`; the first is the hidden state h."""

Terms = Tensor | tuple[Tensor, ...]
"""One tensor per memory of a linear cell; a single tensor if there is one memory."""

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
"""``x.<gate>`` is ``W x_t + b_ih`` of that gate, ``(B, H)``, projected before the loop.

``x.<name>`` is also the value of each of `Cell.noise`.
"""
Recur = Named[Callable[[Tensor], Tensor]]
"""``recur.<gate>(v)`` is ``R v + b_hh`` of that gate, computed at each time step."""
PerUnit = Named[Tensor]
"""``unit.<name>`` is a parameter with one value per hidden unit, broadcast to ``(B, H)``.

``unit.<name>`` is also the value of each of `Cell.constants`.
"""


@dataclass(frozen=True)
class Noise:
    """A mask of zeros and ones, drawn anew in each forward pass in training mode.

    In evaluation mode it is the constant ``mean``; no gradient passes through it.

    Args:
        mean: Probability of a one, from 0 to 1 inclusive.
        shared: Whether one draw per row and unit holds for the whole sequence, instead of one
            per time step, row and unit.

    Raises:
        ValueError: ``mean`` is not a probability.
    """

    mean: float
    shared: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= 1:
            raise ValueError(f"Noise.mean is a probability, 0 to 1, got {self.mean}")


class Cell(ABC):
    r"""One step of a recurrence, :math:`s_t = F(x_t, s_{t-1})`, and the names of its parts.

    A cell is a frozen dataclass: its fields are its options. It owns no weights and no time loop.
    It declares

    - `gates`, the row blocks of ``weight_ih``, in order;
    - `recurrent`, the row blocks of ``weight_hh``, in order (the gates, unless said);
    - `states`, the first of which is the hidden state ``h`` that the layer puts out;
    - `keeping`, the gate that holds the memory, if there is one;
    - `per_unit`, parameters with one value per hidden unit, and where they start;
    - `constants`, values per unit that are not learnt;
    - `noise`, masks that are drawn in training;
    - `reset_`, where its weights start, if not where torch starts them;
    - `recurrent_matrix`, where R has a form of its own;

    and one method, `step`, written as in the paper. Its docstring (equations, effect on the
    gradient, options, References) and `choose_when` are the page of cells in the
    documentation.

    Example:
        An RNN that keeps a unit's old value with probability 0.2 (zoneout), its recurrent matrix
        started at the identity:

        >>> @dataclass(frozen=True)
        ... class Zoned(Cell):
        ...     name: ClassVar[str] = "zoned"
        ...     gates: ClassVar[tuple[str, ...]] = ("candidate",)
        ...     keep: float = 0.2
        ...
        ...     @property
        ...     def noise(self) -> Mapping[str, Noise]:
        ...         return {"keep": Noise(self.keep)}
        ...
        ...     def reset_(self, weights: Mapping[str, Tensor]) -> None:
        ...         torch.nn.init.eye_(weights["weight_hh"])
        ...
        ...     def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        ...         (h,) = state
        ...         new = torch.tanh(x.candidate + recur.candidate(h))
        ...         return (x.keep * h + (1 - x.keep) * new,)
    """

    name: ClassVar[str]
    choose_when: ClassVar[str] = ""
    """One or two sentences for the page of cells: when to choose this cell."""
    gates: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = None
    """The gate that holds the memory, and the sign of the bias that makes it keep more."""
    per_unit: ClassVar[Mapping[str, float]] = {}
    can_project: ClassVar[bool] = False
    """Whether h may be projected by ``weight_hr``: only if the step uses h in products alone."""

    @property
    def recurrent(self) -> tuple[str, ...]:
        """Names of the row blocks of ``weight_hh``."""
        return self.gates

    @property
    def noise(self) -> Mapping[str, Noise]:
        """Masks drawn from torch's generator in every training pass, read as ``x.<name>``.

        The backward pass, recomputation and second derivatives reuse the draw of the forward pass.
        """
        return {}

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        """Values per hidden unit that are not learnt, ``(H,)`` each, read as ``unit.<name>``.

        They follow the layer's dtype and device, and are not part of its ``state_dict``.
        """
        return {}

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        """Replace torch's initial weights of one direction by the cell's own, in place.

        Args:
            weights: By torch's name without its suffix: ``weight_ih``, ``weight_hh``,
                ``bias_ih`` and ``bias_hh`` if there are, and each name in `per_unit`; already
                drawn as torch draws them (those of `per_unit` at their start).
        """
        return

    def stored_shape(self, hidden_size: int) -> tuple[int, int] | None:
        """Shape of ``weight_hh`` where it differs from that of R; see `recurrent_matrix`."""
        return None

    def recurrent_matrix(self, stored: Tensor) -> Tensor:
        """The matrix R, ``(G*H, H)``, that the products use, from the trained ``weight_hh``.

        Overridden by a cell whose matrix has a fixed form: orthogonal, skew, block diagonal. The
        form then holds throughout training, whatever the optimiser does. Evaluated once per
        sequence; must be twice differentiable.
        """
        return stored

    def linear(self, x: Gates, unit: PerUnit) -> tuple[Terms, Terms] | None:
        r"""Decay and drive of a linear cell, whose step is :math:`m_t = a_t m_{t-1} + b_t`.

        The memory m is the state; or two states, its real and its imaginary part, where decay and
        drive are complex. A cell of several memories returns two tuples, one tensor per memory,
        all real or all complex. Such a cell has no recurrent weights. All its time steps can be
        computed at once (``backend="parallel"``); `step` must say the same. If h is not itself the
        (real part of the) first memory, the cell overrides `read`.
        """
        return None

    def read(self, x: Gates, memories: State, unit: PerUnit) -> Tensor:
        """Compute h from the memories after a step, for a `linear` cell whose h is not a memory.

        Such a cell's `states` are h and then those of its memories; its `step` ignores the h that
        it is given.
        """
        return memories[0]

    @abstractmethod
    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        """Advance the state by one time step.

        Args:
            x: Projected input of each gate, ``(B, H)``, its bias ``b_ih`` added; and `noise`.
            recur: Recurrent product of each gate, bias ``b_hh`` added.
            state: One tensor ``(B, H)`` per name in `states`.
            unit: Per-unit parameters and `constants`, broadcast to ``(B, H)``.

        Rows (sequences) must not mix: only pointwise operations and reductions over the last
        axis may be used between products.
        """
