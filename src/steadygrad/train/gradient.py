"""What is done to the gradient between backward pass and optimiser step, and what is seen."""

import math
from collections.abc import Mapping
from typing import Any, final

from torch import nn

from steadygrad.diagnosis import Watch
from steadygrad.remedies import Course, Nonfinite

NOTED = ("threshold", "clipped", "skipped", "nonfinite")  # of a treatment's report, written down


@final
class Gradient:
    """The remedies on gradients, then the bound on the norm.

    Args:
        model: Whose gradients.
        clip: Bound on the norm; 0 clips nothing.
        course: The remedies at work; most do nothing to gradients.
        watch: Clips, measures the gradient through time, and writes that into the record itself.
    """

    def __init__(self, model: nn.Module, clip: float, course: Course, watch: Watch) -> None:
        self.parameters = list(model.parameters())
        self.bound = clip or math.inf
        self.course = course
        self.watch = watch
        self._norms: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def clip(self) -> float:
        """Change the gradients in place; return the norm that the remedies left, before the bound.

        NaN if a remedy refuses to go on.
        """
        before = self._norm() if self.course.treatments else None
        try:
            reports = self.course.gradients()
        except FloatingPointError:
            return math.nan
        norm = float(self.watch.clip_(self.bound))
        first = norm if before is None else before
        self._norms = {"grad_norm": first, "grad_norm_clipped": min(norm, self.bound)}
        self._done = {
            f"{name} {key}": float(report[key])
            for name, report in reports.items()
            for key in NOTED
            if key in report
        }
        return norm

    @property
    def leaves_out(self) -> bool:
        """Whether a step whose numbers are lost is left out, rather than the end."""
        return any(isinstance(t.remedy, Nonfinite) for t in self.course.treatments)

    def norms(self) -> Mapping[str, float]:
        """Return the norm of this step before and after, and what the remedies did."""
        return self._norms | self._done

    def latest(self) -> Mapping[str, Any]:
        """Return all that is known of the gradient at present."""
        return self.watch.latest | self._norms

    def _norm(self) -> float:
        """Return the norm over all gradients together."""
        return math.hypot(*(float(p.grad.norm()) for p in self.parameters if p.grad is not None))
