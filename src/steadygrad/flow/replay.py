"""The exact gradient at every time step of a layer, by running it again with taps in.

A fused kernel shows nothing of its inside. But the gradient inside follows from four things seen
from outside: the input, the initial state, the weights, and the gradient of the loss with respect
to the output. From these our own scan walks the layer once more, in float64, and reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from steadygrad.flow.capture import Call
from steadygrad.nn import view
from steadygrad.nn.layer_view import Drive, Key
from steadygrad.nn.segments import Cuts, scan_in_segments
from steadygrad.scan import Layout, Observed, ScanCall, Tap, Weights, observe

OutputGradient = tuple[Tensor | None, tuple[Tensor | None, ...]]
"""Gradient at the output, and at each final state; None where the loss does not reach."""


@dataclass(frozen=True, kw_only=True)
class Rows(Drive):
    """A call and the gradient at its results, in rows.

    Attributes:
        output: Gradient at the output, ``(N, D*P)``.
        last: Gradient at each final state, ``(L*D, B, ·)``.
        begins: Per direction, before which rows ``(N,)`` the state is reset; empty if nowhere.
        burn_in: Steps at the beginning that pass no gradient on.
    """

    output: Tensor
    last: tuple[Tensor, ...]
    begins: tuple[Tensor, ...] = ()
    burn_in: int = 0


def rows_of(call: Call, grad: OutputGradient, limit: int | Tensor | None = None) -> Rows:
    """Bring a call and its output gradient into rows, detached.

    Args:
        call: What was caught.
        grad: Gradient of the loss with respect to ``call.output`` and ``call.last``.
        limit: Keep at most so many rows of the batch, as `rows_read` chooses them; or these rows,
            by ascending number.
    """
    at_output, at_last = grad
    output = torch.zeros_like(call.output) if at_output is None else at_output
    last = [
        torch.zeros_like(s) if g is None else g for s, g in zip(call.last, at_last, strict=True)
    ]
    arranged = call.arranged
    drive = call.view.read(call.input, call.state, call.lengths, call.noise_seed, arranged)
    begins: tuple[Tensor, ...] = ()
    if call.chain is None and call.resets is not None:  # a chain's rows are segments already
        flags = replace(arranged, resets=call.resets.to(output.device))
        ways = (False, True)[: call.view.num_directions]
        begins = tuple(f for f in map(flags.begins, ways) if f is not None)
    rows = Rows(
        x=drive.x.detach(),
        batch_sizes=drive.batch_sizes,
        state=tuple(s.detach() for s in drive.state),
        noise=drive.noise if call.noise is None else call.noise,
        output=arranged.rows(output).detach(),
        last=arranged.states(last),
        begins=begins,
        burn_in=call.view.burn_in if call.chain is None else 0,
    )
    chosen = _read(rows, limit) if isinstance(limit, int) else limit
    return rows if chosen is None else _taken(rows, chosen)


def rows_read(call: Call, grad: OutputGradient, limit: int | None) -> Tensor | None:
    """Which rows of a call's batch to measure, ascending; None for all.

    Those that the loss reads come first: of a masked batch, or where a loss takes some rows alone,
    the others carry no gradient. Of each kind the first ones are taken (of a packed batch, the
    longest).

    Args:
        call: What was caught.
        grad: What the loss sent to its results.
        limit: How many rows at most.
    """
    return None if limit is None else _read(rows_of(call, grad), limit)


def _read(rows: Rows, limit: int) -> Tensor | None:
    if rows.batch_sizes[0] <= limit:
        return None
    layout = Layout(rows.batch_sizes)
    is_read = layout.pad((rows.output != 0).any(1), False).any(0)
    for grad in rows.last:
        is_read = is_read | (grad != 0).any(-1).any(0)
    return (~is_read).to(torch.uint8).argsort(stable=True)[:limit].sort().values


def _taken(rows: Rows, chosen: Tensor) -> Rows:
    chosen = chosen.to(rows.x.device)
    batch, steps = rows.batch_sizes[0], len(rows.batch_sizes)
    if rows.batch_sizes[-1] == batch and rows.noise is None:  # all of one length

        def kept_of(value: Tensor) -> Tensor:
            return value.reshape(steps, batch, *value.shape[1:])[:, chosen].flatten(0, 1)

        return Rows(
            x=kept_of(rows.x),
            batch_sizes=(len(chosen),) * steps,
            state=tuple(s[:, chosen] for s in rows.state),
            noise=None,
            output=kept_of(rows.output),
            last=tuple(g[:, chosen] for g in rows.last),
        )
    layout = Layout(rows.batch_sizes)
    # Rows are sorted by length: those that are there at a step are the first ones.
    sizes = [int((chosen < count).sum()) for _, count in layout.steps()]
    kept = torch.cat([offset + chosen[chosen < count] for offset, count in layout.steps()])
    return Rows(
        x=rows.x[kept],
        batch_sizes=tuple(size for size in sizes if size),
        state=tuple(s[:, chosen] for s in rows.state),
        noise=rows.noise and tuple(_noise(drawn, kept, chosen, rows) for drawn in rows.noise),
        output=rows.output[kept],
        last=tuple(g[:, chosen] for g in rows.last),
        begins=tuple(flags[kept] for flags in rows.begins),
        burn_in=rows.burn_in,
    )


def _noise(drawn: dict[str, Tensor], kept: Tensor, chosen: Tensor, rows: Rows) -> dict[str, Tensor]:
    """Of noise per row, or per row and time step, what belongs to the chosen rows."""
    every = len(rows.x)
    return {n: value[kept] if len(value) == every else value[chosen] for n, value in drawn.items()}


def _keeper(taps: dict[Key, Tap], key: Key) -> Callable[[Tap], None]:
    # It must not know the replay: that holds the output, whose graph holds this, and the garbage
    # collector cannot see a circle that passes through autograd's own nodes.
    def keep(tap: Tap) -> None:
        taps[key] = tap

    return keep


class Replay:
    """A layer run again, ready to be walked backward from any gradient at its output.

    Args:
        layer: The layer, torch's or ours; it is not touched.
        rows: The call, from `rows_of`.
        dtype: Of the replay; float64 keeps what float32 would flush to zero.

    Attributes:
        view: Of the layer.
        rows: The call.
        hidden: Output of the replay, ``(N, D*P)``.
        last: Its final states, each ``(L*D, B, ·)``.
    """

    def __init__(self, layer: nn.Module, rows: Rows, dtype: torch.dtype = torch.float64) -> None:
        self.rows, self.view, self._dtype = rows, view(layer), dtype
        self._x = rows.x.to(dtype).requires_grad_()
        self._taps: dict[Key, Tap] = {}
        with torch.enable_grad():
            self.hidden, ends = self.view.run(replace(rows, x=self._x), self._scan, dtype)
            self.last = tuple(torch.stack(states) for states in zip(*ends.values(), strict=True))

    def _scan(
        self, key: Key, x: Tensor, weights: Weights, state: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        call = ScanCall(
            self.view.cell,
            x,
            _detached(weights),  # no gradient of theirs is wanted: none is computed
            tuple(state),
            layout,
            *self._anew(key),
            clip=self.view.clip,
            on_tap=_keeper(self._taps, key),
        )
        return scan_in_segments(call, Cuts(self.view.truncate, burn_in=self.rows.burn_in))

    def _anew(self, key: Key) -> tuple[Tensor | None, tuple[Tensor, ...] | None]:
        """Where the rows of one direction begin anew, and with which state."""
        if not self.rows.begins:
            return None, None
        start = self.view.start(self._x.detach(), 1)
        return self.rows.begins[key[1]], tuple(s[self.view.keys.index(key), 0] for s in start)

    @property
    def x(self) -> Tensor:
        """The input, ``(N, I)``."""
        return self._x.detach()

    def backward(
        self, output: Tensor | None = None, last: Sequence[Tensor] | None = None
    ) -> dict[Key, Tap]:
        """Walk back from a gradient at the output (the caught one, if not given).

        Returns:
            What was seen, by layer and whether it is the reverse direction.
        """
        return self.walk(output, last)[0]

    def walk(
        self, output: Tensor | None = None, last: Sequence[Tensor] | None = None
    ) -> tuple[dict[Key, Tap], Tensor]:
        """As `backward`, and the gradient at the input, ``(N, I)``."""
        self._taps.clear()
        output = self.rows.output if output is None else output
        last = self.rows.last if last is None else last
        (at_input,) = torch.autograd.grad(
            (self.hidden, *self.last),
            self._x,
            (output.to(self._dtype), *(g.to(self._dtype) for g in last)),
            retain_graph=True,
        )
        return dict(self._taps), at_input

    @torch.no_grad()
    def observe(self) -> dict[Key, Observed]:
        """Record every layer and direction during the forward pass."""
        cell = self.view.cell

        def look(
            key: Key, x: Tensor, weights: Weights, state: tuple[Tensor, ...], layout: Layout
        ) -> tuple[Tensor, Observed]:
            seen = observe(ScanCall(cell, x, weights, state, layout, *self._anew(key)))
            return seen.hidden, seen

        return self.view.run(self.rows, look, self._dtype)[1]

    def reproduces(self, call: Call, limit: int | Tensor | None) -> float:
        """Largest difference between the replay's output and the layer's own.

        It is rounding if the replay is the same computation, and more if the layer did something
        else, such as dropout between its layers.
        """
        grad: OutputGradient = (call.output.detach(), (None,) * len(call.last))
        theirs = rows_of(replace(call, noise_seed=None), grad, limit).output
        return float((self.hidden.detach().to(theirs.dtype) - theirs).abs().max())


def _detached(weights: Weights) -> Weights:
    names, tensors = zip(*weights.flat(), strict=True)
    return Weights.from_flat(names, [t.detach() for t in tensors])
