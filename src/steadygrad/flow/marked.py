r"""States that a loop marks itself: any recurrence, whatever computes it.

A loop written by hand (``h = torch.tanh(wx(x[t]) + wh(h))``), a fused kernel of somebody else's, a
solver's steps: nothing there is a layer, so nothing can be run again. What can be had is the
gradient that the backward pass itself computes at every marked state, and how much of it comes from
where. Where the gradient of a chosen step arrives, it is walked back by itself over the part of the
graph that the backward pass has not reached yet:

.. math::
    g_{s \to t} = \left(\frac{\partial h_s}{\partial h_t}\right)^\top g_s

with :math:`g_s` the gradient that entered since the last chosen step.
"""

import math
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from steadygrad.flow.after_backward import after_backward
from steadygrad.flow.by_lag import median_curve
from steadygrad.flow.graph_uses import nearest_leaves
from steadygrad.flow.sources import spread
from steadygrad.flow.state_growth import StateGrowth
from steadygrad.flow.through_time import TimeFlow

MOST_STATES = 20_000
"""Kept at once: a bound on memory if forward passes come without backward ones."""
ENTERS = 1e-3
"""Share of a gradient that has to be new for it to count as entering; single precision loses
1e-6 at a step."""

_open: weakref.WeakSet["Marks"] = weakref.WeakSet()


