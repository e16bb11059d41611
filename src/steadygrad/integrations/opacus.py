"""Opacus: ``OutputOnly(layer)`` is a recurrent layer that it differentiates sample by sample.

Opacus runs every module that has weights of its own again for each sample, from the gradient at
its output, one tensor. A recurrent layer returns its last state as well: Opacus fails there, as it
does for those of torch.
"""

from torch import Tensor, nn
from torch.func import functional_call

from steadygrad.nn import Recurrent


class OutputOnly(nn.Module):
    """A recurrent layer without states: input to output, for ``GradSampleModule``.

    Give Opacus the ``batch_first`` of the layer, and no state: gradients through the last state
    it cannot see, so there is none.

    Args:
        layer: A layer of this library. Its parameters become those of this module, too.

    Attributes:
        layer: The layer, which a watch finds.

    Raises:
        TypeError: It is no such layer. For torch's there are Opacus' own, as ``DPLSTM``.

    Example:
        >>> import steadygrad as sg
        >>> module = OutputOnly(sg.LSTM(3, 8, batch_first=True))
        >>> private = GradSampleModule(nn.Sequential(module, nn.Linear(8, 1)))  # doctest: +SKIP
    """

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        if not isinstance(layer, Recurrent):
            raise TypeError(
                f"OutputOnly: expected a layer of steadygrad, such as sg.LSTM, got "
                f"{type(layer).__name__}; for torch's layers use opacus.layers"
            )
        # Its own: Opacus looks no further than a module that has parameters itself.
        self._own_names = {name: name.replace(".", "_") for name, _ in layer.named_parameters()}
        for name, parameter in layer.named_parameters():
            self.register_parameter(self._own_names[name], parameter)
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        """The output of the layer, ``(B, T, ·)`` or ``(T, B, ·)``."""
        # Opacus puts a sample's weights in the place of those of this module, not of the layer.
        weights = {name: getattr(self, own) for name, own in self._own_names.items()}
        return functional_call(self.layer, weights, (input,))[0]
