"""Bias reset: recover units whose biases keep them where the derivative is zero."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import nn

from steadygrad.init import gate_bias_
from steadygrad.init.blocks import row_blocks
from steadygrad.nn import Recurrent
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, Small, only_recurrence, seeded
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class BiasReset(Remedy):
    r"""Set the biases of a gate to zero, and with them its mean pre-activation near zero.

    .. math::
        b_{ih} + b_{hh} = 0 \quad\Rightarrow\quad \phi'(a_t) \text{ is largest at zero input}

    A gate whose biases keep it closed, or a ReLU that they keep inactive, has no derivative through
    which training could recover it. What the biases had learned is lost. With all gates, per-unit
    biases of a cell (the threshold of modReLU) return to their initial values.

    Args:
        gate: Name of the gate; ``"all"`` for all of them.

    References:
        He, Zhang, Ren and Sun, *Delving Deep into Rectifiers*, 2015, section 2.2 (zero biases).
    """

    name: ClassVar[str] = "bias-reset"
    claim: ClassVar[str] = "At zero input and state the pre-activation of the gate is zero"
    helps: ClassVar[tuple[str, ...]] = ("saturated", "dead")
    rank: ClassVar[Mapping[str, int]] = {"saturated": 10, "dead": 10}
    other: ClassVar[Mapping[str, Any]] = {"gate": "forget"}

    gate: str = "all"

    def __post_init__(self) -> None:
        self.expect("gate", bool(self.gate), "the name of a gate, or all")

    def unsuitable(self, model: nn.Module) -> str | None:
        reason = no_recurrence(model)
        if reason is not None:
            return reason
        layers = list(recurrences(model))
        if not any(self._gates(layer) for layer in layers):
            there = sorted({gate for layer in layers for gate in layer.gates})
            return f"no gate {self.gate!r}; there are: {', '.join(there)}"
        if not any(layer.biases() for layer in layers):
            return "its gates have no bias"
        return None

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in recurrences(model):
            gates = self._gates(layer)
            if not gates or not layer.biases():
                continue
            self._clear(layer, gates, applied)
            applied.note(f"{layer.label}: biases of {', '.join(gates)} set to zero")

    @torch.no_grad()
    def _clear(self, layer: Recurrence, gates: tuple[str, ...], applied: Applied) -> None:
        for names, bias in zip((layer.gates, layer.recurrent), layer.biases(), strict=False):
            kept = applied.keep(bias)
            for gate in gates:
                if gate in names:
                    gate_bias_(kept, len(names), names.index(gate), 0.0)
        for name, start in self._starts(layer).items():
            applied.keep(layer.parameter(name)).fill_(start)

    def _starts(self, layer: Recurrence) -> dict[str, float]:
        """Per-unit biases that belong to no gate, and their initial values."""
        if self.gate != "all" or not isinstance(layer.module, Recurrent):
            return {}
        return {name: at for name, at in layer.module.cell.per_unit.items() if "bias" in name}

    def _gates(self, layer: Recurrence) -> tuple[str, ...]:
        if self.gate == "all":
            return layer.gates
        return (self.gate,) if self.gate in layer.gates else ()

    @seeded
    def demonstrate(self) -> Demonstration:
        model = Small("LSTM")
        layer = only_recurrence(model)

        def largest() -> float:
            """The largest pre-activation at zero input and state."""
            both = torch.stack([bias.detach() for bias in layer.biases()]).sum(0)
            blocks = dict(zip(layer.gates, row_blocks(both, len(layer.gates)), strict=True))
            return max(float(blocks[gate].abs().max()) for gate in self._gates(layer))

        before = largest()
        self.apply(model)
        after = largest()
        text = f"largest pre-activation at zero input and state {before:.3f} to {after:.3f}"
        return Demonstration(text, before > after == 0)