def mark(state: Tensor, name: str = "state", *, step: int | None = None, steps: int = 1) -> Tensor:
    """Let the gradient at a state of a loop of one's own be measured.

    Call it once for every time step, on the state that the next step reads::

        for t in range(len(x)):
            h = torch.tanh(self.input(x[t]) + self.recurrent(h))
            h = sg.mark(h, "h")

    Or, where a fused kernel takes many steps, once for every call of it::

        for t in range(0, len(x), 16):
            y, S = kernel(x[t : t + 16], S)
            S = sg.mark(S, "S", steps=16)

    `steadygrad.diagnose` and `steadygrad.watch` then treat the loop as a recurrence of that name.
    Without an active measurement, and under `torch.no_grad`, it does nothing.

    Args:
        state: What one step hands to the next, of any shape.
        name: What reports call it. States that are marked under one name are steps of one sequence.
        step: The time step. Where it does not go on from the last one a new sequence begins; give
            it where a loop runs several times before one backward pass.
        steps: Time steps since the mark before; of those in between the gradient is interpolated.

    Returns:
        The same tensor.

    Raises:
        TypeError: ``state`` is no tensor.
        ValueError: ``steps`` is no whole number from 1.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"mark: steps counts time steps, a whole number from 1, got {steps!r}")
    if not isinstance(state, Tensor):
        raise TypeError(
            f"mark: expected one tensor, got {type(state).__name__}; mark each state of a step by "
            'itself: h = sg.mark(h, "h"); c = sg.mark(c, "c")'
        )
    if _open and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        for marks in list(_open):
            marks.add(state, name, step, steps)
    return state


@dataclass
class _Sequence:
    """Steps that were marked under one name.

    Attributes:
        width: Features of the state.
        dtype: Of the state.
        edges: Where each state stands in the graph; None where it has no gradient.
        sizes: log10 of the root mean square of each state.
        norms: By step, log10 of the norm of the gradient that arrived.
        nonfinite: By step, elements of that gradient that are not finite.
        curves: Per source the log10 share of its gradient by lag.
        chosen: Steps to measure from, latest first; None before any gradient arrived.
        sent: By chosen step, what the sources after it sent there.
        last_step: The time step that the loop gave last.
        times: The time of each state: 0 for the first, then by the steps between.
    """

    width: int
    dtype: torch.dtype
    edges: list[GradientEdge | None] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)
    norms: dict[int, float] = field(default_factory=dict)
    nonfinite: dict[int, int] = field(default_factory=dict)
    curves: list[NDArray[np.float64]] = field(default_factory=list)
    chosen: list[int] | None = None
    sent: dict[int, Tensor] = field(default_factory=dict)
    last_step: int | None = None
    times: list[int] = field(default_factory=list)
    severed: int | None = None


class Marks:
    """Collects what is marked between two training steps.

    Args:
        lag: Steps back that matter; sources are chosen deep enough for it.
        sources: From how many steps to measure at most.
        model: Whose loops are meant; those of any model if not given. A loop is that of the model
            whose parameters made its first state.

    Attributes:
        is_used: Whether a state of the model was ever marked, looked at or not.
        is_looking: Whether states are taken up; turned off between two looks.
        seconds: Time that was spent on this; the reader resets it to zero.
    """

    def __init__(
        self, lag: int | None = None, sources: int = 5, model: nn.Module | None = None
    ) -> None:
        self._lag, self._count, self._model = lag, sources, model
        self.is_used = False
        self.is_looking = True
        self.seconds = 0.0
        self._went_back = self._is_inside = self._is_over = False
        self._sequences: dict[str, _Sequence] = {}
        self._latest: dict[str, str] = {}
        self._others: set[str] = set()  # names of loops of other models
        self._waiting: dict[
            str, tuple[Tensor, int | None, int]
        ] = {}  # first states, not yet known whose

    def open(self) -> None:
        """Begin to take up states."""
        _open.add(self)

    def close(self) -> None:
        """Take up no more, and let go of the graph; what was measured stays."""
        _open.discard(self)
        self._release()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def clear(self) -> None:
        """Forget the step."""
        self._sequences, self._latest = {}, {}
        self._others, self._waiting = set(), {}
        self._went_back = self._is_over = False

    @property
    def has_seen(self) -> bool:
        """Whether a gradient has come back to a marked state since `clear`."""
        return self._went_back

    def __bool__(self) -> bool:
        return bool(self._sequences)

    def add(self, state: Tensor, name: str, step: int | None, steps: int = 1) -> None:
        """Take up one state; see `mark`."""
        if self._is_inside:
            return
        if not self.is_looking and (self.is_used or name in self._others):
            return
        began = time.perf_counter()
        if state.grad_fn is None:  # tells nothing of whose it is; what it leads to will
            self._waiting[name] = state, step, steps
        elif self._is_ours(state):
            self.is_used = True
            if self.is_looking:
                before = self._waiting.pop(name, None)
                if before is not None:
                    self._take(before[0], name, *before[1:])
                self._take(state, name, step, steps)
        else:
            self._others.add(name)
            self._waiting.pop(name, None)
        self.seconds += time.perf_counter() - began

    def _take(self, state: Tensor, name: str, step: int | None, steps: int) -> None:
        if self._went_back or sum(len(s.edges) for s in self._sequences.values()) >= MOST_STATES:
            self.clear()
        sequence = self._sequence(state, name, step, steps)
        number = len(sequence.edges)
        sequence.times.append(sequence.times[-1] + steps if sequence.times else 0)
        sequence.edges.append(get_gradient_edge(state) if state.requires_grad else None)
        squares = state.detach().abs().square().mean(dtype=torch.float64)
        sequence.sizes.append(0.5 * squares.log10())
        if state.requires_grad:
            state.register_hook(partial(self._arrived, sequence, number))

    def _is_ours(self, state: Tensor) -> bool:
        """Whether a state belongs to a loop of the model: by the parameters nearest to it."""
        if self._model is None:
            return True
        own = {id(p) for p in self._model.parameters()}
        nearest = nearest_leaves(state.grad_fn)
        return not nearest or any(id(p) in own for p in nearest)

    def _sequence(self, state: Tensor, name: str, step: int | None, steps: int) -> _Sequence:
        key = self._latest.get(name)
        found = None if key is None else self._sequences[key]
        is_next = step is None or found is None or found.last_step is None
        if found is None or not (is_next or step == (found.last_step or 0) + steps):
            count = sum(k.partition("#")[0] == name for k in self._sequences)
            key = f"{name}#{count + 1}" if count else name
            width = state.shape[-1] if state.dim() else 1
            found = self._sequences[key] = _Sequence(width, state.dtype)
            self._latest[name] = key
        found.last_step = step
        return found

    def _arrived(self, sequence: _Sequence, step: int, grad: Tensor | None) -> None:
        """In the backward pass: the whole gradient at one state."""
        # A function with several results is asked for all of them where one got a gradient: for
        # the others it is None. Of several backward passes the first counts.
        if grad is None or self._is_inside or self._is_over:
            return
        began = time.perf_counter()
        if not self._went_back:
            self._went_back = True
            after_backward(self._release)
        grad = grad.detach()
        norm = torch.linalg.vector_norm(grad, dtype=_wide(grad.dtype))
        sequence.norms[step] = float(norm.log10())
        sequence.nonfinite[step] = int((~grad.isfinite()).sum())
        if sequence.chosen is None:
            covers = int(np.searchsorted(sequence.times, self._lag or 0))
            depth = min(step, max(covers, (step + 1) // 2))
            sequence.chosen = spread(list(range(depth, step + 1)), self._count)[::-1]
        if step in sequence.chosen:
            self._measure(sequence, step, grad)
        self.seconds += time.perf_counter() - began

    def _measure(self, sequence: _Sequence, step: int, grad: Tensor) -> None:
        """Walk back what entered at a step since the chosen step after it."""
        sent = sequence.sent.pop(step, None)
        new = grad if sent is None else grad - sent
        size, whole = (torch.linalg.vector_norm(g, dtype=_wide(g.dtype)) for g in (new, grad))
        if not bool(size.isfinite()):
            sequence.curves.append(np.full(sequence.times[step] + 1, np.nan))
            return
        if not bool(size > ENTERS * whole):
            return
        # Of size 1, so that all of the range of single precision is there to fade in.
        unit = new / size.to(new.dtype) if float(size.to(new.dtype)) else new
        try:
            found = self._walk(sequence, step, unit)
        except RuntimeError:
            # A graph that may be walked once only, by a checkpoint for example: the norms of the
            # whole gradient are then all there is.
            return
        norms = [float(torch.linalg.vector_norm(unit, dtype=_wide(unit.dtype)).log10())]
        reached = step
        for earlier in reversed(range(step)):
            back = found[earlier]
            if back is None:  # no way in the graph
                break
            norms.append(float(torch.linalg.vector_norm(back, dtype=_wide(back.dtype)).log10()))
            reached = earlier
            if earlier in (sequence.chosen or ()):
                more = back * size.to(back.dtype)
                sequence.sent[earlier] = sequence.sent.get(earlier, 0) + more
        times = sequence.times
        if reached:
            sequence.severed = times[step] - times[reached] + 1
        lags = [times[step] - times[t] for t in range(step, reached - 1, -1)]
        sequence.curves.append(_at_every(lags, np.array(norms) - norms[0]))

    def _walk(self, sequence: _Sequence, step: int, unit: Tensor) -> Sequence[Tensor | None]:
        start = sequence.edges[step]
        assert start is not None
        there = [i for i, e in enumerate(sequence.edges[:step]) if e is not None]
        found: list[Tensor | None] = [None] * step
        edges = [e for e in sequence.edges[:step] if e is not None]
        if not edges:
            return found
        self._is_inside = True
        try:
            back = torch.autograd.grad([start], edges, [unit], retain_graph=True, allow_unused=True)
        finally:
            self._is_inside = False
        for place, g in zip(there, back, strict=True):
            found[place] = g
        return found

    def _release(self) -> None:
        """Let go of the graph when the backward pass is over."""
        self._is_over = self._went_back
        for sequence in self._sequences.values():
            sequence.edges = [None] * len(sequence.edges)
            sequence.sent = {}

    def flows(self, scale: float = 1.0) -> dict[str, TimeFlow]:
        """What the backward pass said, by name; nothing of states that it did not reach.

        Args:
            scale: What the loss was multiplied by.
        """
        return {name: _flow(name, s, scale) for name, s in self._reached()}

    def _reached(self) -> Iterator[tuple[str, _Sequence]]:
        for name, sequence in self._sequences.items():
            if sequence.norms:
                yield name, sequence


def _flow(name: str, sequence: _Sequence, scale: float) -> TimeFlow:
    marks, times = range(len(sequence.edges)), sequence.times
    at_marks = np.array([sequence.norms.get(t, -np.inf) for t in marks]) - math.log10(scale)
    norms = _at_every(times, at_marks)
    nonfinite = np.zeros(len(norms), dtype=int)
    nonfinite[times] = [sequence.nonfinite.get(t, 0) for t in marks]
    mode = "per source" if len(sequence.curves) > 1 else "total"
    least = torch.finfo(sequence.dtype).tiny
    between = "" if len(norms) == len(times) else "; between two marks it is interpolated"
    before = np.array([-np.inf, *map(float, sequence.sizes[:-1])])
    return TimeFlow(
        name=name,
        cell="marked",
        hidden_size=sequence.width,
        log10_grad=norms,
        log10_grad_by_state={"h": norms},
        by_lag=median_curve(sequence.curves, mode),
        gates={},
        nonfinite=nonfinite,
        how="marks",
        exactness=(
            f"exact: as the backward pass computed it, in {str(sequence.dtype).partition('.')[2]}; "
            f"what is below {least:.0e} of the gradient at its source is told as nothing{between}"
        ),
        time_steps=len(norms),
        growth={"h": StateGrowth(_at_every(times, before))},
        severed=sequence.severed,
    )


def _at_every(times: Sequence[int], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at some times, at every time from the first to the last: interpolated between."""
    every = np.arange(times[0], times[-1] + 1)
    if len(every) == len(times):
        return values
    nothing = -1e6  # where -inf were, the line between would be no number
    line = np.interp(every, times, np.where(np.isneginf(values), nothing, values))
    return np.where(line < nothing / 1e3, -np.inf, line)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64
