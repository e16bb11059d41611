"""How flows are written into a record."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from steadygrad.flow import TimeFlow


class RowSink(Protocol):
    """Takes rows of a heat map: a record, or all that a watch writes to."""

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        """Take one row."""
        ...


def write_flow(rec: RowSink, step: int, flow: TimeFlow) -> None:
    """One row of the heat map per state, the ratio by lag, and the share of dead units."""
    for state, values in flow.log10_grad_by_state.items():
        rec.row(step, "log10_grad", flow.name, values, state=state)
    if flow.left.max_lag > 0:
        rec.row(step, "log10_ratio", flow.name, flow.left.log10_ratio)
    for gate, health in flow.gates.items():
        rec.row(step, f"gate:{gate}", flow.name, np.array([health.dead_share]))


def describe(flow: TimeFlow) -> dict[str, Any]:
    """The layer and what was measured of it, as plain values."""
    return {
        "name": flow.name,
        "cell": flow.cell,
        "hidden": flow.hidden_size,
        "how": flow.how,
        "exactness": flow.exactness,
        "horizon": flow.horizon,
        "max_lag": flow.left.max_lag,
        "slope": flow.slope,
        "time_steps": flow.time_steps,
        "gates": {gate: health.dead_share for gate, health in flow.gates.items()},
    }
