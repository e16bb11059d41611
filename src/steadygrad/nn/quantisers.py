"""Weights of one bit, of three values, of m bits: how a matrix is rounded, and read back."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

Coded = tuple[Tensor, Tensor]
"""Codes ``(rows, columns)`` uint8, and the scales ``(k,)`` that `Quantiser.decode` needs."""

_TINY = 1e-8  # added to the root of Adam's second moment, as Adam itself does


class StraightThrough(torch.autograd.Function):
    """Hand on the second argument, and its gradient to the first, unchanged."""

    # Not w + (q - w).detach(): that sum is rounded, and no longer one of the few values of q.
    @staticmethod
    def forward(ctx: Any, weight: Tensor, quantised: Tensor) -> Tensor:
        return quantised.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None


class Quantiser(nn.Module, ABC):
    r"""A parametrisation :math:`W \mapsto Q(W)` with the gradient passed straight through.

    Every block of rows (one gate) is quantised for itself. The full-precision weights stay the
    ones that are trained; they are not clipped.

    Args:
        blocks: Row blocks of the weight, one per gate.
        weight: The weight, for its shape and dtype.

    References:
        Hou et al., *Normalization Helps Training of Quantized LSTM*, 2019, and the authors' code.
        Courbariaux, Bengio and David, *BinaryConnect*, 2015 (straight-through gradient).
    """

    name: ClassVar[str]
    bits: int
    """Bits per weight in a packed export."""

    def __init__(self, blocks: int, weight: Tensor) -> None:
        super().__init__()
        self.blocks = blocks

    @abstractmethod
    def encode(self, weight: Tensor, moment: Tensor | None) -> Coded:
        """Codes and scales of one block; ``moment`` is Adam's second moment of it, or None."""

    @abstractmethod
    def decode(self, codes: Tensor, scales: Tensor) -> Tensor:
        """The values that codes and scales stand for, in the dtype of ``scales``."""

    def coded(self, weight: Tensor) -> list[Coded]:
        """Codes and scales of every block of ``weight``."""
        moments = self._moments()
        parts = weight.detach().chunk(self.blocks)
        return [self.encode(w, m) for w, m in zip(parts, moments, strict=True)]

    def forward(self, weight: Tensor) -> Tensor:
        """Return the quantised weight."""
        with torch.no_grad():
            quantised = torch.cat([self.decode(*coded) for coded in self.coded(weight)])
        return StraightThrough.apply(weight, quantised)  # pyright: ignore[reportReturnType]

    def _moments(self) -> list[Tensor | None]:
        moment = getattr(self, "second_moment", None)
        return [None] * self.blocks if moment is None else list(moment.chunk(self.blocks))

    def extra_repr(self) -> str:
        return f"bits={self.bits}, blocks={self.blocks}"


class _Binary(Quantiser):
    bits = 1

    def scale(self, weight: Tensor, moment: Tensor | None) -> Tensor:
        """The scales ``(1,)`` of one block, or ``(0,)`` for one."""
        return weight.new_empty(0)

    def encode(self, weight: Tensor, moment: Tensor | None) -> Coded:
        # Zero counts as plus one: torch.sign would make a third value of it.
        return (weight >= 0).to(torch.uint8), self.scale(weight, moment)

    def decode(self, codes: Tensor, scales: Tensor) -> Tensor:
        signs = codes.to(scales.dtype) * 2 - 1
        return signs * scales if len(scales) else signs


@final
class BinaryConnect(_Binary):
    r""":math:`Q(W) = \operatorname{sign} W`."""

    name = "binary-connect"


@final
class BWN(_Binary):
    r""":math:`Q(W) = \overline{|W|} \operatorname{sign} W` (Rastegari et al., *XNOR-Net*, 2016)."""

    name = "bwn"

    def scale(self, weight: Tensor, moment: Tensor | None) -> Tensor:
        return weight.abs().mean()[None]


class LossAware(Quantiser):
    """Keeps Adam's second moment v of the quantised weight; see `steadygrad.nn.follow_adam`."""

    second_moment: Tensor

    def __init__(self, blocks: int, weight: Tensor) -> None:
        super().__init__(blocks, weight)
        self.register_buffer("second_moment", torch.zeros_like(weight.detach()))


@final
class LAB(LossAware, _Binary):
    r""":math:`\alpha \operatorname{sign} W`, :math:`\alpha = \sum D|W| / \sum D`.

    :math:`D = \sqrt v + 10^{-8}` with Adam's second moment v; before the first step, that of BWN.
    Hou, Yao and Kwok, *Loss-Aware Binarization of Deep Networks*, 2017.
    """

    name = "lab"

    def scale(self, weight: Tensor, moment: Tensor | None) -> Tensor:
        assert moment is not None
        curvature = moment.sqrt() + _TINY
        return ((curvature * weight.abs()).sum() / curvature.sum())[None]


