"""AdaGC: bound the gradient of each tensor by its own recent norms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import EPSILON, shrink_
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class AdaGC(Remedy):
    r"""Shrink each parameter's gradient to little more than its own recent norm.

    .. math::
        g_{t,i} \leftarrow g_{t,i} \, \min\Bigl(1, \frac{\lambda \gamma_{t-1,i}}
        {\lVert g_{t,i} \rVert}\Bigr), \qquad
        \gamma_{t,i} = \beta \gamma_{t-1,i} + (1 - \beta) \lVert g_{t,i} \rVert

    with the norm after clipping in the second equation. In the first ``warmup`` steps all
    gradients together are clipped to ``max_norm``, and :math:`\gamma` is the smallest norm so far.
    A parameter without a gradient, or with a zero one, keeps its :math:`\gamma`; all do when any
    gradient is not finite.

    Args:
        ratio: :math:`\lambda`, how much longer than the recent norm a gradient may be.
        beta: Weight of the past.
        warmup: Steps of clipping by global norm.
        max_norm: Bound on the global norm in the warm-up.

    References:
        Wang et al., *AdaGC: Enhancing LLM Pretraining Stability via Adaptive Gradient Clipping*,
        2025, algorithm 1.
    """

    name: ClassVar[str] = "ada-gc"
    claim: ClassVar[str] = (
        "Each parameter's gradient is at most ratio times the moving average of its own norm"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    clips: ClassVar[str | None] = "ada-gc"
    few_steps: ClassVar[Mapping[str, Any]] = {"warmup": 3}
    other: ClassVar[Mapping[str, Any]] = {"ratio": 2.0, "beta": 0.5, "warmup": 2, "max_norm": 0.5}

    ratio: float = 1.05
    beta: float = 0.98
    warmup: int = 100
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        self.expect("ratio", self.ratio > 0, "a number above 0")
        self.expect("beta", 0 <= self.beta < 1, "a number from 0 to below 1")
        self.expect("warmup", self.warmup >= 1, "a whole number above 0")
        self.expect("max_norm", self.max_norm > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        return {
            "average": torch.full((len(parameters),), torch.inf, device=parameters.device),
            "steps": torch.zeros((), dtype=torch.long),
        }

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; return the norms of all parameters, and their total before and after."""
        norms, average = gradients.norms(), memory["average"]
        of_each = gradients.combined(norms, "parameter").float()
        step = int(memory["steps"])
        memory["steps"] += 1
        if step < self.warmup:
            report = shrink_(gradients, norms, self.max_norm)
            left = of_each * (self.max_norm / (report["grad_norm"].float() + EPSILON)).clamp(
                max=1.0
            )
            new = torch.minimum(average, left)
        else:
            bound = self.ratio * average
            report = shrink_(gradients, norms, bound, "parameter")
            left = torch.minimum(of_each, bound)
            # A parameter that was not used in the warm-up starts from its first gradient.
            new = torch.where(average.isinf(), left, torch.lerp(left, average, self.beta))
        counts = of_each.isfinite() & (of_each > 0) & report["grad_norm"].isfinite()
        average.copy_(torch.where(counts, new, average))
        return report

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)
