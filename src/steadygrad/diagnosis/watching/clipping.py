"""The gradient's norm before and after it is clipped, by the watch or by the training loop."""

from collections import deque
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from steadygrad.diagnosis.scaled import Scaling
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.flow.parameter_norms import NormBeforeClip
from steadygrad.remedies import ClipNorm, Remedy, Treatment

CLIPPED_BEYOND = 1 + 1e-4  # a norm before over a norm after from which a step counts as clipped
NORMS = 10_000  # kept for an advice on clipping


class Clipping:
    """Clips for the training, and compares what backward has left with what the optimiser gets.

    Args:
        model: As the training calls it.
        optimizer: What steps it.
        seen: Where what is seen goes.
        scaling: The gradient scaler, if there is one.
        begun: Tells how many steps were begun, those included that a scaler then skipped.
        before: Takes the norm that a backward pass leaves.

    Attributes:
        norms: Before clipping, of the last sampled steps.
        treatments: What clips, by remedy.
        before: Notes the norm that the backward pass has left, at the steps that are sampled.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        seen: Seen,
        scaling: Scaling,
        begun: Callable[[], object],
        before: NormBeforeClip,
    ) -> None:
        self._model, self._optimizer, self._seen = model, optimizer, seen
        self._scaling, self._begun, self.before = scaling, begun, before
        self.norms: deque[float] = deque(maxlen=NORMS)
        self.treatments: dict[Remedy, Treatment] = {}
        self._were_clipped: deque[bool] = deque(maxlen=100)
        self._clipped: tuple[object, Tensor] | None = None

    @property
    def is_asked(self) -> bool:
        """Whether the norms of this step are of interest."""
        return self.before.is_on or self._clipped is not None

    def clip(self, bound: float | Remedy) -> Tensor:
        """Clip the gradients; the norm before."""
        if not isinstance(bound, Remedy):
            if not bound > 0:
                raise ValueError(f"max_norm must be positive, got {bound}")
            bound = ClipNorm(bound)
        if bound not in self.treatments:
            scaler = self._scaling.scaler
            self.treatments[bound] = bound.begin(self._model, self._optimizer, scaler)
        treatment = self.treatments[bound]
        if isinstance(bound, ClipNorm) and bound.norm_type == 2:
            norm = treatment()["grad_norm"]
        else:  # not every remedy takes this norm on its way
            norm = treatment.norm()
            treatment()
        # The first clip of a step saw what backward had left; of a step that was skipped, nobody
        # asks any more.
        begun = self._begun()
        if self._clipped is None or self._clipped[0] != begun:
            self._clipped = begun, norm
        return norm

    def follow(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take up other parameters in the place of those that the optimiser had."""
        self.before.close()
        self.before = NormBeforeClip(parameters)
        self.treatments.clear()  # what they remember is of the old ones

    @property
    def were_clipped(self) -> deque[bool]:
        """Of the last sampled steps, whether each was clipped."""
        return self._were_clipped

    def look_for_scaler(self) -> None:
        """Find the gradient scaler, if one steps the optimiser.

        Raises:
            RuntimeError: Gradients that it had multiplied were clipped as if they had not been.
        """
        if self._scaling.look() and self._scaling.scale != 1 and self.treatments:
            raise RuntimeError(
                "w.clip_ has clipped gradients that a GradScaler had multiplied by "
                f"{self._scaling.scale:g}: make the watch with scaler=..., and it unscales them "
                "first"
            )

    def sample(self, after: Tensor) -> None:
        """Take the norms of this step; ``after`` is what the optimiser gets."""
        noted = self.before.take()
        noted = None if noted is None else noted / self._scaling.scale
        clipped = self._clipped
        is_of_this_step = clipped is not None and clipped[0] == self._begun()
        before = clipped[1] if clipped is not None and is_of_this_step else noted
        before = after if before is None else before
        self._seen.history.before.append(float(before))
        self._seen.history.after.append(float(after))
        self._were_clipped.append(bool(before > after * CLIPPED_BEYOND))
        self.norms.append(float(before))
        self._seen.scalars(
            {
                "grad_norm": float(before),
                "grad_norm_clipped": float(after),
                "clipped_share": sum(self._were_clipped) / len(self._were_clipped),
            }
        )

    def end_step(self) -> None:
        """Forget the clip of this step."""
        self._clipped = None
