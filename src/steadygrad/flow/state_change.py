r"""How much one step of the recurrent parameters alone changes the states of a layer.

Where memory is long, the states depend ever more on the parameters of the recurrence, although no
gradient explodes. Of a linear unit :math:`h_t = \lambda h_{t-1} + x_t` with white input

.. math::
    \mathrm E\, h_t^2 = \frac{1}{1 - \lambda^2}, \qquad
    \mathrm E \left( \frac{\mathrm d h_t}{\mathrm d \lambda} \right)^2
    = \frac{1 + \lambda^2}{(1 - \lambda^2)^3}, \qquad
    s = \lambda \sqrt{\frac{1 + \lambda^2}{(1 - \lambda^2)^2}},

so that a relative change :math:`\epsilon` of :math:`\lambda` changes the states by
:math:`s \epsilon` of themselves: :math:`s` is 2 at a memory of two steps and 70 at one of a
hundred.

References:
    Zucchet and Orvieto, *Recurrent neural networks: vanishing and exploding gradients are not the
    end of the story*, NeurIPS 2024, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from steadygrad.flow.capture import Call
from steadygrad.flow.linearise import Trajectory, trajectory
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.replay import OutputGradient, rows_of
from steadygrad.flow.sources import is_reached
from steadygrad.nn import LayerView
from steadygrad.nn.layer_view import Key
from steadygrad.scan import Layout, ScanCall, Weights, scan

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "state_change",
            "1",
            "Change of the states of a layer by one step of its recurrent parameters alone.",
            is_log=True,
        )
    ),
    declare(
        Quantity(
            "memory_sensitivity",
            "1",
            "That change over the size of the step, both relative: it grows with the memory.",
            is_log=True,
        )
    ),
)

INPUT_SIDE = ("weight_ih", "bias_ih", "bias_hh", "weight_hr")
"""What is no parameter of the recurrence: it acts on one step and not through the state."""
SMALL = 1e-6  # relative step of a central difference in float64: an error of about 1e-9
MOST_CALLS = 2  # of a training step that are followed
ROWS = 4


@final
@dataclass(frozen=True)
class StateChange:
    """What one step of the optimiser did to the states of a layer, through the recurrence alone.

    Attributes:
        name: Of the layer and direction.
        change: Root mean square of the change of h, relative to that of h.
        step: Norm of the step of the recurrent parameters, relative to theirs.
    """

    name: str
    change: float
    step: float

    @property
    def sensitivity(self) -> float:
        """How many times larger the change of the states is than that of the parameters."""
        return self.change / self.step if self.step > 0 else 0.0


def memory_sensitivity(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> float:
    r"""Relative change of the states of a layer per relative change of its recurrent parameters.

    .. math::
        s = \lim_{\epsilon \to 0} \frac{\lVert h((1 + \epsilon)\,\theta) - h(\theta) \rVert}
            {\epsilon\, \lVert h(\theta) \rVert}

    over all steps, sequences and units, with :math:`\theta` the recurrent matrix and the
    parameters that a cell has per unit; by central differences in float64.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a `steadygrad.nn.Recurrent`.
        x: ``(T, B, I)``, ``(B, T, I)`` if the layer is ``batch_first``, or unbatched ``(T, I)``.
        state: As the layer takes it; zeros if not given.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.

    Returns:
        The sensitivity; NaN if the states are all zero.

    Raises:
        TypeError: No recurrent layer.
        ValueError: A shape, an index or a direction that the layer does not have; or its cell has
            no parameter in the recurrence.
    """
    path = trajectory(layer, x, state, index=index, reverse=reverse)
    if not _has_any(path):
        raise ValueError(
            f"{type(layer).__name__}: its cell {path.cell.name} has no parameter in the recurrence"
        )
    with torch.no_grad():
        ends = [_hidden(path, _scaled(path.weights, 1 + e)) for e in (SMALL, -SMALL)]
        change = (ends[0] - ends[1]).norm() / (2 * SMALL)
        return float(change / _hidden(path, path.weights).norm())


def is_recurrent(name: str) -> bool:
    """Whether a tensor of `Weights.flat` is a parameter of the recurrence."""
    return name not in INPUT_SIDE and "." not in name


@final
class BeforeStep:
    """Calls of recurrent layers as they ran before a step of the optimiser; see `after`.

    Args:
        calls: Of this training step, as they were caught.
        grads: What the loss sent to their results.
        least: Steps that a call must have: what is shorter holds no long memory.
    """

    def __init__(
        self, calls: Sequence[Call], grads: Sequence[OutputGradient], least: int = 2
    ) -> None:
        self._legs: list[_Leg] = []
        seen: set[int] = set()
        for call, grad in zip(calls, grads, strict=True):
            if len(seen) >= MOST_CALLS:
                break
            if call.is_viewed and id(call.layer) not in seen and is_reached(grad):
                seen.add(id(call.layer))
                self._legs += _legs(call, grad, max(2, least))

    @torch.no_grad()
    def after(self) -> list[StateChange]:
        """What the step did, once the weights have changed; of each layer that can be told.

        Called again after the next step, it tells what that one did, on the same inputs.
        """
        found: list[StateChange] = []
        for leg in self._legs:
            old, now = leg.path.weights, leg.view.weights(*leg.key, None, torch.float64)
            mixed, step = _moved(old, now)
            before = _hidden(leg.path, old) if leg.hidden is None else leg.hidden
            size = float(before.norm())
            if size > 0 and step > 0:
                change = float((_hidden(leg.path, mixed) - before).norm())
                found.append(StateChange(leg.name, change / size, step))
            leg.path, leg.hidden = replace(leg.path, weights=_copied(now)), None
        return found


@dataclass
class _Leg:
    """One layer and direction of a call, with weights and, if they are known, its states."""

    view: LayerView
    key: Key
    name: str
    path: Trajectory
    hidden: Tensor | None


@torch.no_grad()
def _legs(call: Call, grad: OutputGradient, least: int) -> list[_Leg]:
    """Each layer and direction of one call of so many steps."""
    rows = rows_of(call, grad, ROWS)
    if rows.begins or rows.noise is not None or len(rows.batch_sizes) < least:
        return []
    view = call.view

    def step(
        key: Key, x: Tensor, weights: Weights, state: tuple[Tensor, ...], layout: Layout
    ) -> tuple[Tensor, tuple[Trajectory, Tensor]]:
        kept = _copied(weights)
        path = Trajectory(view.cell, layout, x, kept, state)
        hidden = _hidden(path, kept)
        return hidden, (path, hidden)

    _, found = view.run(rows, step, torch.float64)
    return [
        _Leg(view, key, view.name(key, call.name), path, hidden)
        for key, (path, hidden) in found.items()
        if _has_any(path)
    ]


def _has_any(path: Trajectory) -> bool:
    return any(is_recurrent(name) and t.numel() for name, t in path.weights.flat())


def _hidden(path: Trajectory, weights: Weights) -> Tensor:
    return scan(ScanCall(path.cell, path.rows, weights, path.state, path.layout))[0]


def _copied(weights: Weights) -> Weights:
    names, tensors = zip(*weights.flat(), strict=True)
    return Weights.from_flat(names, [t.detach().clone() for t in tensors])


def _scaled(weights: Weights, by: float) -> Weights:
    names, tensors = zip(*weights.flat(), strict=True)
    scaled = [by * t if is_recurrent(n) else t for n, t in zip(names, tensors, strict=True)]
    return Weights.from_flat(names, scaled)


def _moved(before: Weights, now: Weights) -> tuple[Weights, float]:
    """The old weights with the new recurrent ones, and how far these have moved."""
    old, new = before.flat(), now.flat()
    pairs = [(a, b) for (n, a), (_, b) in zip(old, new, strict=True) if is_recurrent(n)]
    step, size = (
        torch.stack([t.square().sum() for t in each]).sum().sqrt()
        for each in ([b - a for a, b in pairs], [a for a, _ in pairs])
    )
    mixed = [b if is_recurrent(n) else a for (n, a), (_, b) in zip(old, new, strict=True)]
    ratio = float(step / size) if float(size) > 0 else 0.0
    return Weights.from_flat([n for n, _ in old], mixed), ratio
