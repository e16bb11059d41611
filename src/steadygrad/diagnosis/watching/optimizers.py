"""The optimiser that moves the weights, and the moment at which its gradients are ready."""

from collections.abc import Callable
from typing import Any

import torch

_WRAPPED = ("optimizer", "original_optimizer", "base_optimizer", "optim")
"""Attributes under which wrappers keep the optimiser that they call: accelerate and Lightning,
Opacus, SAM and Lookahead, `torch.distributed.optim.ZeroRedundancyOptimizer`."""
_DEEPEST = 8  # wrappers in wrappers; more is a circle


def innermost(optimizer: object) -> torch.optim.Optimizer:
    """The optimiser whose ``step`` moves the weights, whatever wraps it.

    Raises:
        TypeError: There is no `torch.optim.Optimizer` in it.
    """
    found: Any = optimizer
    for _ in range(_DEEPEST):
        inner = next((i for n in _WRAPPED if _is_optimizer(i := getattr(found, n, None))), None)
        if inner is None or inner is found:
            break
        found = inner
    # A wrapper that never called Optimizer.__init__ has no place for hooks.
    if not _is_optimizer(found) or not hasattr(found, "_optimizer_step_pre_hooks"):
        raise TypeError(
            "watch: expected a torch.optim.Optimizer, or a wrapper that keeps one as "
            f".optimizer, got {type(optimizer).__module__}.{type(optimizer).__qualname__}; "
            "pass the torch optimiser whose step() moves the weights"
        )
    return found


def _is_optimizer(value: object) -> bool:
    return isinstance(value, torch.optim.Optimizer)


class ReadyGradients:
    """A step pre-hook that calls back when the gradients of the step are there.

    Without a closure they are there when ``step`` is called. With one, ``step(closure)``, the
    closure computes them: a hook that acted before it would look at the gradients of the step
    before, already zeroed or not. An optimiser may evaluate its closure several times in one step
    (L-BFGS); the first evaluation is the one at the weights that the step began with.

    Args:
        ready: Called once per step, when the gradients are there.
    """

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def __call__(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        # args[0] is the optimiser itself: torch hands on the bound call.
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._ready()
            return None
        wrapped = self._once_ready(closure)
        if len(args) > 1:
            return (args[0], wrapped, *args[2:]), kwargs
        return args, {**kwargs, "closure": wrapped}

    def _once_ready(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        is_first = True

        def evaluated() -> Any:
            nonlocal is_first
            loss = closure()
            if is_first:
                is_first = False
                self._ready()
            return loss

        return evaluated
