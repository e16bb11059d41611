"""The boundary probe: exact dL/dh and dL/dc at a few instants, with the fused kernel in use.

The sequence is cut into chunks, the state carried from one to the next; at each cut the state is
an ordinary tensor of the graph, and its gradient is the total gradient at that instant.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class BoundaryProbe:
    """Run a torch layer in chunks and read the gradient at the cuts.

    Only for layers that run one way over dense input; values and gradients stay the same up to
    rounding. Costs about a tenth of a step with ten chunks.

    Args:
        layer: A unidirectional `torch.nn.RNN`, `LSTM` or `GRU`.
        chunks: Into how many parts a sequence is cut.

    Raises:
        ValueError: The layer is bidirectional: its second half cannot begin before the first ends.

    Attributes:
        exactness: What this measurement is worth, in words.
        is_on: Whether the next calls are probed.
        log10_grad: Time step -> per state the log10 norm of dL/ds_t of the last layer of the
            module over the batch.
    """

    exactness: ClassVar[str] = "exact at the cuts, nothing known between them"

    def __init__(self, layer: nn.Module, chunks: int = 10) -> None:
        if getattr(layer, "bidirectional", False):
            raise ValueError("a bidirectional layer cannot be run in chunks; use the input probe")
        self.is_on = False
        self.chunks = chunks
        self.log10_grad: dict[int, tuple[float, ...]] = {}
        self._layer = layer
        self._forward: Callable[..., Any] = layer.forward
        layer.forward = self._in_chunks  # type: ignore[method-assign]

    def close(self) -> None:
        """Give the layer its own forward back."""
        self._layer.__dict__.pop("forward", None)

    @property
    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Time steps of the cuts and log10 norm of dL/dh there."""
        steps = np.array(sorted(self.log10_grad), dtype=np.int64)
        return steps, np.array([self.log10_grad[int(t)][0] for t in steps])

    def _in_chunks(self, input: Any, hx: Any = None, lengths: Any = None) -> Any:
        if lengths is not None:  # rows of several lengths are left whole
            return self._forward(input, hx, lengths)
        usable = isinstance(input, Tensor) and input.dim() == 3 and torch.is_grad_enabled()
        time = 1 if getattr(self._layer, "batch_first", False) else 0
        if not (self.is_on and usable and input.shape[time] > self.chunks):
            return self._forward(input, hx)
        self.log10_grad = {}
        outputs: list[Tensor] = []
        parts = input.tensor_split(self.chunks, dim=time)
        step = -1
        for part in parts:
            output, hx = self._forward(part, hx)
            outputs.append(output)
            step += part.shape[time]
            if part is not parts[-1]:
                hx = self._cut(hx, output, step, time)
        return torch.cat(outputs, time), hx

    def _cut(self, hx: Any, output: Tensor, step: int, time: int) -> Any:
        """Hook the carried state; what reads the output at the cut is added to its h."""
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        found: dict[int, Tensor] = {}
        seen: list[Tensor] = []

        def note() -> None:
            parts = [*seen, *(found[i] for i in (0,) if i in found)]
            rest = [found[i] for i in range(1, len(states)) if i in found]
            self.log10_grad[step] = tuple(
                float(torch.linalg.vector_norm(g, dtype=torch.float64).log10())
                for g in (torch.stack(parts).sum(0), *rest)
            )

        def keep(index: int) -> Callable[[Tensor], None]:
            def hook(grad: Tensor) -> None:
                found[index] = grad[-1].detach()
                note()

            return hook

        for index, state in enumerate(states):
            if state.requires_grad:
                state.register_hook(keep(index))
        if output.requires_grad:

            def at_output(grad: Tensor) -> None:
                seen.append(grad.select(time, -1).detach())
                note()

            output.register_hook(at_output)
        return hx
