"""A layer with matrices as state over one input, every step replaced by its linear part."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from steadygrad.nn import MatrixMemory
from steadygrad.scan import Layout, MatrixSteps, StepJacobian


class LinearisedMatrix:
    """As `steadygrad.scan.Linearised`, of a `steadygrad.nn.MatrixMemory`.

    Its state is one vector of ``F = N K V`` features, head after head, row after row.

    Args:
        layer: The layer.
        x: ``(T, B, I)``, ``(B, T, I)`` if the layer is ``batch_first``, or unbatched ``(T, I)``.
        state: ``(B, N, K, V)``, or ``(N, K, V)``; zeros if not given.

    Attributes:
        layout: Dense.
        hidden: ``(T·B, F)``, the state after every step.
        final: The last state.
        widths: ``(F,)``.

    Raises:
        ValueError: A shape is not what the layer takes.
    """

    def __init__(self, layer: MatrixMemory, x: Tensor, state: Tensor | None = None) -> None:
        if x.dim() == 2:
            x = x[None] if layer.batch_first else x[:, None]
            state = None if state is None else state[None]
        weights = {f"layer.{n}": p.to(torch.float64) for n, p in layer.named_parameters()}
        made = torch.func.functional_call(_Terms(layer), weights, (x.double(), state))
        self._steps, start = made
        states = [start]
        self._steps.one_by_one(start, lambda _, s: states.append(s))
        self._before = states[:-1]
        self.layout = Layout.dense(len(self._before), len(start))
        self.hidden = torch.cat([s.flatten(1) for s in states[1:]])
        self.final = (states[-1],)
        self.widths = (self.hidden.shape[1],)

    def steps(self) -> Iterator[slice]:
        """Rows of each time step."""
        return (slice(offset, offset + rows) for offset, rows in self.layout.steps())

    def push(self, rows: slice, v: Tensor) -> Tensor:
        """``J v`` of the rows of whole time steps, for ``v (M, F, k)``."""
        batch = self.layout.batch
        first, last = rows.start // batch, rows.stop // batch
        parts = [
            self._pushed(t, piece)
            for t, piece in zip(range(first, last), v.split(batch), strict=True)
        ]
        return torch.cat(parts)

    def jacobian(self, rows: slice) -> StepJacobian:
        """The Jacobians of the given rows, of whole time steps."""
        width = self.widths[0]
        eye = torch.eye(width).to(self.hidden).expand(rows.stop - rows.start, -1, -1)
        return StepJacobian(({0: self.push(rows, eye)},), self.widths)

    def _pushed(self, t: int, v: Tensor) -> Tensor:
        state = self._before[t]
        back = torch.func.vjp(lambda s: self._steps.step(t, s), state)[1]
        # The vjp is linear in the gradient, so the vjp of the vjp is the forward derivative.
        forward = torch.func.vjp(lambda g: back(g)[0], torch.zeros_like(state))[1]

        def along(column: Tensor) -> Tensor:
            return forward(column.unflatten(1, state.shape[1:]))[0]

        return torch.func.vmap(along, in_dims=-1, out_dims=-1)(v).flatten(1, 3)


class _Terms(nn.Module):
    def __init__(self, layer: MatrixMemory) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[MatrixSteps, Tensor]:
        return self.layer.terms(x, state)
