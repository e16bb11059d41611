"""The gradient at every step of layers that no recurrence compiler runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.nn import Looped


def step_gradients(
    model: nn.Module, loss_fn: Callable[[], Tensor]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    r"""Measure :math:`\log_{10} \lVert \partial L / \partial s_t \rVert` over the batch.

    For the layers with a loop of their own, `steadygrad.nn.Looped`: steps are time steps, but for
    `steadygrad.nn.MDLSTM`, where they are anti-diagonals. `steadygrad.diagnose` does the same in
    float64, and more, for every recurrent layer. ``.grad`` stays as it was. Norms are in the
    layer's own precision: what underflows there is ``-inf``.

    Args:
        model: Any model.
        loss_fn: Computes the scalar loss of one batch with ``model``.

    Returns:
        By name of the layer and of the state, one value per step; ``-inf`` where no gradient came.

    Raises:
        ValueError: The model holds no such layer, or the loss is no scalar with a gradient.
    """
    layers: dict[str, Any] = {
        name or type(m).__name__.lower(): m
        for name, m in model.named_modules()
        if isinstance(m, Looped)
    }
    if not layers:
        raise ValueError(f"{type(model).__name__} holds no layer that shows its step gradients")
    found: dict[str, dict[str, dict[int, float]]] = {name: {} for name in layers}
    before = {name: layer.on_step_gradient for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.on_step_gradient = _keeper(found[name])
        with torch.enable_grad():
            loss = loss_fn()
        if loss.numel() != 1 or not loss.requires_grad:
            raise ValueError("step_gradients: loss_fn must return a scalar with a gradient")
        parameters = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for name, layer in layers.items():
            layer.on_step_gradient = before[name]
    return {
        name: {state: _row(values) for state, values in states.items()}
        for name, states in found.items()
    }


def _keeper(found: dict[str, dict[int, float]]) -> Callable[[str, int, Tensor], None]:
    def keep(state: str, step: int, grad: Tensor) -> None:
        squares = found.setdefault(state, {})
        squares[step] = squares.get(step, 0.0) + float(grad.double().square().sum())

    return keep


def _row(squares: dict[int, float]) -> NDArray[np.float64]:
    row = np.zeros(max(squares) + 1)
    for step, value in squares.items():
        row[step] = value
    with np.errstate(divide="ignore"):
        return np.log10(row) / 2
