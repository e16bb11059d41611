"""AutoClip: clip the norm to a percentile of earlier norms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import shrink_
from steadygrad.remedies.parameters import SCOPES, Parameters, Scope
from steadygrad.remedies.percentile import percentile
from steadygrad.remedies.unsuitable import no_trainable_parameter

FRESH = 100  # a percentile is recomputed when 1/100 of its history is new


@final
@dataclass(frozen=True)
class AutoClip(Remedy):
    r"""Shrink the gradient to a percentile of its past norms.

    .. math::
        \theta_t = \operatorname{percentile}_p(\lVert g_1 \rVert, \dots, \lVert g_t \rVert), \qquad
        g_t \leftarrow g_t \, \min(1, \theta_t / \lVert g_t \rVert)

    The norms are those before clipping, including the present one, so that the bound follows a
    growing or shrinking gradient. With the paper's p = 10 nine steps in ten are clipped, and step
    lengths carry little information; with p = 90 only the longest are clipped. Percentiles are
    interpolated linearly. Norms that are zero or not finite do not enter the history.

    Args:
        percentile: :math:`p`, from 0 to 100.
        history: Number of latest norms kept (the paper keeps all). For a long history the
            percentile is recomputed only when a hundredth of it is new.
        scope: The parameters that share a norm and a history: ``"all"`` as in the
            paper, ``"group"``, ``"layer"``, or ``"parameter"``.

    References:
        Seetharaman, Wichern, Pardo and Le Roux, *AutoClip: Adaptive Gradient Clipping for Source
        Separation Networks*, 2020, algorithm 1.
    """

    name: ClassVar[str] = "auto-clip"
    claim: ClassVar[str] = (
        "The norm of the gradient is at most the chosen percentile of the norms seen so far"
    )
    helps: ClassVar[tuple[str, ...]] = ("exploding",)
    clips: ClassVar[str | None] = "auto-clip"
    also_try: ClassVar[tuple[Mapping[str, float], ...]] = ({"percentile": 90.0},)
    other: ClassVar[Mapping[str, Any]] = {"percentile": 50.0, "history": 2, "scope": "layer"}

    percentile: float = 10.0
    history: int = 1000
    scope: Scope = "all"

    def __post_init__(self) -> None:
        self.expect("percentile", 0 <= self.percentile <= 100, "a number from 0 to 100")
        self.expect("history", self.history >= 1, "a whole number above 0")
        self.expect("scope", self.scope in SCOPES, " or ".join(map(repr, SCOPES)))

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        count, device = len(parameters.labels(self.scope)), parameters.device
        return {
            "history": torch.full((self.history, count), torch.inf, device=device),
            "threshold": torch.full((count,), torch.inf, device=device),
            # On the host, which must know where to write: reading it does not wait for the device.
            "steps": torch.zeros((), dtype=torch.long),
        }

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; return ``threshold`` (the median, unless the scope is all), and the norms."""
        norms = gradients.norms()
        of_scope = gradients.combined(norms, self.scope).float()
        threshold, step = memory["threshold"], int(memory["steps"])
        # A norm that does not count is replaced by the percentile itself, which changes nothing.
        counts = of_scope.isfinite() & (of_scope > 0)
        memory["history"][step % self.history] = of_scope.where(counts, threshold)
        memory["steps"] += 1
        if step < FRESH or step % max(1, self.history // FRESH) == 0:
            seen = memory["history"][: min(step + 1, self.history)].t()
            threshold.copy_(percentile(seen, self.percentile))
        report = shrink_(gradients, norms, threshold, self.scope)
        return report | {"threshold": threshold.median()}

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)
