"""Levenberg-Marquardt: least squares for networks of a few hundred weights."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap


@dataclass(frozen=True)
class Fit:
    """What a fit came to.

    Attributes:
        losses: Mean squared residual before the first step and after every accepted one.
        reason: Why it ended: ``"gradient"``, ``"damping"``, ``"steps"`` or ``"validation"``.
        validation: Mean squared residual of a validation part at the same moments, if there is one.
    """

    losses: list[float]
    reason: str
    validation: list[float] = field(default_factory=list)


def levenberg_marquardt(
    model: nn.Module,
    residuals: Callable[[Callable[..., Any]], Tensor],
    *,
    steps: int = 100,
    damping: float = 1e-3,
    least_gradient: float = 1e-10,
    most_damping: float = 1e10,
    chunk: int = 32,
    stop: Callable[[], bool] | None = None,
) -> Fit:
    r"""Minimise :math:`\lVert e(w) \rVert^2` over all trained parameters of ``model``, in place.

    .. math::
        (J^\top J + \mu I)\, \Delta w = -J^\top e, \qquad J = \partial e / \partial w

    A step that lowers the sum of squares is kept and :math:`\mu` divided by 10, else it is taken
    back and :math:`\mu` multiplied by 10. J comes by forward differentiation, so a residual that
    runs through a feedback loop carries its sensitivities along with it; where these explode, so
    does J, and damping rises instead of the weights. Solved in float64.

    Args:
        model: Its parameters that require a gradient are fitted.
        residuals: Given a function that calls ``model`` (arguments as ``model``'s; a method by
            ``method="free_run"``), returns the residuals, of any shape.
        steps: Most accepted or refused trials.
        damping: First :math:`\mu`.
        least_gradient: Stop when :math:`\lVert J^\top e \rVert_\infty` is below.
        most_damping: Stop when :math:`\mu` is above.
        chunk: Columns of J at a time: less memory, more time.
        stop: Is called after every accepted step, its weights in ``model``; True ends the fit.

    Raises:
        ValueError: The residuals are not finite at the start.

    References:
        Marquardt, *An Algorithm for Least-Squares Estimation of Nonlinear Parameters*, 1963.
        Hagan and Menhaj, *Training Feedforward Networks with the Marquardt Algorithm*, 1994.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    shapes = {name: p.shape for name, p in trained.items()}
    dtype = next(iter(trained.values())).dtype
    caller = _Caller(model)

    def errors(flat: Tensor) -> Tensor:
        parts = flat.to(dtype).split([s.numel() for s in shapes.values()])
        values = {f"model.{n}": v.view(s) for (n, s), v in zip(shapes.items(), parts, strict=True)}

        def call(*args: object, **kwargs: object) -> object:
            return functional_call(caller, values, args, kwargs)

        return residuals(call).flatten().double()

    w = torch.cat([p.detach().flatten() for p in trained.values()]).double()
    with torch.no_grad():
        e = errors(w)
    if not bool(e.isfinite().all()):
        raise ValueError("levenberg_marquardt: the residuals are not finite at the start")
    losses, reason, stale = [float(e.square().mean())], "steps", True
    normal = gradient = e
    for _ in range(steps):
        if stale:
            rows = _jacobian(errors, w, chunk)
            normal, gradient = rows @ rows.T, rows @ e
            if float(gradient.abs().max()) < least_gradient:
                reason = "gradient"
                break
        eye = torch.eye(len(w), dtype=w.dtype, device=w.device)
        new = w - torch.linalg.solve(normal + damping * eye, gradient)
        with torch.no_grad():
            new_e = errors(new)
        stale = bool(new_e.square().sum() < e.square().sum())  # a NaN is no improvement
        if stale:
            w, e, damping = new, new_e, max(damping / 10, 1e-20)
            losses.append(float(e.square().mean()))
            if stop is not None:
                _write(trained, w)
                if stop():
                    reason = "validation"
                    break
        else:
            damping *= 10
        if damping > most_damping:
            reason = "damping"
            break
    _write(trained, w)
    return Fit(losses, reason)


@torch.no_grad()
def _jacobian(errors: Callable[[Tensor], Tensor], w: Tensor, chunk: int) -> Tensor:
    """The transposed Jacobian, one row per weight."""
    directions = torch.eye(len(w), dtype=w.dtype, device=w.device)
    with warnings.catch_warnings():
        # torch's own forward differentiation compiles its rules with what torch deprecates.
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", DeprecationWarning)
        return vmap(lambda v: jvp(errors, (w,), (v,))[1], chunk_size=chunk)(directions)


class _Caller(nn.Module):
    """Lets a functional call reach any method of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: object, method: str = "forward", **kwargs: object) -> object:
        return getattr(self.model, method)(*args, **kwargs)


@torch.no_grad()
def _write(trained: dict[str, nn.Parameter], flat: Tensor) -> None:
    parts = flat.split([p.numel() for p in trained.values()])
    for parameter, part in zip(trained.values(), parts, strict=True):
        parameter.copy_(part.view_as(parameter))
