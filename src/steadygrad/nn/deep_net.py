"""A deep feed-forward network: the same fading of the gradient, in depth instead of time."""

from typing import Literal, final

import torch
from torch import Tensor, nn

_ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda x: x,
}


@final
class DeepNet(nn.Module):
    r"""Layers of one width, one after the other.

    .. math::
        a_l = \phi(W_l a_{l-1} + b_l), \qquad l = 1 \dots L, \qquad y = W a_L + b

    As in a recurrence unrolled, but with other weights in every layer, the gradient at layer l is
    a product of L - l Jacobians :math:`\operatorname{diag}(\phi') W`. With logistic units
    (:math:`\phi' \le 1/4`) it loses at least :math:`\log_{10}(4/\sigma_{\max}(W))` decades a layer.
    `steadygrad.flow.gradient_through_depth` measures it. Not compiled: there is no recurrence.

    Args:
        input_size: Features of the input.
        hidden_size: Units of each layer.
        output_size: Features of the output.
        depth: Hidden layers, L.
        activation: ``"sigmoid"``, ``"tanh"``, ``"relu"`` or ``"identity"``.
        residual: Whether a layer adds to what it reads, :math:`a_l = a_{l-1} + \phi(\cdot)`, from
            the second on: the gradient then has a path of factor one.

    Shapes:
        Input ``(..., I)``, output ``(..., O)``.

    References:
        Hochreiter, *Untersuchungen zu dynamischen neuronalen Netzen*, 1991.
        Glorot and Bengio, *Understanding the Difficulty of Training Deep Networks*, 2010.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        depth: int,
        activation: Literal["sigmoid", "tanh", "relu", "identity"] = "sigmoid",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if min(input_size, hidden_size, output_size, depth) < 1:
            raise ValueError(
                "DeepNet: sizes and depth must be at least 1, got "
                f"{input_size}, {hidden_size}, {output_size}, depth {depth}"
            )
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"DeepNet: activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}"
            )
        self.activation, self.residual = activation, residual
        widths = [input_size] + [hidden_size] * (depth - 1)
        self.layers = nn.ModuleList(nn.Linear(width, hidden_size) for width in widths)
        self.readout = nn.Linear(hidden_size, output_size)

    def activations(self, x: Tensor) -> list[Tensor]:
        r""":math:`a_1 \dots a_L`."""
        found: list[Tensor] = []
        for layer in self.layers:
            new = _ACTIVATIONS[self.activation](layer(x))
            x = x + new if self.residual and found else new
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers."""
        return self.readout(self.activations(x)[-1])
