"""The weights of one direction of one layer, under torch's names."""

from dataclasses import dataclass

from torch import Tensor


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
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    per_unit: tuple[Tensor, ...] = ()
