r"""The whole way: how much of the loss still depends on what came in so many steps back.

.. math::
    X(L) = \frac{|\partial L_s / \partial x_{s-L}|}
        {\max_{j \le L} |\partial L_s / \partial x_{s-j}|}

with the input x of the lowest layer of a stack, and the part of the loss that enters at step s.
The gradient at x has come through every state that a step hands on, and through every layer: an
LSTM whose recurrent weights are zero keeps all in c, which its h does not show, and in a stack the
memory may be any layer's. To the largest, not to that at lag 0: training can amplify what arrives
late, but not what drowns in something else.
"""

from collections.abc import Sequence

import numpy as np

from steadygrad.flow.by_lag import LagCurve
from steadygrad.flow.quantity import Quantity, declare, smallest

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "horizon",
            "steps",
            "How many steps back at least 1e-4 of the gradient reaches.",
            title="Horizon",
            at_look=smallest("horizon"),
        )
    ),
)


def joined(ways: Sequence[LagCurve]) -> LagCurve:
    r"""The way through several layers, of which each was measured by itself.

    .. math:: r(k) = \max_{a + b = k} r_1(a) + r_2(b)

    A gradient may go back some steps in one layer and some in the next; where the best of these
    ways is lost, all are.
    """
    first, *others = ways
    ratio = first.log10_ratio
    for other in others:
        steps = min(len(ratio), len(other.log10_ratio))
        mine, theirs = ratio[:steps], other.log10_ratio[:steps]
        ratio = np.array([np.max(mine[: k + 1] + theirs[k::-1]) for k in range(steps)])
    return LagCurve(ratio, first.sources, first.mode)
