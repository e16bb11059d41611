"""What can be measured, whatever it is made of: one protocol, and what each kind has to say.

A `Recurrence` is one call of a layer, known from outside: what went in, what came out, what the
loss sent to its results. It says where the loss enters, can tell one entry from the others, and can
be run again. A `Retrace` is that second run: it is walked back from any gradient at the results,
as often as one likes, and shows the gradient at every step as a `Tap`.

Layers that have a view are run again by our own scan (`ViewedCall`); layers with a loop of their
own are copied and called again with an observer in (`LoopedCall`).
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.gate_health import GateHealth, gate_health
from steadygrad.flow.looped_input import LoopedInput
from steadygrad.flow.replay import OutputGradient, Replay, Rows, rows_of, rows_read
from steadygrad.flow.sources import entries, only_from
from steadygrad.flow.state_growth import StateGrowth, state_growth
from steadygrad.nn import Looped
from steadygrad.scan import Layout, Tap


@dataclass(frozen=True)
class Strand:
    """What a retrace tells of one recurrence in it, one direction of one layer.

    Attributes:
        cell: Name of the recurrence.
        hidden_size: Features of its state.
        reverse: Whether it runs from the last step to the first.
        gates: Health of every gate, if it has gates that are known.
        growth: Size of every state over time.
        truncate: Steps after which the layer cuts the gradient.
        severed: Steps after which a loop around it hands the state on by value alone.
        is_reset: Whether its rows are reset within the call.
    """

    cell: str
    hidden_size: int
    reverse: bool = False
    gates: dict[str, GateHealth] = field(default_factory=dict)
    growth: dict[str, StateGrowth] = field(default_factory=dict)
    truncate: int | None = None
    severed: int | None = None
    is_reset: bool = False


@dataclass(frozen=True)
class Walk:
    """What one walk back through a call has seen.

    Attributes:
        taps: The gradient at every state, by the name of the strand.
        at_input: ``(T, B)``, log10 norm of the gradient at the input of each step; None where the
            steps are not those of the input, or there is no input.
    """

    taps: dict[str, Tap]
    at_input: Tensor | None


class Retrace(ABC):
    """A call run again in float64.

    Attributes:
        rows: Sequences of the batch that took part.
        difference: Largest difference between its output and the layer's own.
        strands: By name what there is to measure.
    """

    rows: int
    difference: float
    strands: dict[str, Strand]

    @abstractmethod
    def back(self, part: OutputGradient | None = None) -> Walk:
        """Walk back from a gradient at the results.

        Args:
            part: Shaped as the results of the call; what the whole loss sent if not given.
        """

    @abstractmethod
    def entries(self, part: OutputGradient) -> Tensor:
        """``(T, B)``: at which steps of which of its rows a gradient at the results enters."""


class Recurrence(ABC):
    """One call, and how to measure it.

    Args:
        call: What was caught.
    """

    both_ways: bool = False

    def __init__(self, call: Call) -> None:
        self.call = call

    @abstractmethod
    def entries(self, grad: OutputGradient) -> Tensor:
        """``(T, B)``: at which steps the loss enters."""

    @abstractmethod
    def only_from(self, grad: OutputGradient, step: int) -> OutputGradient:
        """The part of a gradient at the results that enters at one step."""

    @abstractmethod
    def sent(self, grad: OutputGradient, limit: int | None) -> Tensor:
        """``(B,)``: log10 norm of what a gradient at the results sends into each row.

        Args:
            grad: Shaped as the results of the call.
            limit: Rows of the batch to use at most.
        """

    @abstractmethod
    def retrace(self, grad: OutputGradient, limit: int | None) -> Retrace:
        """Run the call again, with at most so many rows of its batch."""


def recurrence_of(call: Call) -> Recurrence:
    """How a call is measured."""
    return LoopedCall(call) if isinstance(call.layer, Looped) else ViewedCall(call)


class ViewedCall(Recurrence):
    """A call of a layer that has a view, torch's or ours."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.both_ways = call.view.num_directions == 2
        self._latest: tuple[OutputGradient, int | None, Rows] | None = None

    def _rows(self, grad: OutputGradient, limit: int | None) -> Rows:
        """As `rows_of`; the same rows are asked for several times in a row."""
        latest = self._latest
        if latest is None or latest[0] is not grad or latest[1] != limit:
            self._latest = latest = grad, limit, rows_of(self.call, grad, limit)
        return latest[2]

    def entries(self, grad: OutputGradient) -> Tensor:
        return entries(self._rows(grad, None), 1 + self.both_ways)

    def only_from(self, grad: OutputGradient, step: int) -> OutputGradient:
        return only_from(self.call, grad, step)

    def sent(self, grad: OutputGradient, limit: int | None) -> Tensor:
        rows = self._rows(grad, limit)
        output = rows.output.abs().double().square().sum(1)
        total = Layout(rows.batch_sizes).pad(output, 0).sum(0)
        for state in rows.last:
            total = total + state.abs().double().square().sum((0, 2))
        return 0.5 * total.log10().cpu()

    def retrace(self, grad: OutputGradient, limit: int | None) -> Retrace:
        return _Replayed(self.call, grad, limit)


