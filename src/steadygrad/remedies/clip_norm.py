"""Clipping by norm: the classic remedy for exploding gradients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import shrink_
from steadygrad.remedies.parameters import SCOPES, Scope
from steadygrad.remedies.patch import Names, Patch
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class ClipNorm(Remedy):
    r"""Shrink the gradient to ``max_norm`` when it is longer.

    .. math::
        g \leftarrow g \, \min(1, \theta / (\lVert g \rVert_p + 10^{-6}))

    The direction is kept, within each scope. A vanished gradient stays vanished. A gradient that
    contains NaN or inf has no finite norm: it stays non-finite, and ``grad_norm`` shows it; see
    the remedy ``nonfinite``. Norms of float16 and bfloat16 gradients are taken in float32.

    Args:
        max_norm: The bound :math:`\theta` on each norm. ``inf`` only measures.
        scope: The parameters that share a norm: ``"all"`` together (which keeps the direction
            of the step), each parameter ``"group"`` of the optimiser, each ``"layer"`` (a module,
            or one layer and direction of a recurrent stack), or each ``"parameter"``.
        norm_type: :math:`p` of the norm; ``inf`` for the largest entry.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, algorithm 1 (all parameters; the 1e-6 is torch's).
    """

    name: ClassVar[str] = "clip-norm"
    claim: ClassVar[str] = (
        "The norm of the gradient over its scope is at most max_norm, its direction there kept"
    )
    helps: ClassVar[tuple[str, ...]] = (
        "exploding",
        "exploding-depth",
        "clip-loose",
        "likelihood",
        "nonfinite",
    )
    rank: ClassVar[Mapping[str, int]] = {
        "exploding": 20,
        "exploding-depth": 20,
        "nonfinite": 30,
        "likelihood": 10,
        "clip-loose": 10,
    }
    clips: ClassVar[str | None] = "norm"
    other: ClassVar[Mapping[str, Any]] = {"max_norm": 0.5, "scope": "layer", "norm_type": 1.0}

    max_norm: float = 1.0
    scope: Scope = "all"
    norm_type: float = 2.0

    def __post_init__(self) -> None:
        self.expect("max_norm", self.max_norm > 0, "a number above 0")
        self.expect("scope", self.scope in SCOPES, " or ".join(map(repr, SCOPES)))
        self.expect("norm_type", self.norm_type > 0, "a number above 0, or inf")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip; return ``grad_norm`` before, ``grad_norm_clipped`` after, ``clipped``.

        With a scope also ``norms`` before, in the order of ``parameters.labels(scope)``.
        """
        norms = gradients.norms(self.norm_type)
        return shrink_(gradients, norms, self.max_norm, self.scope, self.norm_type)

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        if self.scope != "all":
            return super().patch(model, names)
        kind = "" if self.norm_type == 2 else f", norm_type={self.norm_type!r}"
        parameters = f"{(names or Names()).model}.parameters()"
        bound = "float('inf')" if math.isinf(self.max_norm) else repr(self.max_norm)
        return Patch(step=(f"torch.nn.utils.clip_grad_norm_({parameters}, {bound}{kind})",))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self, self.max_norm if self.norm_type >= 2 else None)
