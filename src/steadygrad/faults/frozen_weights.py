"""Frozen weights: the weights of a recurrent layer take no gradient."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, final

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.wiring import Wiring


@final
class FrozenWeights(Fault):
    """All weights of a layer, or all that act on its state, with ``requires_grad`` False."""

    name: ClassVar[str] = "frozen-weights"
    severity: ClassVar[int] = 12
    meaning: ClassVar[str] = (
        "The weights of a recurrent layer are frozen (requires_grad is False): it is not trained."
    )
    symptom: ClassVar[str] = "the loss falls a little, and what needs memory is never learned"
    look_at: ClassVar[str] = (
        "which layers the loss and the optimiser reach, in `sg.diagnose` and `sg.watch`"
    )
    measured: ClassVar[str] = (
        "Weights with ``requires_grad=False`` in a layer that is called with gradients enabled. "
        "Whether this is intended, as in a reservoir, cannot be detected; a layer that is "
        "called inside `torch.no_grad` is not reported."
    )
    colour: ClassVar[str] = "#4f86b8"
    advice: ClassVar[tuple[str, ...]] = (
        "make them trainable before the optimiser is made: layer.requires_grad_(True)",
        "if it is meant to stay fixed, call it within torch.no_grad()",
    )

    def in_wiring(self, wiring: "Wiring", limits: Thresholds) -> Iterable[Finding]:
        if not wiring.calls or not wiring.is_frozen:
            return
        is_whole = len(wiring.frozen) == len(wiring.weights)
        which = "its weights" if is_whole else "its weights on the state"
        yield self.finding(
            wiring.name,
            f"{wiring.name} is not trained: {which} are frozen (requires_grad is False).",
            evidence={"frozen": list(wiring.frozen), "weights": len(wiring.weights)},
            confidence=1.0,
        )
