"""LSTM with layer normalisation of everything that enters a gate, and of the memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, sigmoid, tanh

from steadygrad.cells._normalise import normalise
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

GATES = ("input", "forget", "candidate", "output")


@final
@dataclass(frozen=True)
class LSTMLayerNorm(Cell):
    r"""LSTM with layer normalisation.

    .. math::
        a_k &= \gamma^x_k \odot N(W_k x_t) + \gamma^h_k \odot N(R_k h_{t-1}) + \beta_k
            \qquad k = i, f, g, o \\
        c_t &= \sigma(a_f) \odot c_{t-1} + \sigma(a_i) \odot \tanh a_g    &&\text{cell state}  \\
        h_t &= \sigma(a_o) \odot \tanh(\gamma^c \odot N(c_t) + \beta^c)  &&\text{hidden state}

    with :math:`N(v) = (v - \bar v) / \sqrt{\operatorname{var} v + 10^{-5}}` over the units of one
    gate and one term (Hou et al.). With ``joint`` the four gates of a term are normalised together
    (Ba et al.): a gate may then be large where another is small.

    A scaling of :math:`W` or :math:`R` changes nothing, so the products cannot saturate the gates
    by growing; in the step Jacobian :math:`R_k` stands divided by the standard deviation of
    :math:`R_k h_{t-1}`. Along the memory the gradient behaves as in the LSTM:
    :math:`\partial c_t / \partial c_{t-1} = \operatorname{diag}(f_t)`.

    The papers' bias is :math:`\beta`, outside the normalisation. The layer's ``bias_ih`` and
    ``bias_hh`` lie inside; build the layer with ``bias=False`` to have the papers' form.

    Args:
        joint: Normalise the four gates of a term together (Ba et al.).
        memory: Normalise the memory before the output gate (Ba et al.; Hou et al. do not).

    Shapes:
        As `steadygrad.cells.LSTM`; gains and shifts ``(H,)`` per gate. Gains start at one.

    References:
        Ba, Kiros and Hinton, *Layer Normalization*, 2016, equations 20 to 22.
        Hou et al., *Normalization Helps Training of Quantized LSTM*, 2019, section 3.2.
    """

    name: ClassVar[str] = "lstm-layer-norm"
    choose_when: ClassVar[str] = (
        "Deep stacks, large learning rates, quantised weights, or inputs of changing scale: the "
        "gates keep their operating point. Costs a few reductions per step."
    )
    gates: ClassVar[tuple[str, ...]] = GATES
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    joint: bool = False
    memory: bool = True

    @property
    def per_unit(self) -> Mapping[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        values = {f"gain_x_{gate}": 1.0 for gate in GATES}
        values |= {f"gain_h_{gate}": 1.0 for gate in GATES}
        values |= {f"shift_{gate}": 0.0 for gate in GATES}
        return values | ({"gain_c": 1.0, "shift_c": 0.0} if self.memory else {})

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        from_x = self._normalise([getattr(x, gate) for gate in GATES])
        from_h = self._normalise([getattr(recur, gate)(h) for gate in GATES])
        i, f, g, o = (
            getattr(unit, f"gain_x_{gate}") * a
            + getattr(unit, f"gain_h_{gate}") * b
            + getattr(unit, f"shift_{gate}")
            for gate, a, b in zip(GATES, from_x, from_h, strict=True)
        )
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        out = unit.gain_c * normalise(c)[0] + unit.shift_c if self.memory else c
        return sigmoid(o) * tanh(out), c

    def _normalise(self, values: list[Tensor]) -> tuple[Tensor, ...]:
        return normalise(*values) if self.joint else tuple(normalise(v)[0] for v in values)
