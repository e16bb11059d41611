"""Restore the last finite weights when weights become NaN or infinite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.batches import batches_of
from steadygrad.remedies.demonstration import Demonstration, example, loss_of, seeded
from steadygrad.remedies.gradients import Gradients, is_on_host
from steadygrad.remedies.nonfinite import is_broken
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.shards import Sharding, anywhere, local, sharding_of
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class Rollback(Remedy):
    r"""Replace NaN and infinite weights by the last good ones, and continue.

    .. math::
        (\theta_t,\, \bar\theta_t) = \begin{cases}
        (\theta_t,\, \theta_t) & \text{if } \theta_t \text{ and } g_t \text{ are finite} \\
        (\theta_t,\, \bar\theta_{t-1}) & \text{if only } \theta_t \text{ is} \\
        (\bar\theta_{t-1},\, \bar\theta_{t-1}) & \text{otherwise} \end{cases}

    where :math:`\bar\theta` is a copy of all weights, which doubles their memory. If anything is
    not finite, the gradient is set to zero, as by ``nonfinite``: that remedy keeps non-finite
    gradients away from the weights, this one also repairs weights that were changed otherwise, by
    an in-place operation, a flipped bit, or an overflow in the step. At most two steps are lost.
    Momentum and weight decay of the optimiser still act in a repaired step.

    Nothing is hidden: ``nonfinite`` and ``restored`` of the report show each case.

    References:
        Chowdhery et al., *PaLM: Scaling Language Modeling with Pathways*, 2022, section 5.1
        (restart before a spike, and leave out the batches of it).
    """

    name: ClassVar[str] = "rollback"
    claim: ClassVar[str] = "NaN and infinite weights are replaced by those of the step before"
    helps: ClassVar[tuple[str, ...]] = ("nonfinite",)
    rank: ClassVar[Mapping[str, int]] = {"nonfinite": 20}

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        kept = zip(parameters.names, map(local, parameters), strict=True)
        return {f"good {name}": value.detach().clone() for name, value in kept}

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Repair weights and gradient; return ``nonfinite``, ``skipped`` and ``restored``."""
        weights = [local(p).detach() for p in gradients.parameters]
        good = [memory[f"good {name}"] for name in gradients.parameters.names]
        is_lost = _is_lost(weights, gradients.parameters)
        broken = is_broken(gradients) | is_lost
        gradients.zero_where_(broken)
        for weight, kept in zip(weights, good, strict=True):
            _choose(weight, kept, broken, is_lost)
        return {"nonfinite": broken, "skipped": broken, "restored": is_lost}

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)
        treatment = self.begin(model, torch.optim.SGD(model.parameters(), 0.1))
        weight = next(iter(model.parameters()))
        with torch.no_grad():
            weight[0, 0] = math.nan
        loss_of(model, x).backward()
        treatment()
        left = sum(int((~p.isfinite()).sum()) for p in model.parameters())
        return Demonstration(f"1 NaN among the weights, {left} after", left == 0)


def _choose(weight: Tensor, kept: Tensor, broken: Tensor, is_lost: Tensor) -> None:
    if is_on_host(broken):
        if not broken:
            kept.copy_(weight)
        elif is_lost:
            weight.copy_(kept)
        return
    # without a branch, which would wait for the device
    broken, is_lost = broken.to(weight.device), is_lost.to(weight.device)
    kept.copy_(torch.where(broken, kept, weight))
    weight.copy_(torch.where(is_lost, kept, weight))


def _is_lost(weights: Sequence[Tensor], parameters: Parameters) -> Tensor:
    """Whether any weight, in any process, is not finite; a scalar on the device."""
    device = parameters.device
    split = {n: s for n, p in enumerate(parameters) if (s := _sharding(p)) is not None}
    norms = [b.norms(weights, float("inf")).to(device) for b in batches_of(weights, split.get)]
    lost = (~torch.cat(norms).isfinite()).any().float()
    return anywhere(lost, split.values()) > 0


def _sharding(parameter: nn.Parameter) -> Sharding | None:
    return sharding_of(parameter) if hasattr(parameter, "placements") else None
