"""Clipping by global norm: a bound on the step, the classic remedy for explosion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.reasons import no_trainable_parameter


@final
@dataclass(frozen=True)
class ClipNorm(Remedy):
    r"""Shrink the gradient to ``max_norm`` when it is longer.

    .. math::
        g \leftarrow g \, \min(1, \theta / \lVert g \rVert_2)

    The direction is kept. A vanished gradient stays vanished. A gradient that holds NaN or inf
    has no length to shrink: it stays non-finite, and ``grad_norm`` shows it.

    Args:
        max_norm: The bound :math:`\theta` on the norm over all parameters together. ``inf``
            only measures.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, algorithm 1.
    """

    name: ClassVar[str] = "clip-norm"
    claim: ClassVar[str] = "The global norm of the gradient is at most max_norm, its direction kept"
    helps: ClassVar[tuple[str, ...]] = ("exploding",)

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        self.expect("max_norm", self.max_norm > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_gradients(self, params: Sequence[nn.Parameter]) -> Mapping[str, Tensor]:
        """Clip, and return ``grad_norm`` before, ``grad_norm_clipped`` after, ``clipped``."""
        grads = [p.grad for p in params if p.grad is not None]
        grad_norm = get_total_norm(grads)
        clip_grads_with_norm_(params, self.max_norm, grad_norm)
        return {
            "grad_norm": grad_norm,
            "grad_norm_clipped": grad_norm.clamp(max=self.max_norm),
            "clipped": grad_norm > self.max_norm,
        }
