"""One layer of a module over one input, every step replaced by its linear part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from steadygrad.cells import Cell
from steadygrad.flow.linearise_matrix import LinearisedMatrix
from steadygrad.nn import MatrixMemory, view
from steadygrad.nn.layer_view import Key
from steadygrad.scan import Layout, Linearised, ScanCall, Weights, scan


@dataclass(frozen=True)
class Trajectory:
    """One direction of one layer of a module, and what drives it.

    Attributes:
        cell: The recurrence.
        layout: Dense.
        rows: Input of all time steps, ``(N, I)``.
        weights: Of this direction.
        state: Before the first step, each ``(B, ·)``.
    """

    cell: Cell
    layout: Layout
    rows: Tensor
    weights: Weights
    state: tuple[Tensor, ...]

    def to(self, dtype: torch.dtype) -> "Trajectory":
        """The same in another precision."""
        names, tensors = zip(*self.weights.flat(), strict=True)
        return replace(
            self,
            rows=self.rows.to(dtype),
            weights=Weights.from_flat(names, [t.to(dtype) for t in tensors]),
            state=tuple(s.to(dtype) for s in self.state),
        )


def linearise(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> Linearised | LinearisedMatrix:
    """Run one layer of a module over ``x`` in float64 and linearise every step.

    What follows from it can be differentiated, down to the module's weights, ``x`` and ``state``.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a steadygrad layer: a
            `steadygrad.nn.Recurrent` or a `steadygrad.nn.MatrixMemory`, whose state counts as one
            vector.
        x: ``(T, B, I)``, ``(B, T, I)`` if the layer is ``batch_first``, or unbatched ``(T, I)``.
        state: As the layer takes it; zeros if not given.
        index: Which layer of a stack. The Jacobian of a stack over time is block triangular, so
            its Lyapunov exponents are those of its layers together.
        reverse: Take the reverse direction of a bidirectional layer.

    Raises:
        TypeError: No recurrent layer.
        ValueError: A shape, an index or a direction that the layer does not have.
    """
    if isinstance(layer, MatrixMemory):
        if index or reverse:
            raise ValueError(
                f"{type(layer).__name__}: it is one layer that runs forward in time; expected "
                f"index=0 and reverse=False, got {index} and {reverse}"
            )
        given = state if state is None or isinstance(state, Tensor) else state[0]
        return LinearisedMatrix(layer, x, given)
    path = trajectory(layer, x, state, index=index, reverse=reverse)
    return Linearised(path.cell, path.layout, path.rows, path.weights, path.state)


def trajectory(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> Trajectory:
    """What `linearise` linearises, with the arguments that it takes."""
    seen = view(layer)
    kind = type(layer).__name__
    if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.shape[-1] != seen.input_size:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{kind}: x must be (T, B, {seen.input_size}) or (T, {seen.input_size}), got {got}; "
            "a packed batch has rows of many lengths: give rows of one length"
        )
    if x.numel() == 0:
        raise ValueError(f"{kind}: x holds no time step, got shape {tuple(x.shape)}")
    seen.check(index, reverse)

    def step(
        key: Key, rows: Tensor, weights: Weights, start: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, Trajectory | None]:
        if key == (index, reverse):
            return rows, Trajectory(seen.cell, layout, rows, weights, start)
        return scan(ScanCall(seen.cell, rows, weights, start, layout))[0], None

    _, found = seen.run(seen.read(x, state), step, torch.float64, last=(index, reverse))
    path = found[index, reverse]
    assert path is not None
    return path