class _Ternary(Quantiser):
    bits = 2

    def threshold(self, weight: Tensor, moment: Tensor | None) -> Tensor:
        """Weights within ± this become zero."""
        return 0.7 * weight.abs().mean()

    def scale(self, weight: Tensor, kept: Tensor) -> Tensor:
        """The scales ``(1,)`` of one block, or ``(0,)`` for one."""
        return weight.new_empty(0)

    def encode(self, weight: Tensor, moment: Tensor | None) -> Coded:
        limit = self.threshold(weight, moment)
        plus, minus = weight > limit, weight < -limit
        codes = plus.to(torch.uint8) + 2 * minus.to(torch.uint8)
        return codes, self.scale(weight, plus | minus)

    def decode(self, codes: Tensor, scales: Tensor) -> Tensor:
        signs = (codes == 1).to(scales.dtype) - (codes == 2).to(scales.dtype)
        return signs * scales if len(scales) else signs


@final
class TerConnect(_Ternary):
    r"""+1 where :math:`W > 0.7\,\overline{|W|}`, -1 where below its negative, else 0."""

    name = "ter-connect"


@final
class TWN(_Ternary):
    r"""`TerConnect` times the mean of the :math:`|W|` that are kept.

    Li, Zhang and Liu, *Ternary Weight Networks*, 2016.
    """

    name = "twn"

    def scale(self, weight: Tensor, kept: Tensor) -> Tensor:
        return (weight.abs() * kept).sum()[None] / kept.sum().clamp_min(1)


@final
class LAT(LossAware, _Ternary):
    r""":math:`\alpha b` with :math:`b = \operatorname{sign}(W) 1_{|W| > \alpha/2}`, iterated.

    :math:`\alpha = \sum D b W / \sum D |b|` until it moves by less than 1e-6, begun at the scale
    of `TWN` (where it begins is our choice); D as in `LAB`. Hou and Kwok, *Loss-Aware Weight
    Quantization of Deep Networks*, 2018, the approximate form.
    """

    name = "lat"

    def encode(self, weight: Tensor, moment: Tensor | None) -> Coded:
        assert moment is not None
        size, curvature = weight.abs(), moment.sqrt() + _TINY
        alpha = size[size > 0.7 * size.mean()].mean().nan_to_num()
        for _ in range(100):
            kept = size > alpha / 2
            before, alpha = alpha, (curvature * size)[kept].sum() / curvature[kept].sum()
            alpha = alpha.nan_to_num()
            if bool((alpha - before).abs() < 1e-6):
                break
        kept = size > alpha / 2
        codes = (kept & (weight > 0)).to(torch.uint8) + 2 * (kept & (weight < 0)).to(torch.uint8)
        return codes, alpha[None]


@final
class Alternating(Quantiser):
    r"""m bits: :math:`Q(W) = \sum_{i=1}^m \alpha_i b_i`, :math:`b_i \in \{\pm 1\}`.

    Begun greedily on the residual, then twice in turn: :math:`\alpha` by least squares with b
    fixed, b as the nearest of the :math:`2^m` values. One set of scales per block; the paper has
    one per row.

    References:
        Xu et al., *Alternating Multi-bit Quantization for Recurrent Neural Networks*, 2018.
    """

    name = "alternating"

    def __init__(self, blocks: int, weight: Tensor, bits: int = 2) -> None:
        super().__init__(blocks, weight)
        if not 1 <= bits <= 8:
            raise ValueError(f"alternating: bits must be 1 to 8, got {bits}")
        self.bits = bits

    def encode(self, weight: Tensor, moment: Tensor | None) -> Coded:
        rest, scales = weight.clone(), []
        for _ in range(self.bits):
            scales.append(rest.abs().mean())
            rest = rest - torch.where(rest >= 0, scales[-1], -scales[-1])
        alpha = torch.stack(scales)
        codes = self._nearest(weight, alpha)
        for _ in range(2):
            alpha = self._least_squares(weight, codes)
            codes = self._nearest(weight, alpha)
        return codes, alpha

    def decode(self, codes: Tensor, scales: Tensor) -> Tensor:
        return self._values(scales)[codes.long()]

    def _signs(self, codes: Tensor) -> Tensor:
        places = torch.arange(self.bits, device=codes.device)
        return ((codes[..., None].long() >> places) & 1) * 2 - 1

    def _values(self, scales: Tensor) -> Tensor:
        """The ``2^m`` values, by code."""
        codes = torch.arange(2**self.bits, device=scales.device)
        return (self._signs(codes).to(scales.dtype) * scales).sum(-1)

    def _nearest(self, weight: Tensor, scales: Tensor) -> Tensor:
        values, order = self._values(scales).sort()
        between = (values[1:] + values[:-1]) / 2
        return order[torch.bucketize(weight, between)].to(torch.uint8)

    def _least_squares(self, weight: Tensor, codes: Tensor) -> Tensor:
        b = self._signs(codes).flatten(0, 1).double()
        right = b.t() @ weight.flatten().double()
        return (torch.linalg.pinv(b.t() @ b) @ right).to(weight.dtype)


QUANTISERS: dict[str, type[Quantiser]] = {
    kind.name: kind for kind in (BinaryConnect, BWN, LAB, TerConnect, TWN, LAT, Alternating)
}
"""Every quantiser by name."""
