"""Chrono initialisation: gates that start with memories of all lengths up to a lag."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import nn

from steadygrad.init import chrono_
from steadygrad.init.blocks import row_blocks
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, gate_keeps
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.remedies.unsuitable import no_keeping_gate


@final
@dataclass(frozen=True)
class ChronoInit(Remedy):
    r"""Start the keeping gates with time constants spread evenly up to ``lag`` steps.

    .. math::
        b_f = \log u, \quad b_i = -b_f, \qquad u \sim U(1, \text{lag} - 1)
        \quad\Rightarrow\quad f = \frac{u}{1 + u}

    A unit with forget gate :math:`f` loses its memory, and its gradient, by :math:`1/e` in about
    :math:`1 + u` steps. Some units then reach back as far as the task needs, and others stay fast,
    whereas one forget bias makes all alike. The input gate of an LSTM starts at :math:`1 - f`, so
    that the cell state keeps its scale; a GRU couples the two anyway.

    Args:
        lag: The longest memory the task needs, in steps; above 2.

    References:
        Tallec and Ollivier, *Can Recurrent Neural Networks Warp Time?*, 2018, section 2.
    """

    name: ClassVar[str] = "chrono-init"
    claim: ClassVar[str] = (
        "At zero input and state the units' time constants spread evenly from 2 to lag steps"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing",)
    rank: ClassVar[Mapping[str, int]] = {"vanishing": 40}
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"lag": 1000.0},)
    short: ClassVar[Mapping[str, Any]] = {"lag": 30.0}
    other: ClassVar[Mapping[str, Any]] = {"lag": 20.0}

    lag: float = 100.0

    def __post_init__(self) -> None:
        self.expect("lag", 2 < self.lag < float("inf"), "a finite number of steps above 2")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_keeping_gate(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in filter(Recurrence.can_keep, recurrences(model)):
            keeping = layer.keeping_gate
            assert keeping is not None
            gates = list(dict.fromkeys(g for g in (keeping, "input") if g in layer.gates))
            biases = [applied.keep(bias) for bias in layer.biases()]
            for names, bias in zip((layer.gates, layer.recurrent), biases, strict=False):
                for gate in gates:
                    if gate in names:
                        row_blocks(bias.data, len(names))[names.index(gate)].zero_()
            blocks = row_blocks(biases[0].data, len(layer.gates))
            bias = chrono_(blocks[layer.gates.index(keeping)], self.lag)
            with torch.no_grad():
                bias.mul_(layer.keeping_sign)
                if gates[1:]:
                    blocks[layer.gates.index("input")].copy_(-bias)
            done = f"biases of the {' and '.join(map(str, gates))} gate for lags up to {self.lag:g}"
            applied.note(f"{layer.label}: {done}")

    @classmethod
    def fitted(cls, lag: int) -> tuple[Self, ...]:
        return (cls(float(max(3, lag))),)

    def demonstrate(self) -> Demonstration:
        return gate_keeps(self, 2.0, self.lag)
