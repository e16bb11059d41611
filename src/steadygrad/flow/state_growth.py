r"""State growth: does a state stay in its range over the sequence, or does it run away?

.. math::
    \rho_t = \sqrt{\operatorname{mean}_{b,i}\, s_{t,b,i}^2}

A cell state that is only added to grows in proportion to t; a recurrence without a bound grows
by a factor per step, until it overflows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.flow.quantity import Quantity, declare
from steadygrad.scan import Layout, Observed

QUANTITIES: tuple[Quantity, ...] = (
    declare(Quantity("state_growth", "log10", "Root mean square of a state over the sequence.")),
)


@dataclass(frozen=True)
class StateGrowth:
    r"""Size of one state over time.

    Attributes:
        log10_rms: ``(T,)``, log10 of :math:`\rho_t`, the state before step t, in the order of the
            steps; ``-inf`` where it is zero, as a state mostly is at first.
    """

    log10_rms: NDArray[np.float64]

    @property
    def last(self) -> float:
        """log10 of the size at the end."""
        return float(self.log10_rms[-1])

    @property
    def slope(self) -> float | None:
        """Decades per step over the later half, a least-squares line; None if too short."""
        late = self.log10_rms[len(self.log10_rms) // 2 :]
        if len(late) < 2 or not np.isfinite(late).all():
            return None
        return float(np.polyfit(np.arange(len(late)), late, 1)[0])

    def until(self, steps: int) -> "StateGrowth":
        """The same over the first ``steps`` steps alone."""
        return StateGrowth(self.log10_rms[:steps])


def state_growth(observed: Observed, layout: Layout) -> dict[str, StateGrowth]:
    """Measure every state of an observed forward pass.

    Args:
        observed: From `steadygrad.scan.observe`.
        layout: Rows of each time step.
    """
    found = {}
    for name, values in observed.states.items():
        squares = [values[at : at + rows].double().square().mean() for at, rows in layout.steps()]
        with np.errstate(divide="ignore"):
            found[name] = StateGrowth(0.5 * np.log10([float(s) for s in squares]))
    return found
