"""How the recurrent layers of a training hang together with its loss and its optimiser."""

from collections import Counter
from dataclasses import replace

import torch
from torch import nn

from steadygrad.flow.capture import measurable_layers
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.wiring import Wiring, has_changed, is_stale, sampled, unheld, wirings

SURE = 3  # steps of the optimiser after which what has not happened is a fact


class Wires:
    """Keeps account, step by step, of which layers are called and reached.

    A step costs a few look-ups for each layer, and nothing once every layer was reached. Whether
    weights change is looked at when somebody asks: a few values of each.

    Args:
        model: As the training calls it.
        optimizer: What moves its weights.
        capture: The calls of the training.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, capture: LiveCapture
    ) -> None:
        self._model, self._optimizer, self._capture = model, optimizer, capture
        self._before = {name: sampled(layer) for name, layer in capture.layers.items()}
        self._steps: Counter[str] = Counter()
        self._all = 0

    @property
    def steps(self) -> int:
        """Steps of the optimiser so far."""
        return self._all

    @property
    def is_due(self) -> bool:
        """Whether this is the step at which the wiring is known for the first time."""
        return self._all == SURE

    def see(self) -> None:
        """Take a step of the optimiser, before its calls are forgotten."""
        self._all += 1
        capture = self._capture
        if len(capture.reached) < len(capture.layers):
            seen = (capture.graded.keys() | capture.ungraded.keys()) - capture.reached
            self._steps.update(seen)

    def wirings(self) -> list[Wiring]:
        """How each layer hangs together with the training so far."""
        capture = self._capture
        held = [p for group in self._optimizer.param_groups for p in group["params"]]
        identities = {id(p) for p in held}
        layers = capture.layers
        found: list[Wiring] = []
        for each in wirings(layers, capture.graded, capture.ungraded, capture.reached):
            layer = layers[each.name]
            strangers = unheld(layer, identities) if self._all >= SURE else None
            found.append(
                replace(
                    each,
                    unheld=strangers,
                    has_changed=has_changed(layer, strangers or (), self._before[each.name]),
                    is_stale=bool(strangers) and is_stale(self._model, layer, held),
                    steps=self._all if each.is_reached else self._steps[each.name],
                )
            )
        return found

    def replaced(self) -> list[str]:
        """Layers that the model has now, and that were not there when the watch was made."""
        watched = {id(layer) for layer in self._capture.layers.values()}
        return [n for n, layer in measurable_layers(self._model) if id(layer) not in watched]
