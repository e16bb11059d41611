"""Advances a stack of layers by one time step: by steppers of the back end, or the layer itself."""

from typing import Protocol, final

import torch
from torch import Tensor

from steadygrad.cells import State
from steadygrad.nn.recurrent import Recurrent
from steadygrad.scan import Backend, Sensitivities, Stepper, is_codes


class Steps(Protocol):
    """A stack of layers advanced step by step; states go in and out as ``(L, B, ·)``."""

    def step(self, x: Tensor) -> Tensor:
        """Advance by ``(B, I)``; return h of the top, ``(B, P)``, valid until the next step."""
        ...

    def state(self) -> State:
        """A copy of the state after the last step."""
        ...

    def hold(self, state: State) -> None:
        """Go on from a copy of ``state``."""
        ...

    def clear(self) -> None:
        """Go on from the start: zeros, or what is learnt."""
        ...


@final
class StepperSteps:
    """Every layer a stepper with its own buffers; all rows of the batch at once."""

    def __init__(self, steppers: list[Stepper], start: list[State | None]) -> None:
        self._steppers, self._start = steppers, start

    def step(self, x: Tensor) -> Tensor:
        for stepper in self._steppers:
            x = stepper.run(x)
        return x

    def state(self) -> State:
        by_layer = [stepper.state for stepper in self._steppers]
        return tuple(torch.stack(values) for values in zip(*by_layer, strict=True))

    def hold(self, state: State) -> None:
        for index, stepper in enumerate(self._steppers):
            for own, value in zip(stepper.state, state, strict=True):
                own.copy_(value[index])

    def clear(self) -> None:
        for stepper, start in zip(self._steppers, self._start, strict=True):
            for k, own in enumerate(stepper.state):
                own.zero_() if start is None else own.copy_(start[k])


@final
class LayerSteps:
    """The layer itself, called with sequences of one step."""

    def __init__(self, layer: Recurrent) -> None:
        self._layer = layer
        self._state: State | None = None

    def step(self, x: Tensor) -> Tensor:
        # A stream's state and output have the dtype of the weights, whatever autocast says.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            held = self._state
            given = held[0] if held is not None and len(held) == 1 else held
            output, last = self._layer(x.unsqueeze(0), given)
        self._state = last if isinstance(last, tuple) else (last,)
        return output.squeeze(0)

    def state(self) -> State:
        assert self._state is not None  # asked for only after a step
        return tuple(s.clone() for s in self._state)

    def hold(self, state: State) -> None:
        self._state = tuple(s.clone() for s in state)

    def clear(self) -> None:
        self._state = None


@final
class LearningSteps:
    """One element-wise layer whose h carries the gradient of all steps so far to its weights."""

    def __init__(self, layer: Recurrent) -> None:
        self._layer = layer
        self._state: State | None = None
        self.sensitivities = Sensitivities(layer.cell)

    def step(self, x: Tensor) -> Tensor:
        layer = self._layer
        (noise,) = layer.noise(len(x), len(x), None)
        with torch.autocast(x.device.type, enabled=False):
            weights = layer.weights(0, noise=noise)
            if is_codes(x):
                x = torch.nn.functional.one_hot(x.long(), layer.input_size).to(weights.weight_ih)
            if self._state is None:
                zero = x.new_zeros(len(x), layer.hidden_size)
                self._state = (zero,) * len(layer.cell.states)
            hidden, self._state = self.sensitivities.step(x, weights, self._state)
        return hidden

    def state(self) -> State:
        assert self._state is not None  # asked for only after a step
        return tuple(s.unsqueeze(0).clone() for s in self._state)

    def hold(self, state: State) -> None:
        self._state = tuple(s.squeeze(0).clone() for s in state)
        self.sensitivities.reset()

    def clear(self) -> None:
        self._state = None
        self.sensitivities.reset()


def steps_of(layer: Recurrent, backend: Backend, batch: int) -> Steps:
    """The fastest way that ``backend`` has to advance ``layer`` with ``batch`` rows."""
    quiet = layer.noise(batch, batch, None)
    steppers = [
        backend.stepper(layer.cell, layer.weights(i, noise=noise), batch)
        for i, noise in enumerate(quiet)
    ]
    able = [stepper for stepper in steppers if stepper is not None]
    if len(able) < len(steppers):
        return LayerSteps(layer)
    return StepperSteps(able, [layer.initial_state(i) for i in range(len(able))])
