"""Adaptive gradient clipping: bound the gradient of each unit by the norm of its weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.unit_norms import Units, units_of
from steadygrad.remedies.unsuitable import no_trainable_parameter

LEAST_WEIGHT = 1e-3  # lets units that start at 0 move
LEAST_GRADIENT = 1e-6


@final
@dataclass(frozen=True)
class AGC(Remedy):
    r"""Shrink the gradient of each unit whose norm is large relative to that of its weights.

    .. math::
        g_i \leftarrow g_i \, \min\Bigl(1, \lambda
        \frac{\max(\lVert w_i \rVert, 10^{-3})}{\max(\lVert g_i \rVert, 10^{-6})}\Bigr)

    A unit is a row of a weight matrix (in a recurrent layer, the weights into one gate of one
    hidden feature), a filter of a convolution, or a whole bias or other vector.

    Args:
        ratio: :math:`\lambda`, the largest gradient relative to the weights; the paper takes
            0.01 for large batches, more for small ones.
        clip_last: Whether the last linear layer is clipped too. The paper excludes it.
        clip_embeddings: Whether embeddings are clipped too. Their rows see few gradients.

    References:
        Brock, De, Smith and Simonyan, *High-Performance Large-Scale Image Recognition Without
        Normalization*, 2021, section 4.
    """

    name: ClassVar[str] = "agc"
    claim: ClassVar[str] = "No unit's gradient is longer than ratio times the norm of its weights"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    clips: ClassVar[str | None] = "agc"
    other: ClassVar[Mapping[str, Any]] = {"ratio": 0.1, "clip_last": True, "clip_embeddings": True}

    ratio: float = 0.01
    clip_last: bool = False
    clip_embeddings: bool = False

    def __post_init__(self) -> None:
        self.expect("ratio", self.ratio > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        left = {id(p) for module in self._left_alone(parameters.model) for p in module.parameters()}
        # Decided on the host, without waiting for the device.
        return {"treated": torch.tensor([id(p) not in left for p in parameters], dtype=torch.bool)}

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; return ``clipped``, and ``clipped_share`` of the treated units."""
        treated = memory["treated"].tolist()
        parts = units_of(gradients, treated)
        if not parts:
            return {}
        device = gradients.parameters.device
        found = torch.cat([self._clip(gradients, units).to(device) for units in parts])
        count = torch.count_nonzero(found)
        return {"clipped": count > 0, "clipped_share": count.float() / found.numel()}

    def _clip(self, gradients: Gradients, units: Units) -> Tensor:
        """Clip, and return for each unit whether it was clipped."""
        units.measure(gradients)
        longest = units.weights.clamp_(min=LEAST_WEIGHT).mul_(self.ratio)
        torch.clamp(units.lengths, min=LEAST_GRADIENT, out=units.factors)
        torch.div(longest, units.factors, out=units.factors).clamp_(max=1.0)
        units.scale_(gradients)
        return units.lengths > longest

    def _left_alone(self, model: nn.Module) -> Iterator[nn.Module]:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if linear and not self.clip_last:
            yield linear[-1]
        if not self.clip_embeddings:
            yield from (m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)
