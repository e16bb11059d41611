"""ZClip: clip outliers among the recent norms, by their z-score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import EPSILON, shrink_
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.unsuitable import no_trainable_parameter

TARGETS = ("adaptive", "mean", "bound")


@final
@dataclass(frozen=True)
class ZClip(Remedy):
    r"""Shrink a gradient whose norm is an outlier among the recent ones.

    .. math::
        z_t = \frac{G_t - \mu}{\sigma + 10^{-6}}, \qquad
        \theta_t = \mu + \frac{z^* \sigma}{z_t / z^*} \quad\text{if } z_t > z^*, \qquad
        g_t \leftarrow g_t \, \min(1, \theta_t / G_t)

    with the global norm :math:`G`, and :math:`\mu, \sigma^2` moving averages of the norms left
    after clipping, :math:`\mu \leftarrow \alpha \mu + (1 - \alpha) G`,
    :math:`\sigma^2 \leftarrow \alpha \sigma^2 + (1 - \alpha)(G - \mu)^2`. The larger the z-score,
    the smaller the result. In the first ``warmup`` steps norms are only collected, and bounded by
    ``max_norm``. Non-finite norms do not enter the averages.

    Args:
        z: :math:`z^*`, the z-score from which a norm is an outlier.
        alpha: Weight of the past in the averages.
        warmup: Steps for the first averages.
        max_norm: An additional bound; none if not given.
        target: New norm of an outlier: ``"adaptive"`` as above, ``"mean"`` to
            :math:`\mu`, ``"bound"`` to :math:`\mu + z^* \sigma`.

    References:
        Kumar, Owen, Chowdhury and Güra, *ZClip: Adaptive Spike Mitigation for LLM Pre-Training*,
        2025, and its published code (defaults, warm-up, the three targets).
    """

    name: ClassVar[str] = "z-clip"
    claim: ClassVar[str] = (
        "A norm that is an outlier among the recent ones is reduced to them; others are unchanged"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    clips: ClassVar[str | None] = "z-clip"
    few_steps: ClassVar[Mapping[str, Any]] = {"warmup": 3, "max_norm": None, "z": 1.0}
    other: ClassVar[Mapping[str, Any]] = {
        "z": 1.5,
        "alpha": 0.5,
        "warmup": 2,
        "max_norm": 0.5,
        "target": "mean",
    }

    z: float = 2.5
    alpha: float = 0.97
    warmup: int = 25
    max_norm: float | None = 1.0
    target: Literal["adaptive", "mean", "bound"] = "adaptive"

    def __post_init__(self) -> None:
        self.expect("z", self.z > 0, "a number above 0")
        self.expect("alpha", 0 <= self.alpha < 1, "a number from 0 to below 1")
        self.expect("warmup", self.warmup >= 1, "a whole number above 0")
        self.expect(
            "max_norm", self.max_norm is None or self.max_norm > 0, "a number above 0, or none"
        )
        self.expect("target", self.target in TARGETS, " or ".join(map(repr, TARGETS)))

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        device = parameters.device
        return {
            "first": torch.full((self.warmup,), torch.nan, device=device),
            "mean": torch.full((), torch.nan, device=device),
            "variance": torch.full((), torch.nan, device=device),
            "steps": torch.zeros((), dtype=torch.long),
        }

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; return ``threshold`` (inf where there is none) and the norms."""
        norms = gradients.norms()
        norm = torch.linalg.vector_norm(norms).float()
        step = int(memory["steps"])
        memory["steps"] += 1
        if step < self.warmup:
            bound = torch.full_like(norm, torch.inf)
            self._collect(norm, step, memory)
        else:
            bound = self._bound(norm, memory)
            # the clipped norm, so that a spike does not raise its own threshold
            self._follow(torch.minimum(norm, bound), memory)
        bound = bound if self.max_norm is None else bound.clamp(max=self.max_norm)
        return shrink_(gradients, norms, bound) | {"threshold": bound}

    def _bound(self, norm: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        mean, spread = memory["mean"], memory["variance"].sqrt()
        z = (norm - mean) / (spread + EPSILON)
        if self.target == "mean":
            target = mean
        else:
            # The target is unused where z <= z*; 1 avoids a division by 0.
            excess = (z / self.z).clamp(min=1.0) if self.target == "adaptive" else 1.0
            target = mean + self.z * spread / excess
        return torch.where(z > self.z, target, torch.inf)

    def _collect(self, norm: Tensor, step: int, memory: Mapping[str, Tensor]) -> None:
        memory["first"][step] = torch.where(norm.isfinite(), norm, torch.nan)
        if step == self.warmup - 1:
            mean = memory["first"].nanmean()
            memory["mean"].copy_(mean)
            memory["variance"].copy_((memory["first"] - mean).square().nanmean())

    def _follow(self, norm: Tensor, memory: Mapping[str, Tensor]) -> None:
        mean, variance = memory["mean"], memory["variance"]
        counts = norm.isfinite()
        # If all steps of the warm-up were non-finite, the averages start here.
        begins = mean.isnan()
        new = torch.where(begins, norm, torch.lerp(norm, mean, self.alpha))
        spread = torch.where(begins, 0.0, torch.lerp((norm - new).square(), variance, self.alpha))
        variance.copy_(torch.where(counts, spread, variance))
        mean.copy_(torch.where(counts, new, mean))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)
