"""Forget bias: start with an open keeping gate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

from torch import nn

from steadygrad.init import gate_bias_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, gate_keeps
from steadygrad.remedies.parameter_code import set_bias
from steadygrad.remedies.patch import MOST_LINES, Names, Patch
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.remedies.unsuitable import no_keeping_gate


@final
@dataclass(frozen=True)
class ForgetBias(Remedy):
    r"""Start the keeping gate at :math:`\sigma(\text{value})`.

    .. math::
        b_{ih} + b_{hh} = \text{value} \quad\Rightarrow\quad
        \frac{\partial c_t}{\partial c_{t-k}} \approx \sigma(\text{value})^k

    The keeping gate is the forget gate of an LSTM and the update gate of a GRU (torch's
    :math:`h_t = (1 - z_t) n_t + z_t h_{t-1}`: there :math:`z` keeps). Where a gate replaces
    instead (MGU, MUT1 to 3, the input gate of a coupled LSTM) the sign is reversed. Layers have
    two biases that are added, so one of them is set to ``value`` and the other to 0; setting both,
    as many recipes do, gives twice the bias. Over :math:`k` steps a bias of 0 leaves
    :math:`0.5^k`, of 1 :math:`0.73^k`, of 3 :math:`0.95^k`.

    Args:
        value: The bias at every unit. Negative values make the layer forget.

    References:
        Gers, Schmidhuber and Cummins, *Learning to Forget*, 2000, section 3 (positive bias).
        Jozefowicz, Zaremba and Sutskever, *An Empirical Exploration of Recurrent Network
        Architectures*, 2015, section 4 (a bias of 1 closes the gap between LSTM and GRU).
    """

    name: ClassVar[str] = "forget-bias"
    claim: ClassVar[str] = (
        "At zero input and state the keeping gate of every unit keeps sigmoid(value) of its memory"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing",)
    rank: ClassVar[Mapping[str, int]] = {"vanishing": 10}
    other: ClassVar[Mapping[str, Any]] = {"value": -2.0}

    value: float = 1.0

    def __post_init__(self) -> None:
        self.expect("value", abs(self.value) < float("inf"), "a finite number")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_keeping_gate(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in filter(Recurrence.can_keep, recurrences(model)):
            gate = layer.keeping_gate
            assert gate is not None
            row = layer.gates.index(gate)
            ours, other = applied.keep(layer.parameter("bias_ih")), layer.find("bias_hh")
            value = layer.keeping_sign * self.value
            gate_bias_(ours, len(layer.gates), row, value)
            if other is not None and gate in layer.recurrent:
                row = layer.recurrent.index(gate)
                gate_bias_(applied.keep(other), len(layer.recurrent), row, 0.0)
            applied.note(f"{layer.label}: bias of the {gate} gate {value:g}")

    @classmethod
    def fitted(cls, lag: int) -> tuple[Self, ...]:
        """After ``lag`` steps about 1/e is left, as sigmoid(log(lag)) is 1 - 1/(lag + 1)."""
        return (cls(max(1.0, round(math.log(lag), 2))),)

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        names = names or Names()
        lines: list[str] = []
        for layer in filter(Recurrence.can_keep, recurrences(model)):
            gate = layer.keeping_gate
            assert gate is not None
            value = layer.keeping_sign * self.value
            lines.append(set_bias(layer, names.model, model, "bias_ih", gate, repr(value)))
            if layer.find("bias_hh") is not None and gate in layer.recurrent:
                lines.append(set_bias(layer, names.model, model, "bias_hh", gate, "0.0"))
        if len(lines) > MOST_LINES:
            return super().patch(model, names)
        return Patch(model=("with torch.no_grad():", *lines))

    def demonstrate(self) -> Demonstration:
        kept = 1 / (1 - 1 / (1 + math.exp(-self.value)))
        return gate_keeps(self, kept, kept)
