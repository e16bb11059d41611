"""Activation regularisation: penalise large and fast-changing outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_layer_to_see


@final
@dataclass(frozen=True)
class ActivationPenalty(Remedy):
    r"""Add AR, on the size of the outputs, and TAR, on their change from step to step.

    .. math::
        \alpha \operatorname{mean} h_t^2 + \beta \operatorname{mean} (h_t - h_{t-1})^2

    means over time, batch and units, as in the authors' code (the paper has norms). There AR is
    applied after dropout; here it is applied to the layer's output. Small activations keep tanh
    away from saturation, slow ones preserve memory.

    Args:
        alpha: Weight of AR; 0 for none.
        beta: Weight of TAR; 0 for none.
        layers: ``"last"``, only the layer called last, as published, or ``"all"`` recurrent
            layers (of a stack in one module its top layer).

    References:
        Merity, McCann and Socher, *Revisiting Activation Regularization for Language RNNs*, 2017,
        sections 3 and 4.
    """

    name: ClassVar[str] = "activation-penalty"
    claim: ClassVar[str] = "Minimising it makes outputs smaller (alpha) and slower (beta)"
    helps: ClassVar[tuple[str, ...]] = ("exploding", "saturated")
    sees_calls: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"alpha": 0.0, "beta": 0.0, "layers": "all"}

    alpha: float = 2.0
    beta: float = 1.0
    layers: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        for option in ("alpha", "beta"):
            value = getattr(self, option)
            self.expect(option, 0 <= value < float("inf"), "a finite number, 0 or above")
        self.expect("alpha", self.alpha + self.beta > 0, "above 0 where beta is 0")
        self.expect("layers", self.layers in ("last", "all"), "'last' or 'all'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_layer_to_see(model)

    def penalty(self, run: Run) -> Tensor:
        total = run.loss.new_zeros(())
        last = run.calls[-1].layer if run.calls else None
        for outputs in run.outputs:
            if self.layers == "last" and outputs.layer is not last:
                continue
            later, earlier = outputs.pairs
            total = total + self.alpha * outputs.rows.square().mean()
            if self.beta and len(later):
                total = total + self.beta * (later - earlier).square().mean()
        return total

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)
