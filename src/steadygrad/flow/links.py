"""Calls of one layer, each beginning where the one before ended: what any kind of them has."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient
from steadygrad.nn import Looped

Lookup = Callable[[int, str, int], Tensor | None]
"""The gradient at a tensor of a link: number of the link, ``"output"``, ``"last"`` or ``"state"``,
and which state."""


class Links(ABC):
    """Calls of one layer, each beginning where the one before ended.

    Args:
        links: The calls.

    Attributes:
        is_read_inside: Whether the loss was found to read a state in the middle that no output
            shows (an LSTM's c, a lower layer's h): a chain cannot be measured as one call then.
        is_reset: Whether rows are reset within a call.
    """

    def __init__(self, links: Sequence[Call]) -> None:
        self.links = list(links)
        self.is_read_inside = self.is_reset = False

    @abstractmethod
    def call(self, name: str) -> Call:
        """All links as one call, without a graph."""

    @abstractmethod
    def collect(self, lookup: Lookup) -> OutputGradient:
        """What the loss sent to the chain from outside of it, shaped as the results of `call`."""

    @abstractmethod
    def spread(self, grad: OutputGradient) -> list[tuple[Tensor, Tensor]]:
        """A gradient at the results of `call` at those of the links, as tensor and gradient."""

    @property
    def results(self) -> list[Tensor]:
        """Every tensor at which a gradient is needed for `collect`."""
        states = [s for call in self.links[1:] for s in call.state]
        made = [t for call in self.links for t in (call.output, *call.last)]
        return [t for t in made + states if t.requires_grad]

    def lookup(self, grads: dict[int, Tensor | None]) -> Lookup:
        """By the identity of live tensors."""

        def look(link: int, what: str, index: int) -> Tensor | None:
            call = self.links[link]
            by = {"output": (call.output,), "last": call.last, "state": call.state}
            return grads.get(id(by[what][index]))

        return look


class LoopedChain(Links):
    """Calls of a layer with a loop of its own, all rows of which go on from call to call."""

    def __init__(self, links: Sequence[Call]) -> None:
        super().__init__(links)
        layer = links[0].layer
        assert isinstance(layer, Looped)
        self._time_axis = 1 - layer.batch_axis_of_output

    def call(self, name: str) -> Call:
        first, last = self.links[0], self.links[-1]
        inputs = [call.input for call in self.links if isinstance(call.input, Tensor)]
        return Call(
            name,
            first.layer,
            torch.cat(inputs, self._time_axis).detach(),
            tuple(s.detach() for s in first.state),
            torch.cat([call.output for call in self.links], self._time_axis).detach(),
            tuple(s.detach() for s in last.last),
            goes_on=first.goes_on,
            chain=self,
        )

    def collect(self, lookup: Lookup) -> OutputGradient:
        count = len(self.links)
        at_output = [lookup(link, "output", 0) for link in range(count)]
        states = range(len(self.links[-1].last))
        last = tuple(lookup(count - 1, "last", i) for i in states)
        self.is_read_inside |= any(
            self._is_read(link, i, lookup) for link in range(count - 1) for i in states
        )
        if all(g is None for g in at_output):
            return None, last
        whole = [
            torch.zeros_like(call.output) if g is None else g
            for call, g in zip(self.links, at_output, strict=True)
        ]
        return torch.cat(whole, self._time_axis), last

    def _is_read(self, link: int, state: int, lookup: Lookup) -> bool:
        """Whether a state in the middle gets a gradient from elsewhere than the next call."""
        total, through = lookup(link, "last", state), lookup(link + 1, "state", state)
        if total is None:
            return False
        return bool(total.any() if through is None else (total != through).any())

    def spread(self, grad: OutputGradient) -> list[tuple[Tensor, Tensor]]:
        pairs = list(zip(self.links[-1].last, grad[1], strict=True))
        if grad[0] is not None:
            sizes = [call.output.shape[self._time_axis] for call in self.links]
            parts = grad[0].split(sizes, self._time_axis)
            pairs += [(call.output, g) for call, g in zip(self.links, parts, strict=True)]
        return [(t, g) for t, g in pairs if g is not None and t.requires_grad]
