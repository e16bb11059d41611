"""Clipping by value: bound every entry of the gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.batches import FOREACH
from steadygrad.remedies.demonstration import Demonstration, spike_is_cut
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.norm_clipping import account
from steadygrad.remedies.patch import Names, Patch
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class ClipValue(Remedy):
    r"""Bound every entry of the gradient to ``[-max_value, max_value]``.

    .. math::
        g_k \leftarrow \min(\theta, \max(-\theta, g_k))

    The direction is not kept: only large entries shrink. An infinite entry becomes
    finite, NaN stays NaN. A vanished gradient stays vanished.

    Args:
        max_value: The bound :math:`\theta` on each entry.

    References:
        Mikolov, *Statistical Language Models Based on Neural Networks*, 2012, section 3.2.
    """

    name: ClassVar[str] = "clip-value"
    claim: ClassVar[str] = "No entry of the gradient is larger than max_value; inf becomes finite"
    helps: ClassVar[tuple[str, ...]] = ("exploding", "nonfinite", "likelihood")
    rank: ClassVar[Mapping[str, int]] = {"exploding": 40, "nonfinite": 50, "likelihood": 20}
    clips: ClassVar[str | None] = "value"
    other: ClassVar[Mapping[str, Any]] = {"max_value": 0.5}

    max_value: float = 1.0

    def __post_init__(self) -> None:
        self.expect("max_value", self.max_value > 0, "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Clip, and return ``grad_norm`` before, ``grad_norm_clipped`` after, ``clipped``.

        ``clipped`` says whether the norm of any gradient fell.
        """
        norms = gradients.norms()
        for batch in gradients.batches:
            own = batch.take(gradients.local)
            if batch.is_stack:
                FOREACH._foreach_clamp_min_(own, -self.max_value)
                FOREACH._foreach_clamp_max_(own, self.max_value)
            else:  # one pass is cheaper than two for a large tensor
                for grad in own:
                    grad.clamp_(-self.max_value, self.max_value)
        after = gradients.norms()
        before, left = (gradients.combined(n, "all") for n in (norms, after))
        return account(before, left, (after < norms).any())

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        parameters = f"{(names or Names()).model}.parameters()"
        return Patch(step=(f"torch.nn.utils.clip_grad_value_({parameters}, {self.max_value!r})",))

    def demonstrate(self) -> Demonstration:
        return spike_is_cut(self)
