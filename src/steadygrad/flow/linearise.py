"""One layer of a module over one input, every step replaced by its linear part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from steadygrad.cells import Cell
from steadygrad.nn import cell_of
from steadygrad.scan import Layout, Linearised, Weights, scan


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
) -> Linearised:
    """Run one layer of a module over ``x`` in float64 and linearise every step.

    What follows from it can be differentiated, down to the module's weights, ``x`` and ``state``.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a steadygrad layer.
        x: ``(T, B, I)``, ``(B, T, I)`` if the layer is ``batch_first``, or unbatched ``(T, I)``.
        state: As the layer takes it; zeros if not given.
        index: Which layer of a stack. The Jacobian of a stack over time is block triangular, so
            its Lyapunov exponents are those of its layers together.
        reverse: Take the reverse direction of a bidirectional layer.

    Raises:
        TypeError: No recurrent layer.
        ValueError: A shape, an index or a direction that the layer does not have.
    """
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
    cell_of(layer)
    _check(layer, x, index, reverse)
    if x.dim() == 2:
        x = x.unsqueeze(1)
    elif getattr(layer, "batch_first", False):
        x = x.transpose(0, 1)
    steps, batch = x.shape[:2]
    directions = 2 if getattr(layer, "bidirectional", False) else 1
    states = _states(layer, state, batch, x)
    rows = x.reshape(steps * batch, -1).double()
    for below in range(index):
        made = []
        for back in range(directions):
            start = tuple(s[below * directions + back] for s in states)
            layout = Layout.dense(steps, batch, bool(back))
            weights = weights_of(layer, below, bool(back))
            made.append(scan(cell_of(layer), rows, weights, start, layout)[0])
        rows = torch.cat(made, 1)
    start = tuple(s[index * directions + int(reverse)] for s in states)
    layout = Layout.dense(steps, batch, reverse)
    return Trajectory(cell_of(layer), layout, rows, weights_of(layer, index, reverse), start)


def _check(layer: nn.Module, x: Tensor, index: int, reverse: bool) -> None:
    kind, layers = type(layer).__name__, int(getattr(layer, "num_layers", 1))
    if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.shape[-1] != layer.input_size:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{kind}: x must be (T, B, {layer.input_size}) or (T, {layer.input_size}), got {got}; "
            "a packed batch has rows of many lengths: give rows of one length"
        )
    if x.numel() == 0:
        raise ValueError(f"{kind}: x holds no time step, got shape {tuple(x.shape)}")
    if not 0 <= index < layers:
        raise ValueError(f"{kind} has {layers} layers, counted from 0; got index {index}")
    if reverse and not getattr(layer, "bidirectional", False):
        raise ValueError(f"{kind} has one direction; reverse needs a bidirectional layer")


def _states(
    layer: nn.Module, state: Tensor | Sequence[Tensor] | None, batch: int, x: Tensor
) -> tuple[Tensor, ...]:
    """The initial states, each ``(L*D, B, ·)`` in float64."""
    names = cell_of(layer).states
    count = int(layer.num_layers) * (2 if layer.bidirectional else 1)  # type: ignore[arg-type]
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    widths = [_width(layer)] + [hidden] * (len(names) - 1)
    if state is None:
        like = x.double()
        return tuple(like.new_zeros(count, batch, w) for w in widths)
    given = (state,) if isinstance(state, Tensor) else tuple(state)
    given = tuple(s.unsqueeze(1) if s.dim() == 2 else s for s in given)
    want = [(count, batch, w) for w in widths]
    if [tuple(s.shape) for s in given] != want:
        raise ValueError(
            f"{type(layer).__name__}: state must be {', '.join(names)} of shapes {want}, got "
            f"{[tuple(s.shape) for s in given]}"
        )
    return tuple(s.double() for s in given)


def _width(layer: nn.Module) -> int:
    """Features of h."""
    return int(getattr(layer, "proj_size", 0)) or int(layer.hidden_size)  # type: ignore[arg-type]


def weights_of(layer: nn.Module, index: int = 0, reverse: bool = False) -> Weights:
    """The weights of one direction of one layer as they are used, in float64, graph and all.

    A cell's noise is at its mean, as in evaluation: what a draw does is not the network's doing.
    """
    suffix = f"_l{index}" + ("_reverse" if reverse else "")

    def get(name: str) -> Tensor | None:
        value = getattr(layer, name + suffix, None)
        return value.double() if isinstance(value, Tensor) else None

    cell = cell_of(layer)
    units = [get(name) for name in cell.per_unit]
    weight_ih, stored = get("weight_ih"), get("weight_hh")
    assert weight_ih is not None
    # As the layer does, but from the stored weights in float64: an orthogonal matrix that was
    # made in float32 is one to seven digits only.
    weight_hh = (
        weight_ih.new_zeros(0, _width(layer)) if stored is None else cell.recurrent_matrix(stored)
    )
    hidden = len(weight_ih) // len(cell.gates)
    constants = {n: v.to(weight_ih) for n, v in cell.constants(hidden).items()}
    noise = {n: weight_ih.new_full((hidden,), v.mean) for n, v in cell.noise.items()}
    return Weights(
        weight_ih,
        weight_hh,
        get("bias_ih"),
        get("bias_hh"),
        get("weight_hr"),
        tuple(u for u in units if u is not None),
        constants,
        noise,
    )