class _Replayed(Retrace):
    def __init__(self, call: Call, grad: OutputGradient, limit: int | None) -> None:
        self._call = call
        # Fixed here: the part of a gradient that is walked back later may be read in other rows.
        self._chosen = rows_read(call, grad, limit)
        self._latest: tuple[OutputGradient, Rows] | None = None
        self._replay = replay = Replay(call.layer, rows_of(call, grad, self._chosen))
        sizes = replay.rows.batch_sizes
        self.rows, view = sizes[0], replay.view
        self.difference = replay.reproduces(call, self._chosen)
        self.strands = {
            view.name(key, call.name): Strand(
                view.cell.name,
                view.hidden_size,
                key[1],
                gate_health(seen),
                state_growth(seen, Layout(sizes, key[1])),
                view.truncate,
                call.severed,
                call.chain is not None and call.chain.is_reset,
            )
            for key, seen in replay.observe().items()
        }

    def _rows(self, part: OutputGradient) -> Rows:
        if self._latest is None or self._latest[0] is not part:
            self._latest = part, rows_of(self._call, part, self._chosen)
        return self._latest[1]

    def back(self, part: OutputGradient | None = None) -> Walk:
        replay = self._replay
        if part is None:
            taps, grads = replay.walk()
        else:
            rows = self._rows(part)
            taps, grads = replay.walk(rows.output, rows.last)
        view = replay.view
        named = {view.name(key, self._call.name): taps[key] for key in view.keys if key in taps}
        norms = torch.linalg.vector_norm(grads, dim=1).log10()
        return Walk(named, Layout(replay.rows.batch_sizes).pad(norms, -torch.inf).cpu())

    def entries(self, part: OutputGradient) -> Tensor:
        return entries(self._rows(part), self._replay.view.num_directions)


