"""The gradient layer by layer: how much of it reaches the first layers of a deep network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "through_depth", "1", "How much of the gradient reaches each layer of a deep network."
        )
    ),
)


def gradient_through_depth(
    model: nn.Module, loss_fn: Callable[[], Tensor], kinds: tuple[type[nn.Module], ...] = ()
) -> dict[str, float]:
    r"""Measure :math:`\log_{10} \lVert \partial L / \partial z_l \rVert` at the output of layers.

    Norms are over the whole output, batch included; a layer called twice counts the sum of its
    squares. Zero is ``-inf``. The model is not touched: ``.grad`` stays as it was.

    Args:
        model: Any model.
        loss_fn: Computes the scalar loss of one batch with ``model``.
        kinds: Modules to look at; `torch.nn.Linear` and the convolutions if not given.

    Returns:
        By the name of the module, in the order of the forward pass.

    Raises:
        ValueError: No such layer was called, or the loss is no scalar with a gradient.
    """
    kinds = kinds or (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(_noting(seen, name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        with torch.enable_grad():
            loss = loss_fn()
    finally:
        for handle in handles:
            handle.remove()
    if loss.numel() != 1 or not loss.requires_grad:
        raise ValueError("gradient_through_depth: loss_fn must return a scalar with a gradient")
    flat = [(name, value) for name, values in seen.items() for value in values]
    if not flat:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"gradient_through_depth: loss_fn called no layer of kind {names}")
    grads = torch.autograd.grad(loss, [v for _, v in flat], allow_unused=True)
    squares = dict.fromkeys(seen, 0.0)
    for (name, _), grad in zip(flat, grads, strict=True):
        squares[name] += 0.0 if grad is None else float(grad.double().square().sum())
    return {name: float(torch.tensor(s).sqrt().log10()) for name, s in squares.items()}


def _noting(seen: dict[str, list[Tensor]], name: str) -> Any:
    def note(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            seen.setdefault(name, []).append(output)

    return note
