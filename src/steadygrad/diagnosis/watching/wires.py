"""How the recurrent layers of a training hang together with its loss and its optimiser."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.flow.capture import measurable_layers
from steadygrad.flow.graph_uses import GraphUses, graph_uses
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.wiring import (
    Wiring,
    has_changed,
    is_same,
    is_stale,
    measured_parameters,
    sampled,
    strangers,
    taken,
    unheld,
    wirings,
)

SURE = 3  # steps of the optimiser after which what has not happened is a fact
MOST = 64  # parameters by which it is seen how far all have moved
AGAIN = 2 * SURE  # after which what was seen for the first time then has had as long to happen


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
        self.uses: GraphUses | None = None
        self._at_look: list[Tensor] = []
        self._strangers: dict[str, dict[str, Tensor]] = {}
        self._as_met: dict[str, dict[str, Tensor]] = {}

    @property
    def steps(self) -> int:
        """Steps of the optimiser so far."""
        return self._all

    @property
    def is_due(self) -> bool:
        """Whether this is the step at which the wiring is known for the first time."""
        return self._all == SURE or (self._all == AGAIN and bool(self._strangers))

    @property
    def wants_graph(self) -> bool:
        """Whether the graph of the next step is to be looked at."""
        return self.uses is None and self._all < SURE

    def look_at(self, root: Any) -> None:
        """Read from the graph of this step how it uses the parameters."""
        if root is None:  # neither was the loss told nor the model itself called
            return
        measured = measured_parameters(self._capture.layers.values())
        self.uses = graph_uses(root, self._model, measured)
        held = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        unknown = [t for t in self.uses.strangers if id(t) not in held]
        self.uses = replace(self.uses, strangers=())  # nothing here keeps them alive but these
        self._strangers = strangers(self._model, unknown)
        self._as_met = {
            holder: {n: taken(t) for n, t in tensors.items()}
            for holder, tensors in self._strangers.items()
        }

    def see(self) -> None:
        """Take a step of the optimiser, before its calls are forgotten."""
        self._all += 1
        capture = self._capture
        if len(capture.reached) < len(capture.layers):
            seen = (capture.graded.keys() | capture.ungraded.keys()) - capture.reached
            self._steps.update(seen)

    def rested(self, steps: int) -> None:
        """Take steps of which the calls were not watched."""
        self._all += steps
        for name in self._steps.keys() - self._capture.reached:
            self._steps[name] += steps

    def wirings(self) -> list[Wiring]:
        """How each layer hangs together with the training so far."""
        capture = self._capture
        held = [p for group in self._optimizer.param_groups for p in group["params"]]
        identities = {id(p) for p in held}
        layers = capture.layers
        found: list[Wiring] = []
        for each in wirings(
            layers, capture.graded, capture.ungraded, capture.reached, capture.transformed
        ):
            layer = layers[each.name]
            lost = unheld(layer, identities) if self._all >= SURE else None
            found.append(
                replace(
                    each,
                    unheld=lost,
                    has_changed=has_changed(layer, lost or (), self._before[each.name]),
                    is_stale=bool(lost) and is_stale(self._model, layer, held),
                    steps=self._all if each.is_reached else self._steps[each.name],
                )
            )
        return [*found, *self._of_strangers()]

    def _of_strangers(self) -> Iterator[Wiring]:
        """Parameters that the loss depends on and no module holds, as a layer of their own."""
        if self._all < AGAIN:
            return
        for holder, tensors in self._strangers.items():
            names, before = tuple(tensors), self._as_met[holder]
            yield Wiring(
                holder,
                calls=1,
                ungraded=0,
                is_reached=True,
                weights=names,
                unheld=names,
                has_changed=any(not is_same(t, before[n]) for n, t in tensors.items()),
                steps=self._all - SURE,
                is_stranger=True,
            )

    def note_look(self) -> None:
        """Note where the weights stand, as a look is taken."""
        self._at_look = [taken(p) for p in self._some()]

    def moved(self) -> float:
        """How far the weights have moved since the last look, relative to themselves.

        To themselves as they are now or were then, whichever is larger: weights that have faded
        have moved by 1, and so have those that have grown tenfold. Of a few values of each; 0
        without a look.
        """
        if not self._at_look:
            return 0.0
        now = [taken(p).to(b) for p, b in zip(self._some(), self._at_look, strict=False)]
        pairs = list(zip(now, self._at_look, strict=False))
        way = sum(float((a - b).square().sum()) for a, b in pairs)
        size = max(sum(float(v.square().sum()) for v in side) for side in zip(*pairs, strict=True))
        return (way / size) ** 0.5 if size > 0 else 0.0

    def _some(self) -> list[Tensor]:
        held = [p for group in self._optimizer.param_groups for p in group["params"]]
        return held[:MOST]

    def replaced(self) -> list[str]:
        """Layers that the model has now, and that were not there when the watch was made."""
        watched = {id(layer) for layer in self._capture.layers.values()}
        return [n for n, layer in measurable_layers(self._model) if id(layer) not in watched]
