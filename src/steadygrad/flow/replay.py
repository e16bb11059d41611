"""The exact gradient at every time step of a layer, by running it again with taps in.

A fused kernel shows nothing of its inside. But the gradient inside follows from four things seen
from outside: the input, the initial state, the weights, and the gradient of the loss with respect
to the output. From these our own scan walks the layer once more, in float64, and reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from steadygrad.flow.capture import Call
from steadygrad.nn import Recurrent, twin_of
from steadygrad.nn.recurrent import LayerTap
from steadygrad.scan import Layout, Observed, Tap, is_codes, observe

OutputGradient = tuple[Tensor | None, tuple[Tensor | None, ...]]
"""Gradient at the output, and at each final state; None where the loss does not reach."""


@dataclass(frozen=True)
class Rows:
    """A call with the layout taken out: time first, batched, padded rows gone.

    Attributes:
        x: ``(N, I)``.
        batch_sizes: Rows at each time step.
        state: Initial state, each ``(L*D, B, ·)``, rows sorted as ``x``; empty if none.
        output: Gradient at the output, ``(N, D*P)``.
        last: Gradient at each final state, ``(L*D, B, ·)``.
        noise: What the cell drew in each layer and direction; None if it draws nothing.
    """

    x: Tensor
    batch_sizes: tuple[int, ...]
    state: tuple[Tensor, ...]
    output: Tensor
    last: tuple[Tensor, ...]
    noise: tuple[dict[str, Tensor], ...] | None = None


def rows_of(call: Call, grad: OutputGradient, limit: int | None = None) -> Rows:
    """Bring a call and its output gradient into the layout of the scan, detached.

    Args:
        call: What was caught.
        grad: Gradient of the loss with respect to ``call.output`` and ``call.last``.
        limit: Keep at most so many rows of the batch, the first ones (of a packed batch, the
            longest).
    """
    at_output, at_last = grad
    output = torch.zeros_like(call.output) if at_output is None else at_output
    last = [
        torch.zeros_like(s) if g is None else g for s, g in zip(call.last, at_last, strict=True)
    ]
    state = list(call.state)
    given = call.input
    if call.lengths is not None:
        given, output = (_packed(call, part) for part in (given, output))
        output = output.data
    if isinstance(given, PackedSequence):
        order = given.sorted_indices
        if order is not None:
            state = [s.index_select(1, order) for s in state]
            last = [g.index_select(1, order) for g in last]
        sizes = tuple(given.batch_sizes.tolist())
        x = _features(call, given.data)
    else:
        x = _features(call, given)
        if x.dim() == 2:
            x, output = x.unsqueeze(1), output.unsqueeze(1)
            state, last = [s.unsqueeze(1) for s in state], [g.unsqueeze(1) for g in last]
        elif getattr(call.layer, "batch_first", False):
            x, output = x.transpose(0, 1), output.transpose(0, 1)
        sizes = (x.shape[1],) * x.shape[0]
        x, output = x.flatten(0, 1), output.flatten(0, 1)
    noise = call.noise
    if call.noise_seed is not None and isinstance(call.layer, Recurrent):
        noise = tuple(call.layer.noise(len(x), sizes[0], call.noise_seed))
    rows = Rows(
        x.detach(), sizes, tuple(s.detach() for s in state), output.detach(), tuple(last), noise
    )
    return rows if limit is None else _first(rows, limit)


def _packed(call: Call, padded: Any) -> PackedSequence:
    first = bool(getattr(call.layer, "batch_first", False))
    assert call.lengths is not None
    return pack_padded_sequence(padded, call.lengths, first, enforce_sorted=False)


def _features(call: Call, x: Tensor) -> Tensor:
    """Codes of symbols as the one-hot features that they stand for."""
    if not is_codes(x):
        return x
    assert isinstance(call.layer.input_size, int)
    return nn.functional.one_hot(x.long(), call.layer.input_size).to(call.output.dtype)


def _first(rows: Rows, limit: int) -> Rows:
    if rows.batch_sizes[0] <= limit:
        return rows
    layout = Layout(rows.batch_sizes)
    kept = torch.cat(
        [
            torch.arange(offset, offset + min(count, limit), device=rows.x.device)
            for offset, count in layout.steps()
        ]
    )
    return Rows(
        rows.x[kept],
        tuple(min(count, limit) for count in rows.batch_sizes),
        tuple(s[:, :limit] for s in rows.state),
        rows.output[kept],
        tuple(g[:, :limit] for g in rows.last),
        rows.noise and tuple(_first_noise(drawn, kept, limit, rows) for drawn in rows.noise),
    )


def _first_noise(
    drawn: dict[str, Tensor], kept: Tensor, limit: int, rows: Rows
) -> dict[str, Tensor]:
    """Of noise per row, or per row and time step, what belongs to the first rows."""
    every = len(rows.x)
    return {n: value[kept] if len(value) == every else value[:limit] for n, value in drawn.items()}


def _keeper(taps: dict[tuple[int, bool], Tap]) -> LayerTap:
    # It must not know the replay: that holds the output, whose graph holds this, and the garbage
    # collector cannot see a circle that passes through autograd's own nodes.
    def keep(layer: int, reverse: bool, tap: Tap) -> None:
        taps[layer, reverse] = tap

    return keep


class Replay:
    """A layer run again, ready to be walked backward from any gradient at its output.

    Args:
        layer: The layer, torch's or ours; it is not touched.
        rows: The call, from `rows_of`.
        dtype: Of the replay; float64 keeps what float32 would flush to zero.
    """

    def __init__(self, layer: nn.Module, rows: Rows, dtype: torch.dtype = torch.float64) -> None:
        self.rows = rows
        self.twin: Recurrent = twin_of(layer, dtype)
        self.twin.batch_first = False
        self._x = rows.x.to(dtype).requires_grad_()
        packed = PackedSequence(self._x, torch.tensor(rows.batch_sizes))
        self._state = tuple(s.to(dtype) for s in rows.state) or None
        hx = self._state[0] if self._state and len(self._state) == 1 else self._state
        self._taps: dict[tuple[int, bool], Tap] = {}
        self.twin.on_tap = _keeper(self._taps)
        if rows.noise is not None:
            self.twin.fixed_noise = [
                {name: value.to(dtype) for name, value in drawn.items()} for drawn in rows.noise
            ]
        with torch.enable_grad():
            output, last = self.twin(packed, hx)
        self._output = output.data
        self._last = last if isinstance(last, tuple) else (last,)

    @property
    def x(self) -> Tensor:
        """The input, ``(N, I)``."""
        return self._x.detach()

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The initial state, each ``(L*D, B, ·)``."""
        return self._state or tuple(torch.zeros_like(s) for s in self._last)

    def backward(
        self, output: Tensor | None = None, last: Sequence[Tensor] | None = None
    ) -> dict[tuple[int, bool], Tap]:
        """Walk back from a gradient at the output (the caught one, if not given).

        Returns:
            What was seen, by layer and whether it is the reverse direction.
        """
        self._taps.clear()
        output = self.rows.output if output is None else output
        last = self.rows.last if last is None else last
        torch.autograd.grad(
            (self._output, *self._last),
            self._x,
            (output.to(self._output.dtype), *(g.to(self._output.dtype) for g in last)),
            retain_graph=True,
        )
        return dict(self._taps)

    def observe(self) -> dict[tuple[int, bool], Observed]:
        """Look into every layer and direction on the way forward."""
        seen: dict[tuple[int, bool], Observed] = {}
        x, state = self.x, self.state
        twin, batch = self.twin, self.rows.batch_sizes[0]
        noise = iter(twin.fixed_noise or list(twin.noise(len(x), batch, None)))
        for layer in range(twin.num_layers):
            for reverse in (False, True)[: twin.num_directions]:
                start = tuple(s[len(seen)] for s in state)
                weights = twin.weights(layer, reverse, next(noise))
                layout = Layout(self.rows.batch_sizes, reverse)
                seen[layer, reverse] = observe(twin.cell, x, weights, start, layout)
            x = torch.cat([o.hidden for key, o in seen.items() if key[0] == layer], -1)
        return seen

    def reproduces(self, call: Call, limit: int) -> float:
        """Largest difference between the replay's output and the layer's own.

        It is rounding if the replay is the same computation, and more if the layer did something
        else, such as dropout between its layers.
        """
        grad: OutputGradient = (call.output.detach(), (None,) * len(call.last))
        theirs = rows_of(call, grad, limit).output
        return float((self._output.detach().to(theirs.dtype) - theirs).abs().max())
