"""State handover: do the sequences go on where a state is handed from one batch to the next?

Compared are median distances of inputs: of neighbours inside a sequence, of the last input of one
batch and the first of the next, and of different sequences at one time. Of few sequences the
distances over one border are chance: it is their mean over several borders that tells.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean
from typing import final

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "state_handover",
            "1",
            "Distance of inputs over the border of two batches, against that inside a sequence.",
        )
    ),
)

SMOOTH = 0.5  # of the distance of two sequences: steps inside must be smaller to tell anything
BORDERS = 10  # of a layer that are remembered: a fault that is mended is gone after as many
JUMP = 0.5  # of the way from the distance inside a sequence to it: from there on a border jumps


@final
@dataclass(frozen=True)
class Handover:
    """What a state that was handed on meets.

    Attributes:
        jumps: Borders up to this one over which the inputs jumped, in the mean; 0 if they did not.
        inside: Median distance of neighbours in a sequence, in the mean over the borders.
        between: Median distance over the border.
        apart: Median distance of different sequences.
    """

    jumps: int
    inside: float
    between: float
    apart: float


@final
@dataclass
class Handovers:
    """Watches the borders of batches.

    It is shown one call per training step, and remembers the last input and state of the one
    before.
    """

    _last: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _borders: dict[str, deque[tuple[float, float, float]]] = field(default_factory=dict)
    _told: dict[str, Handover | None] = field(default_factory=dict)
    _paused: set[str] = field(default_factory=set)

    @property
    def is_any(self) -> bool:
        """Whether a state was ever handed in."""
        return bool(self._last) or bool(self._paused)

    def pause(self) -> None:
        """Miss the steps that follow: after them, what was told last stands for one call."""
        self._paused |= self._last.keys()
        self._last.clear()

    def see(self, call: Call) -> Handover | None:
        """Look at the next call of a layer; None where no state is handed on, or nothing is told.

        Inputs that jump everywhere (symbols, noise) tell nothing.
        """
        is_next = call.name not in self._paused
        self._told[call.name] = self._see(call) if is_next else self._resume(call)
        return self._told[call.name]

    def _resume(self, call: Call) -> Handover | None:
        """Take the first call after a pause, which only the next one can be compared with."""
        self._paused.discard(call.name)
        x = call.over_time()
        if x is not None and call.last:
            self._keep(call, x)
        return self._told.get(call.name) if call.state else None

    def _keep(self, call: Call, x: Tensor) -> None:
        self._last[call.name] = (x[-1].detach().clone(), call.last[0].detach().clone())

    def _see(self, call: Call) -> Handover | None:
        if not call.state and call.name not in self._last:
            return None  # nothing is ever handed on
        x = call.over_time()
        if x is None or not call.last:
            return None
        before = self._last.get(call.name)
        self._keep(call, x)
        if before is None or not call.state or not _same(call.state[0], before[1]):
            return None
        borders = self._borders.setdefault(call.name, deque(maxlen=BORDERS))
        each = _distances(x, before[0])
        if not math.isfinite(each[0]):
            return None
        borders.append(each)
        inside, between, apart = map(fmean, zip(*borders, strict=True))
        if not inside < SMOOTH * apart:
            return None
        jumps = len(borders) if between > inside + JUMP * (apart - inside) else 0
        return Handover(jumps, inside, between, apart)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b) and bool(a.any())


def _distances(x: Tensor, last: Tensor) -> tuple[float, float, float]:
    """Median distance of neighbours in a sequence, over the border, and of different sequences."""
    if x.shape[1] < 2 or len(x) < 2 or last.shape != x[0].shape:
        return float("inf"), 0.0, 0.0
    inside = (x[1:] - x[:-1]).norm(dim=-1).median()
    between = (x[0] - last).norm(dim=-1).median()
    apart = (x - x.roll(1, 1)).norm(dim=-1).median()
    return float(inside), float(between), float(apart)
