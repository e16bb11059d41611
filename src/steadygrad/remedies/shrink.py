"""Shrinking gradients to a bound on their norms, and the account of it that all clips give."""

from typing import Any

import torch
from torch import Tensor

from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Scope

EPSILON = 1e-6  # torch adds it to the norm that it divides by


def shrink_(
    gradients: Gradients,
    norms: Tensor,
    bound: float | Tensor,
    scope: Scope = "all",
    norm_type: float = 2.0,
) -> dict[str, Tensor]:
    """Shrink the gradients of each scope to ``bound`` where their norm is longer.

    Args:
        gradients: Changed in place.
        norms: Of each gradient, ``(N,)``, as ``gradients.norms()`` gives them.
        bound: One for all, or one for each scope, ``(K,)``.
        scope: What one norm is taken over.
        norm_type: Of the norms.

    Returns:
        ``grad_norm`` before and ``grad_norm_clipped`` after, both over everything; ``clipped``,
        whether any norm was too long; ``nonfinite``; and ``norms`` of a scope that is not all.
    """
    of_scope = gradients.combined(norms, scope, norm_type)
    # Written as torch writes it: NaN passes through both, and makes every gradient NaN.
    factors = (bound / (of_scope + EPSILON)).clamp(max=1.0)
    if scope == "all":
        gradients.scale_(factors[0])
    elif len(gradients):
        gradients.scale_(factors[gradients.ids(scope)])
    return _account(of_scope, factors, norm_type, scope)


def _account(of_scope: Tensor, factors: Tensor, norm_type: float, scope: Scope) -> dict[str, Any]:
    after = of_scope * factors
    is_long = (factors < 1).any()
    if scope == "all":
        before, after = of_scope[0], after[0]
        return {
            "grad_norm": before,
            "grad_norm_clipped": after,
            "clipped": is_long,
            "nonfinite": before.isfinite().logical_not(),
        }
    before = torch.linalg.vector_norm(of_scope, norm_type)
    return {
        "grad_norm": before,
        "grad_norm_clipped": torch.linalg.vector_norm(after, norm_type),
        "clipped": is_long,
        "nonfinite": before.isfinite().logical_not(),
        "norms": of_scope,
    }
