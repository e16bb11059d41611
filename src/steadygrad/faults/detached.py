"""Detached: no gradient of the loss reaches a recurrent layer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.wiring import Wiring

SURE = 3  # steps of a training; of a single look one call is enough


@final
class Detached(Fault):
    """A layer that is called, and whose results the loss never sends a gradient to."""

    name: ClassVar[str] = "detached"
    severity: ClassVar[int] = 11
    meaning: ClassVar[str] = (
        "A recurrent layer is called, and no gradient of the loss reaches it: its weights keep "
        "their initial values."
    )
    symptom: ClassVar[str] = "the loss falls a little, as far as the other layers allow"
    look_at: ClassVar[str] = (
        "which layers the loss and the optimiser reach, in `sg.diagnose` and `sg.watch`"
    )
    measured: ClassVar[str] = (
        "The layer is called, with gradients enabled or inside `torch.no_grad`, and no gradient "
        "arrives at its outputs: in one measurement, or in three training steps. A layer that is "
        "called without gradients and not trained either (a target network, a fixed encoder) is "
        "not reported."
    )
    colour: ClassVar[str] = "#c23b8e"
    advice: ClassVar[tuple[str, ...]] = (
        "hand the layer's output itself to the loss, without .detach(), .data, .item() or numpy",
        "call the layer outside of torch.no_grad() and torch.inference_mode()",
    )

    def in_wiring(self, wiring: "Wiring", limits: Thresholds) -> Iterable[Finding]:
        called = wiring.calls + wiring.ungraded
        if wiring.transformed:  # their gradients go where no hook sees them
            return
        if not called or wiring.is_reached or wiring.is_aside or 0 < wiring.steps < SURE:
            return
        if wiring.frozen and len(wiring.frozen) == len(wiring.weights):
            return  # no gradient is asked of it: that is the fault, not the graph
        over = f" in {wiring.steps} steps" if wiring.steps else ""
        if wiring.calls:
            why = "its results are detached, or the loss does not use them"
        else:
            why = "it is called within torch.no_grad()"
        yield self.finding(
            wiring.name,
            f"No gradient of the loss has reached {wiring.name}{over}: {why}. Its weights are not "
            "trained.",
            evidence={
                "calls": wiring.calls,
                "calls_without_gradients": wiring.ungraded,
                "steps": wiring.steps,
            },
            confidence=0.95,
        )
