r"""The input probe: the gradient at a layer's input, as a cheap witness of the one inside.

.. math::
    \frac{\partial L}{\partial x_t} = W^\top \frac{\partial L}{\partial a_t}

with the pre-activations :math:`a_t`. Its norm over t falls and rises with that of dL/dh_t (their
logarithms correlate almost perfectly, with the same slope per step), and it costs next to
nothing. It is a witness and no measurement: what lies in the null space of W is not seen, and
a stacked module shows only its first layer.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.flow.hooks import Hook
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.nn import view
from steadygrad.nn.arrangement import Arrangement
from steadygrad.scan import Layout, is_codes, log10_sum_squares

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "log10_grad_input",
            "log10",
            "Norm of the gradient at a layer's input, time step by time step.",
        )
    ),
)


class InputProbe:
    """Read the gradient at the input of one recurrent layer while it trains.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a steadygrad layer.

    Attributes:
        exactness: What this measurement is worth, in words.
        is_on: Whether the next calls are probed.
        log10_grad: ``(T,)`` of the latest probed call, log10 norm over the batch; or None.
    """

    exactness: ClassVar[str] = (
        "witness: gradient at the layer's input, proportional to that inside up to W"
    )

    def __init__(self, layer: nn.Module) -> None:
        self.is_on = False
        self.log10_grad: NDArray[np.float64] | None = None
        self._handle = layer.register_forward_pre_hook(Hook(self._before), with_kwargs=True)

    def close(self) -> None:
        """Take the hook off."""
        self._handle.remove()

    def _before(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not (self.is_on and torch.is_grad_enabled()):
            return None
        given = args[0] if args else kwargs["input"]
        lengths = args[2] if len(args) > 2 else kwargs.get("lengths")
        # The hook must not hold the tensor that holds it: such a ring is never freed.
        arranged = view(layer).arrange(given, lengths)
        data = given.data if isinstance(given, PackedSequence) else given
        if data.requires_grad:
            data.register_hook(lambda grad: self._keep(grad, arranged))
            return None
        if is_codes(data):  # symbols have no gradient
            return None
        data = data.detach().requires_grad_()  # a leaf of its own: the caller's tensor stays as is
        data.register_hook(lambda grad: self._keep(grad, arranged))
        probed = (
            PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)
            if isinstance(given, PackedSequence)
            else data
        )
        return ((probed, *args[1:]), kwargs) if args else (args, kwargs | {"input": probed})

    @torch.no_grad()
    def _keep(self, grad: Tensor, arranged: Arrangement) -> None:
        rows = arranged.rows(grad)
        norms = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64).log10()
        norms = Layout(arranged.batch_sizes).pad(norms, -torch.inf)
        self.log10_grad = log10_sum_squares(norms).cpu().numpy()
