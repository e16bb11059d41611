"""The LSTM with peepholes and its eight variants, each differing in one part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

from torch import Tensor, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

Variant = Literal["vanilla", "NIG", "NFG", "NOG", "NIAF", "NOAF", "NP", "CIFG", "FGR"]
LEFT_OUT = {"NIG": "input", "NFG": "forget", "NOG": "output", "CIFG": "forget"}
GUARDS = ("input", "forget", "output")


@final
@dataclass(frozen=True)
class LSTMGreff(Cell):
    r"""The LSTM of Greff et al. and its variants.

    .. math::
        z_t &= g(W_z x_t + R_z h_{t-1} + b_z)  &&\text{block input (candidate)} \\
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + p_i \odot c_{t-1} + b_i)  &&\text{input gate}  \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + p_f \odot c_{t-1} + b_f)  &&\text{forget gate} \\
        c_t &= z_t \odot i_t + c_{t-1} \odot f_t    &&\text{cell state}  \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + p_o \odot c_t + b_o)  &&\text{output gate} \\
        h_t &= k(c_t) \odot o_t                     &&\text{hidden state}

    with :math:`g = k = \tanh`, and one change at a time:

    - ``NIG``: no input gate, :math:`i = 1`; ``NFG``: no forget gate, :math:`f = 1`;
      ``NOG``: no output gate, :math:`o = 1`. Their weights are absent, too.
    - ``NIAF``: no input activation, :math:`g(a) = a`; ``NOAF``: no output activation,
      :math:`k(c) = c`.
    - ``NP``: no peepholes: `steadygrad.cells.LSTM`.
    - ``CIFG``: coupled gates, :math:`f_t = 1 - i_t`.
    - ``FGR``: full gate recurrence: every gate is also given :math:`i_{t-1}, f_{t-1}, o_{t-1}`,
      each through a full matrix: nine more of them, and three more states.

    Along the memory the gradient is multiplied by :math:`f_t` (plus the peephole terms): by
    one in NFG, which therefore cannot forget, and by :math:`1 - i_t` in CIFG. NIAF and NOAF omit a
    tanh that bounds the state; their gradient can grow with the memory.

    Args:
        variant: Which one.

    Shapes:
        As `steadygrad.cells.LSTM` with peephole weights ``(H,)`` that start at zero. ``weight_hh``
        has 13 blocks in FGR: those of the gates, then ``<gate>_from_<gate>``.

    References:
        Greff, Srivastava, Koutník, Steunebrink and Schmidhuber, *LSTM: A Search Space Odyssey*,
        2017, section 3 and appendix A.
    """

    name: ClassVar[str] = "lstm-greff"
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    choose_when: ClassVar[str] = (
        "To find out which part of the LSTM your task needs: forget gate and output activation "
        "mattered most, NP and CIFG save weights at no cost (Greff et al.)."
    )

    variant: Variant = "vanilla"

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(
                f"Unknown variant '{self.variant}'. Select from {', '.join(get_args(Variant))}."
            )

    @property
    def gates(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        every = ("input", "forget", "candidate", "output")
        return tuple(g for g in every if g != LEFT_OUT.get(self.variant))

    @property
    def recurrent(self) -> tuple[str, ...]:
        if self.variant != "FGR":
            return self.gates
        return self.gates + tuple(f"{to}_from_{of}" for to in GUARDS for of in GUARDS)

    @property
    def states(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("h", "c", *GUARDS) if self.variant == "FGR" else ("h", "c")

    @property
    def per_unit(self) -> Mapping[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        guards = () if self.variant == "NP" else GUARDS
        return {f"peephole_{gate}": 0.0 for gate in guards if gate in self.gates}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c, *before = state

        def guard(gate: str, seen: Tensor) -> Tensor | float:
            if gate not in self.gates:
                return 1.0
            net = getattr(x, gate) + getattr(recur, gate)(h)
            if self.variant != "NP":
                net = net + getattr(unit, f"peephole_{gate}") * seen
            for of, value in zip(GUARDS, before, strict=False):
                net = net + getattr(recur, f"{gate}_from_{of}")(value)
            return sigmoid(net)

        z = x.candidate + recur.candidate(h)
        z = z if self.variant == "NIAF" else tanh(z)
        i = guard("input", c)
        f = 1 - i if self.variant == "CIFG" else guard("forget", c)
        c = z * i + c * f
        o = guard("output", c)
        h = (c if self.variant == "NOAF" else tanh(c)) * o
        return (h, c, i, f, o) if self.variant == "FGR" else (h, c)  # type: ignore[return-value]
