"""Leading Lyapunov exponents in a running training, measurement after measurement."""

import torch

from steadygrad.flow.adjoint import FIRST, retreat, segment_for
from steadygrad.flow.capture import Call
from steadygrad.flow.linearise import trajectory
from steadygrad.flow.lyapunov import LyapunovChain
from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "lyapunov_*",
            "nats per step",
            "How fast small differences of the state grow (above 0) or die (below 0).",
            title="Lyapunov exponents",
        )
    ),
)


class LiveExponents:
    """The k leading exponents of every layer, along the path of the batch that is trained on.

    They are measured the way that a gradient goes, in the layer's own precision where it has a
    compiled kernel; see `steadygrad.flow.adjoint`. The directions are kept from one measurement
    to the next, so that the transient is paid once.

    Args:
        k: How many.
        rows: Sequences of the batch to use at most.
    """

    def __init__(self, k: int, rows: int) -> None:
        if k < 1:
            raise ValueError(f"k counts exponents and must be at least 1, got {k}")
        self.k, self.rows = k, rows
        self._chains: dict[tuple[str, int], LyapunovChain] = {}
        self._segments: dict[tuple[str, int], int] = {}

    @torch.no_grad()
    def measure(self, call: Call) -> list[torch.Tensor]:
        """Exponents of each layer of a call's module, ``(k,)`` each, in nats per step.

        Nothing for a packed batch, whose sequences have many lengths. Of a bidirectional module
        the forward direction is measured.
        """
        if not call.is_viewed:  # its step Jacobian is not known
            return []
        arranged = call.arranged
        if not arranged.is_dense or arranged.is_step:
            return []
        x = arranged.first_rows(call.input, self.rows)
        state = tuple(s[:, : self.rows] if s.dim() == 3 else s for s in call.state) or None
        dtype = torch.float32 if call.output.dtype == torch.float32 else torch.float64
        found = []
        for index in range(call.view.num_layers):
            key = call.name, index
            path = trajectory(call.layer, x, state, index=index).to(dtype)
            fresh = LyapunovChain(min(self.k, sum(s.shape[1] for s in path.state)), qr_every=1)
            chain = self._chains.setdefault(key, fresh)
            chain.restart()
            retreat(chain, path, self._segments.get(key, FIRST))
            found.append(chain.exponents)
            self._segments[key] = segment_for(found[-1], dtype)
        return found
