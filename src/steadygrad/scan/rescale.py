"""Rescale the gradient by powers of two, to keep it in the range of its dtype."""

import torch
from torch import Tensor

from steadygrad.scan.layout import Layout

EVERY = 8  # steps between checks; a gradient that changes faster leaves float32 anyway
NARROW = 40  # largest |exponent| of a row before it is rescaled to about one


class Rescaler:
    r"""Per-row scales :math:`2^{e}` of a gradient in the backward loop.

    The backward loop is linear in the gradient, so a row may be multiplied by a power of two
    (exactly) and divided again when it is read. A value of 1e-60, far below float32, is thus
    stored as a number near one and an exponent. A scaled-up row that receives a gradient from
    outside is first brought back to scale one, at which its own value is negligible.

    Args:
        layout: Rows of each time step.
        outside: ``(N, P)``, the gradient that will be added from outside.
    """

    def __init__(self, layout: Layout, outside: Tensor) -> None:
        self.exponents = torch.zeros(layout.batch, dtype=torch.int32, device=outside.device)
        self.enters = outside.abs().amax(1) != 0 if outside.numel() else outside.new_empty(0)
        self.history: list[Tensor] = []
        self.used = False
        self._count = 0

    def step(
        self, grads: list[Tensor], outside: Tensor, offset: int, rows: int
    ) -> tuple[list[Tensor], Tensor]:
        """Scale the gradients of one step, and the gradient about to be added to them."""
        self._count += 1
        if self._count % EVERY == 1:
            grads = self._recentre(grads, rows)
        if self.used:
            e = self.exponents[:rows]
            lifted = (e > 0) & self.enters[offset : offset + rows]
            back = torch.where(lifted, -e, 0)
            grads = [scale(g, back) for g in grads]
            self.exponents[:rows] = e + back
            outside = scale(outside, self.exponents[:rows])
        self.history.append(self.exponents[:rows].clone())
        return grads, outside

    def _recentre(self, grads: list[Tensor], rows: int) -> list[Tensor]:
        # one exponent for all states of a row, because a step mixes them
        top = torch.stack([g.abs().amax(1) for g in grads]).amax(0)
        _, binary = torch.frexp(top)
        usable = (top > 0) & top.isfinite()  # zeros, inf and NaN keep their scale
        move = torch.where(usable & (binary.abs() > NARROW), -binary, 0)
        if not move.any():
            return grads
        self.used = True
        self.exponents[:rows] += move
        return [scale(g, move) for g in grads]

    def forget(self, rows: Tensor) -> None:
        """Bring the first rows, where the mask says so, back to scale one: they became zero.

        At the scale of a gradient that is gone, what comes from outside could be flushed to zero.
        """
        self.exponents[: len(rows)].masked_fill_(rows, 0)

    def true(self, grad: Tensor) -> Tensor:
        """Bring a scaled gradient, ``(rows, ·)``, to its true size: 0 or inf if out of range."""
        return scale(grad, -self.exponents[: grad.shape[0]]) if self.used else grad


def scale(grad: Tensor, exponents: Tensor) -> Tensor:
    """Multiply each row by a power of two.

    In two halves: a single factor could itself leave the range of the dtype, and 0 times infinity
    is NaN. `torch.ldexp` has that flaw.
    """
    if grad.dtype == torch.float16:  # the range of float16 is too small even for the halves
        return scale(grad.float(), exponents).half()
    limit = 1022 if grad.dtype == torch.float64 else 126  # largest exponent whose inverse is normal
    first = exponents.div(2, rounding_mode="floor")
    halves = [h.clamp(-limit, limit)[:, None] for h in (first, exponents - first)]
    two = torch.full((), 2.0, dtype=grad.dtype, device=grad.device)
    return grad * torch.pow(two, halves[0]) * torch.pow(two, halves[1])
