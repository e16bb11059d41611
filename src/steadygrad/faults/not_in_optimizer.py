"""Not in the optimiser: no group of it holds the weights of a recurrent layer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.wiring import Wiring


@final
class NotInOptimizer(Fault):
    """Weights that get a gradient, are in no group of the optimiser, and do not change."""

    name: ClassVar[str] = "not-in-optimizer"
    severity: ClassVar[int] = 14
    meaning: ClassVar[str] = (
        "The optimiser does not hold the weights of a recurrent layer: they get a gradient and are "
        "never updated."
    )
    symptom: ClassVar[str] = (
        "some weights keep their initial values, and what needs memory is not learned"
    )
    look_at: ClassVar[str] = "which layers the optimiser holds, in `sg.watch`"
    measured: ClassVar[str] = (
        "The parameters of the layer against the groups of the optimiser, and whether any of their "
        "values has changed over three steps or more: weights updated by another optimiser, or "
        "through a full-precision copy, are not reported. So are parameters that the loss depends "
        "on and that no module of the model holds, as layers in a plain list."
    )
    colour: ClassVar[str] = "#9a5bd0"
    advice: ClassVar[tuple[str, ...]] = (
        "make the optimiser from all parameters: torch.optim.Adam(model.parameters(), lr), or "
        "optimizer.add_param_group(dict(params=layer.parameters()))",
    )

    def in_wiring(self, wiring: "Wiring", limits: Thresholds) -> Iterable[Finding]:
        if wiring.is_stale or not wiring.is_unheld or not wiring.is_reached:
            return
        assert wiring.unheld is not None  # or it would not be unheld
        if wiring.is_stranger:
            yield self.finding(
                wiring.name,
                f"The loss depends on {wiring.name}, which the model does not know and the "
                f"optimiser does not hold: it has not changed in {wiring.steps} steps.",
                evidence={"not_held": list(wiring.unheld), "steps": wiring.steps},
                confidence=0.9,
                advice=(
                    "keep layers in nn.ModuleList, nn.ModuleDict or nn.Sequential, not in a "
                    "plain list or dict, and make the optimiser from model.parameters()",
                ),
            )
            return
        yield self.finding(
            wiring.name,
            f"The optimiser does not hold the weights of {wiring.name}: they get a gradient, and "
            f"have not changed in {wiring.steps} steps.",
            evidence={"not_held": list(wiring.unheld), "steps": wiring.steps},
            confidence=0.95,
        )
