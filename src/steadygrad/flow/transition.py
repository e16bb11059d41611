r"""Products of step Jacobians over any span, however small or large they become.

.. math::
    J_{t:r} = \frac{\partial s_t}{\partial s_r} = J_t \cdots J_{r+1}
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.flow.linearise import linearise
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.singular import svdvals

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "transition",
            "1",
            "Product of step Jacobians over a span: what a gradient is multiplied by.",
        )
    ),
)


@dataclass(frozen=True)
class Transition:
    r"""A product of step Jacobians, held as ``matrix`` times ten to the ``log10_scale``.

    Attributes:
        matrix: ``(B, N, N)``, its largest element near one.
        log10_scale: ``(B,)``; the product of a thousand steps may be 1e-400, which no float64 is.
    """

    matrix: Tensor
    log10_scale: Tensor

    @property
    def log10_singular_values(self) -> Tensor:
        """``(B, N)``, descending. What lies 15 decades below the largest is rounding."""
        return svdvals(self.matrix).log10() + self.log10_scale[:, None]

    @property
    def log10_norm(self) -> Tensor:
        """``(B,)``: spectral norm, the largest factor by which a gradient can change."""
        return self.log10_singular_values[:, 0]

    @property
    def log10_condition(self) -> Tensor:
        """``(B,)``: largest over smallest singular value, up to 15 decades."""
        values = self.log10_singular_values
        return values[:, 0] - values[:, -1]


def transition(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    index: int = 0,
    reverse: bool = False,
) -> Transition:
    r"""The transition Jacobian over a span of steps.

    .. math::
        J = \frac{\partial s_{\text{stop}}}{\partial s_{\text{start}}}

    Args:
        layer: As `steadygrad.flow.linearise` takes it.
        x: As there.
        state: As there.
        start: Steps taken before the span.
        stop: Steps taken when the span ends; all if not given.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.

    Raises:
        ValueError: The span is empty or leaves the sequence; as `linearise`.
    """
    linear = linearise(layer, x, state, index=index, reverse=reverse)
    steps = len(linear.layout.batch_sizes)
    stop = steps if stop is None else stop
    if not 0 <= start < stop <= steps:
        raise ValueError(f"span must satisfy 0 <= start < stop <= {steps}, got {start} and {stop}")
    rows = list(linear.steps())[start:stop]
    return product(linear.jacobian(r).dense(linear.layout.batch) for r in rows)


def product(jacobians: Iterable[Tensor]) -> Transition:
    """Multiply step Jacobians ``(B, N, N)``, the first step first, rescaled at every step."""
    matrix: Tensor | None = None
    scale: Tensor | float = 0.0
    for step in jacobians:
        matrix = step if matrix is None else step @ matrix
        # A power of two: rescaling is then exact, and the graph sees a plain factor.
        exponent = torch.frexp(matrix.detach().abs().amax((-2, -1))).exponent
        matrix = torch.ldexp(matrix, -exponent[:, None, None])
        scale = scale + exponent.double() * math.log10(2)
    if matrix is None or not isinstance(scale, Tensor):
        raise ValueError("a product needs at least one step Jacobian, got none")
    return Transition(matrix, scale)
