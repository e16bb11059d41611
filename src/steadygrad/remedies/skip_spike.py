"""Skip steps whose gradient is far longer than recent ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import account
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class SkipSpike(Remedy):
    r"""Set the gradient to zero if its log norm exceeds the mean by k standard deviations.

    .. math::
        g_t \leftarrow 0 \quad\text{if}\quad \log \lVert g_t \rVert > \mu + k \sigma

    :math:`\mu` and :math:`\sigma` are moving averages of :math:`\log \lVert g \rVert`, in which a
    spike counts as the threshold, so that they follow a lasting change of level. The first
    ``warmup`` steps are only measured, with plain averages. A zero gradient is not counted; a
    non-finite one is skipped and not counted, also in the warm-up. Momentum and weight decay of
    the optimiser still act in a skipped step.

    Args:
        k: Deviations above the mean.
        decay: Weight of the past in the averages.
        warmup: Steps in which no finite gradient is skipped.

    References:
        PyTorch issue 12189 (skip a step whose log norm is above its moving mean by four moving
        standard deviations).
    """

    name: ClassVar[str] = "skip-spike"
    claim: ClassVar[str] = (
        "A gradient whose log norm is above the moving mean by k deviations moves nothing"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding", "nonfinite")
    clips: ClassVar[str | None] = "skip-spike"
    few_steps: ClassVar[Mapping[str, Any]] = {"warmup": 3, "k": 3.0}
    other: ClassVar[Mapping[str, Any]] = {"k": 0.5, "decay": 0.2, "warmup": 6}

    k: float = 4.0
    decay: float = 0.99
    warmup: int = 25

    def __post_init__(self) -> None:
        self.expect("k", self.k > 0, "a number above 0")
        self.expect("decay", 0 <= self.decay < 1, "a number from 0 to below 1")
        self.expect("warmup", self.warmup >= 2, "a whole number above 1")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        names = ("mean", "variance", "counted")
        state = {name: torch.zeros((), device=parameters.device) for name in names}
        return state | {"steps": torch.zeros((), dtype=torch.long)}

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Skip or not; return ``skipped``, ``threshold``, and the norm before and after."""
        norm = torch.linalg.vector_norm(gradients.norms()).float()
        log = norm.log()
        threshold = memory["mean"] + self.k * memory["variance"].sqrt()
        if int(memory["steps"]) < self.warmup:
            threshold = torch.full_like(threshold, torch.inf)
        memory["steps"] += 1
        # Negated, so that NaN, for which every comparison is false, is skipped.
        skipped = (log <= threshold).logical_and(norm.isfinite()).logical_not()
        gradients.zero_where_(skipped)
        self._follow(torch.minimum(log, threshold), norm.isfinite() & (norm > 0), memory)
        norms = norm[None], norm.masked_fill(skipped, 0.0)[None]
        report = account(*norms, clipped=skipped)
        del report["clipped"]
        return report | {"skipped": skipped, "threshold": threshold.exp()}

    def _follow(self, log: Tensor, counts: Tensor, memory: Mapping[str, Tensor]) -> None:
        mean, variance, counted = memory["mean"], memory["variance"], memory["counted"]
        counted += counts
        # plain averages until the weight of the past reaches ``decay``
        past = (1 - 1 / counted.clamp(min=1)).clamp(max=self.decay)
        off = log - mean
        new = mean + (1 - past) * off
        spread = past * (variance + (1 - past) * off.square())
        mean.copy_(torch.where(counts, new, mean))
        variance.copy_(torch.where(counts, spread, variance))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self, 0.0)
