"""What the rules may read of one call of a layer: how the data meets it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from steadygrad.flow.axes import Axes
    from steadygrad.flow.padding import PaddedLoss
    from steadygrad.flow.state_handover import Handover


@final
@dataclass(frozen=True)
class CallFacts:
    """What was measured of one call.

    Attributes:
        name: Of the layer.
        padded: What the loss reads at padded steps; None if that was not measured.
        axes: How the call lies, and where the loss reads it; None if that was not measured.
        from_zero: Calls of the layer in this step, each of one time step and from a state of zeros,
            where it has no others; 0 else.
        in_training: Whether the call is one of a training that is watched.
        handover: What a state from the batch before meets; None if that was not measured.
    """

    name: str
    padded: "PaddedLoss | None" = None
    handover: "Handover | None" = None
    axes: "Axes | None" = None
    from_zero: int = 0
    in_training: bool = False
