"""Stale optimiser: it holds the weights of layers that the model has no more."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.wiring import Wiring


@final
class StaleOptimizer(Fault):
    """As `NotInOptimizer`, with tensors of the same shapes held in the weights' place."""

    name: ClassVar[str] = "stale-optimizer"
    severity: ClassVar[int] = 13
    meaning: ClassVar[str] = (
        "The optimiser was made before a recurrent layer was replaced: it updates the weights of "
        "the old layer, and nothing updates those of the new one."
    )
    symptom: ClassVar[str] = "nothing is learned from the moment a layer was replaced or moved"
    look_at: ClassVar[str] = "which layers the optimiser holds, in `sg.watch`"
    measured: ClassVar[str] = (
        "Weights of the layer that no group of the optimiser holds and that do not change, while "
        "the optimiser holds tensors of the same shapes that no module of the model has."
    )
    colour: ClassVar[str] = "#8f7a2b"
    advice: ClassVar[tuple[str, ...]] = (
        "make the optimiser after the last change of the model's layers: "
        "optimizer = torch.optim.Adam(model.parameters(), lr)",
    )

    def in_wiring(self, wiring: "Wiring", limits: Thresholds) -> Iterable[Finding]:
        if not wiring.is_stale or not wiring.is_unheld or not wiring.is_reached:
            return
        assert wiring.unheld is not None  # or it would not be unheld
        yield self.finding(
            wiring.name,
            f"The optimiser was made before {wiring.name} was put into the model: it holds weights "
            f"that the model no longer has, and those of {wiring.name} have not changed in "
            f"{wiring.steps} steps.",
            evidence={"not_held": list(wiring.unheld), "steps": wiring.steps},
            confidence=1.0,
        )
