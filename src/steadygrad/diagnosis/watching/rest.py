"""Rest: the steps between two measurements, at which only what may break is looked at."""

import math
from collections.abc import Iterable

from torch import Tensor, nn

from steadygrad.diagnosis.black_box import BlackBox
from steadygrad.flow.live import LiveCapture

AWAKE = 20  # steps at the start at which everything is on: some rules read the very first ones


class Sentinel:
    """Whether the gradients of a step look finite, from the smallest of one layer or two.

    A value that is not finite spreads: whatever breaks in the forward pass, in the loss or in the
    backward pass through time ends in the biases of the lowest recurrent layer. What does not, as
    in a branch beside it, is seen by the whole norm, at the next step that is sampled.

    Args:
        layers: Recurrent layers of the model, in model order.
        parameters: Of the optimiser.
    """

    def __init__(self, layers: Iterable[nn.Module], parameters: Iterable[Tensor]) -> None:
        held = [p for p in parameters if p.requires_grad]
        identities = {id(p) for p in held}
        own = ([p for p in layer.parameters() if id(p) in identities] for layer in layers)
        smallest = [min(ps, key=lambda p: p.numel()) for ps in own if ps] or held[:1]
        self._chosen = list({id(p): p for p in (*smallest[:1], *smallest[-1:])}.values())

    def is_fine(self) -> bool:
        """Whether what is looked at is finite."""
        for parameter in self._chosen:
            grad = parameter.grad
            if grad is None or grad.is_sparse or grad.requires_grad:
                continue
            # The product of two vectors is the fastest of what visits every value.
            values = grad if grad.dim() == 1 else grad.flatten()
            if not math.isfinite(values.dot(values).item()):
                return False
        return True


class Rest:
    """Whether the hooks on the layers may be off until the next measurement.

    They may where a step that breaks can be run again: then nothing of its calls has to be kept.

    Args:
        model: As the training calls it.
        capture: The calls of the training.
        box: The last step.
        parameters: Of the optimiser.
    """

    def __init__(
        self,
        model: nn.Module,
        capture: LiveCapture,
        box: BlackBox,
        parameters: Iterable[Tensor],
    ) -> None:
        self._capture, self._box = capture, box
        self._steps = 0
        # Compiled code would be compiled anew whenever a hook goes or comes.
        self._is_compiled = any(
            hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None
            for m in model.modules()
        )
        self.sentinel = Sentinel(capture.layers.values(), parameters)

    def may_follow(self) -> bool:
        """Take a step at its end; whether those that follow it may be steps at rest."""
        self._steps += 1
        if self._is_compiled or self._steps < AWAKE:
            return False
        return self._box.is_whole
