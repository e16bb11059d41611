"""Shrink gradients to a bound on their norms, and report it, as all clips do."""

import torch
from torch import Tensor

from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Scope

EPSILON = 1e-6  # added to the norm in torch's clip_grad_norm_


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
        norms: Norm of each gradient, ``(N,)``, from ``gradients.norms()``.
        bound: One for all, or one per scope, ``(K,)``.
        scope: The parameters that share a norm.
        norm_type: Order of the norms.

    Returns:
        ``grad_norm`` before and ``grad_norm_clipped`` after, both over all; ``clipped``, whether
        any norm exceeded the bound; ``nonfinite``; and ``norms`` unless the scope is all.
    """
    of_scope = gradients.combined(norms, scope, norm_type)
    # As in torch: a NaN norm passes through clamp, and makes every gradient NaN.
    factors = (bound / (of_scope + EPSILON)).clamp(max=1.0)
    gradients.scale_(factors, scope)
    is_long = of_scope > bound
    is_long = is_long[0] if scope == "all" else is_long.any()
    return account(of_scope, of_scope * factors, is_long, scope, norm_type)


def account(
    before: Tensor, after: Tensor, clipped: Tensor, scope: Scope = "all", norm_type: float = 2.0
) -> dict[str, Tensor]:
    """Report a clip, from the norms of its scopes before and after."""
    if scope == "all":
        whole, left = before[0], after[0]
    else:
        whole, left = (torch.linalg.vector_norm(n, norm_type) for n in (before, after))
    report = {
        "grad_norm": whole,
        "grad_norm_clipped": left,
        "clipped": clipped,
        "nonfinite": whole.isfinite().logical_not(),
    }
    return report if scope == "all" else report | {"norms": before}
