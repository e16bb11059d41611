"""Treat and measure the gradient between the backward pass and the optimiser's step."""

import math
from collections.abc import Mapping
from typing import Any, final

from torch import nn

from steadygrad.diagnosis import Watch
from steadygrad.remedies import Course, Nonfinite

# Entries of a treatment's report that are recorded.
NOTED = ("threshold", "clipped", "skipped", "nonfinite")


@final
class Gradient:
    """Apply the remedies on gradients, then the bound on the norm.

    Args:
        model: The model.
        clip: Bound on the norm; 0 for none.
        course: The remedies; most do not act on gradients.
        watch: Clips, measures the gradient through time, and records it.
    """

    def __init__(self, model: nn.Module, clip: float, course: Course, watch: Watch) -> None:
        self.parameters = list(model.parameters())
        self.bound = clip or math.inf
        self.course = course
        self.watch = watch
        self._norms: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def clip(self) -> float:
        """Treat the gradients in place; return their norm after the remedies, before the bound.

        NaN if a remedy raises.
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
        """Whether a non-finite step is skipped instead of ending the run."""
        return any(isinstance(t.remedy, Nonfinite) for t in self.course.treatments)

    def norms(self) -> Mapping[str, float]:
        """Return the norm of this step before and after, and the reports of the remedies."""
        return self._norms | self._done

    def latest(self) -> Mapping[str, Any]:
        """Return everything known about the current gradient."""
        return self.watch.latest | self._norms

    def _norm(self) -> float:
        """Return the global norm of all gradients."""
        return math.hypot(*(float(p.grad.norm()) for p in self.parameters if p.grad is not None))
