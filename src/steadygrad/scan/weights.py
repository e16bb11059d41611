"""The weights of one direction of a layer, by torch's names, with constants and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.layout import Layout

SINGLE = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


@dataclass(frozen=True)
class Weights:
    """Weights of one direction of one layer.

    Attributes:
        weight_ih: W, ``(G*H, I)``.
        weight_hh: R, ``(G*H, P)``, ``P = H`` without projection.
        bias_ih: ``(G*H,)`` or None.
        bias_hh: ``(G*H,)`` or None.
        weight_hr: The projection, ``(P, H)``, or None.
        per_unit: One ``(H,)`` tensor per name in `Cell.per_unit`.
        constants: ``(H,)`` per name in `Cell.constants`.
        noise: Per name in `Cell.noise` the values of all time steps ``(N, H)``, of a whole
            sequence ``(B, H)``, or of all rows ``(H,)``.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    per_unit: tuple[Tensor, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Mapping[str, Tensor] = field(default_factory=dict)

    def flat(self) -> list[tuple[str, Tensor]]:
        """All tensors with their names, for functions of tensors; see `from_flat`."""
        single = [(name, getattr(self, name)) for name in SINGLE]
        pairs = [(name, value) for name, value in single if value is not None]
        pairs += [("unit", value) for value in self.per_unit]
        pairs += [(f"constant.{name}", value) for name, value in self.constants.items()]
        return pairs + [(f"noise.{name}", value) for name, value in self.noise.items()]

    @staticmethod
    def from_flat(names: Sequence[str], tensors: Sequence[Tensor]) -> "Weights":
        """Undo `flat`."""
        single: dict[str, Tensor] = {}
        units: list[Tensor] = []
        groups: dict[str, dict[str, Tensor]] = {"constant": {}, "noise": {}}
        for name, tensor in zip(names, tensors, strict=True):
            kind, _, own = name.partition(".")
            if own:
                groups[kind][own] = tensor
            elif name == "unit":
                units.append(tensor)
            else:
                single[name] = tensor
        constants, noise = groups["constant"], groups["noise"]
        return Weights(**single, per_unit=tuple(units), constants=constants, noise=noise)

    def per_step(self, cell: Cell, layout: Layout) -> dict[str, Tensor]:
        """Other values that the steps of ``cell`` read, ``(H,)`` or ``(N, H)`` each.

        Named as in a `steadygrad.scan.ir.trace.Program`: ``u.``, ``k.`` and ``n.``.
        """
        units = zip(cell.per_unit, self.per_unit, strict=True)
        found = {f"u.{name}": value for name, value in units}
        found |= {f"k.{name}": value for name, value in self.constants.items()}
        return found | {f"n.{name}": _rows(v, layout) for name, v in self.noise.items()}


def _rows(noise: Tensor, layout: Layout) -> Tensor:
    """Noise of a whole sequence, ``(B, H)``, repeated for all its steps; other noise unchanged."""
    if noise.dim() == 1 or len(noise) == layout.rows:
        return noise
    return torch.cat([noise[:rows] for rows in layout.batch_sizes])