class LoopedCall(Recurrence):
    """A call of a layer with a loop of its own."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._given = LoopedInput(call)

    def entries(self, grad: OutputGradient) -> Tensor:
        return self._given.entered(self._given.of(grad))

    def only_from(self, grad: OutputGradient, step: int) -> OutputGradient:
        return self._given.only(grad, step)

    def sent(self, grad: OutputGradient, limit: int | None) -> Tensor:
        given = self._given
        output, last = given.of(grad)
        total = torch.zeros(given.batch, dtype=torch.float64)
        axes = (given.layer.batch_axis_of_output, *(given.axis for _ in last))
        for g, axis in zip((output, *last), axes, strict=True):
            if g is not None:
                total += g.detach().movedim(axis, 0).flatten(1).abs().double().square().sum(1).cpu()
        return 0.5 * (total if limit is None or given.layer.mixes_rows else total[:limit]).log10()

    def retrace(self, grad: OutputGradient, limit: int | None) -> Retrace:
        return _CalledAgain(self.call.name, self._given, grad, limit)


class _CalledAgain(Retrace):
    """A copy in float64, called again, every state of every step at hand."""

    def __init__(
        self, name: str, given: LoopedInput, grad: OutputGradient, limit: int | None
    ) -> None:
        batch, layer = given.batch, given.layer
        # Where rows mix, some of them alone would be another computation.
        self._limit = None if layer.mixes_rows or limit is None or limit >= batch else limit
        self.rows = self._limit or batch
        self._layer, self._given = layer, given
        self._whole = self._cut(given.of(grad))
        again = copy.deepcopy(layer)
        again.owner.double().requires_grad_(False)
        states: dict[int, dict[str, dict[int, Tensor]]] = {}

        def see(name: str, step: int, value: Tensor) -> None:
            state, _, index = name.partition("_l")
            states.setdefault(int(index or 0), {}).setdefault(state, {})[step] = value

        again.on_state = see
        self._x = self._input(given.input).detach().to(torch.float64).requires_grad_()
        begun = again.restate([self._state(s).detach().to(_wide(s)) for s in given.state])
        named = {} if given.lengths is None else {"lengths": given.lengths[: self.rows]}
        with torch.enable_grad():
            result = again(self._x, *(() if begun is None else (begun,)), **named)
        output, last = result if isinstance(result, tuple) else (result, ())
        last = (last,) if isinstance(last, Tensor) else tuple(last)
        self._results = (output, *last)
        theirs = self._input(given.output.detach())
        self.difference = float((output.detach().to(theirs.dtype) - theirs).abs().max())
        many = len(states) > 1
        self._states = {f"{name}.l{i}" if many else name: s for i, s in states.items()}
        size = int(getattr(layer, "hidden_size", 0))
        self.strands = {
            strand: Strand(
                type(layer).__name__,
                size,
                growth=_growth(self._named(found)),
                is_reset=given.is_reset,
            )
            for strand, found in self._states.items()
        }

    def _input(self, value: Tensor) -> Tensor:
        """Of an input or output, or what is laid out as it is, the rows that take part."""
        return value if self._limit is None else self._layer.first_rows(value, self._limit)

    def _state(self, value: Tensor) -> Tensor:
        """Of a state, as it is handed in or out, the rows that take part."""
        axis = self._layer.batch_axis
        return value if self._limit is None else value.narrow(axis, 0, self._limit)

    def _cut(self, grad: OutputGradient) -> OutputGradient:
        output, last = grad
        return (
            None if output is None else self._input(output),
            tuple(None if g is None else self._state(g) for g in last),
        )

    def _named(self, found: dict[str, dict[int, Tensor]]) -> dict[str, dict[int, Tensor]]:
        """States in the order of the layer; the one that is followed is called h everywhere."""
        names = [n for n in self._layer.states if n in found]
        return {"h" if i == 0 else n: found[n] for i, n in enumerate(names)}

    def entries(self, part: OutputGradient) -> Tensor:
        return self._given.entered(self._given.of(part))[:, : self.rows]

    def back(self, part: OutputGradient | None = None) -> Walk:
        output, last = self._whole if part is None else self._cut(self._given.of(part))
        pairs = [
            (r, g.detach().to(r.dtype))
            for r, g in zip(self._results, (output, *last), strict=True)
            if g is not None and r.requires_grad
        ]
        found = {name: self._named(states) for name, states in self._states.items()}
        wanted = [v for states in found.values() for by in states.values() for v in by.values()]
        *got, at_input = torch.autograd.grad(
            [r for r, _ in pairs],
            [*wanted, self._x],
            [g for _, g in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        by_id: dict[int, Tensor | None] = {id(v): g for v, g in zip(wanted, got, strict=True)}
        taps = {name: self._tap(states, by_id) for name, states in found.items()}
        return Walk(taps, None if at_input is None else self._layer.norms_at_input(at_input))

    def _tap(self, states: dict[str, dict[int, Tensor]], grads: Mapping[int, Tensor | None]) -> Tap:
        axis = self._layer.batch_axis_of_step
        steps = 1 + max(step for by in states.values() for step in by)
        present = torch.arange(steps)[:, None] <= self._given.ends[: self.rows]
        norms = torch.full((len(states), steps, self.rows), -torch.inf, dtype=torch.float64)
        bad = torch.zeros(len(states), steps, self.rows, dtype=torch.long)
        for i, by in enumerate(states.values()):
            for step, value in by.items():
                grad = grads[id(value)]
                if grad is not None:
                    flat = grad.movedim(axis, 0).flatten(1)
                    size = torch.linalg.vector_norm(flat, dim=1).log10().cpu()
                    norms[i, step] = torch.where(present[step], size, -torch.inf)
                    bad[i, step] = (~flat.isfinite()).sum(1).cpu()
        none = torch.empty(0, steps, self.rows, dtype=torch.float64)
        return Tap(tuple(states), (), norms, none, bad, present, False)


def _wide(value: Tensor) -> torch.dtype:
    return torch.complex128 if value.is_complex() else torch.float64


def _growth(states: dict[str, dict[int, Tensor]]) -> dict[str, StateGrowth]:
    """Size of each state before every step; what it began with is taken for nothing."""
    found: dict[str, StateGrowth] = {}
    for name, by in states.items():
        squares: list[Any] = [0.0]
        squares += [float(by[t].detach().abs().square().mean()) for t in sorted(by)[:-1]]
        with np.errstate(divide="ignore"):
            found[name] = StateGrowth(0.5 * np.log10(squares))
    return found
