"""What the rules may read of a deep network: how much of the gradient reaches each layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.through_depth import DepthCurve

PLAIN = ("SGD", "ASGD", "LBFGS")
"""Optimisers whose step is as small as the gradient."""


@final
@dataclass(frozen=True)
class DepthCase:
    """The gradient at each layer of a network, over that at its top.

    Attributes:
        depth: What was measured.
        limits: The thresholds.
        optimizer: Name of its class, if it is known.
        found: Faults that were found in the layers themselves: what explodes in time grows in
            depth, too, and what is shut passes nothing down.
    """

    depth: "DepthCurve"
    limits: Thresholds
    optimizer: str | None = None
    found: frozenset[str] = frozenset()

    @property
    def rescales(self) -> bool:
        """Whether the optimiser may make up for a gradient that is small in some layers."""
        return self.optimizer not in PLAIN

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers, for the evidence."""
        return {
            "log10_share": dict(
                zip(self.depth.layers, map(float, self.depth.log10_share), strict=True)
            ),
            "layers": len(self.depth.layers),
            "optimizer": self.optimizer,
        }
