"""Calls of recurrent layers in a running training: the latest ones, with their gradients."""

import time
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from steadygrad.flow.after_backward import after_backward
from steadygrad.flow.capture import Call, Capture, is_given_weights
from steadygrad.flow.chain import chained
from steadygrad.flow.merge import Part, merged, part_of_call
from steadygrad.flow.replay import OutputGradient
from steadygrad.nn import Looped

_Values = tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]
_Light = tuple[int, int, str, nn.Module, _Values, dict[int, Tensor]]
"""Full calls before it, its number among those of its layer, its name and layer, what went in and
out, and the gradient at its output and first state."""
MOST_CALLS = 64
"""Kept at once, those that go on from another not counted: a bound on memory if forward passes come
without backward ones."""


class LiveCapture(Capture):
    """A `Capture` for training loops that it does not control.

    It holds the calls since the last backward pass began, detached, and the gradients that
    arrived at their results; of the backward passes before it in the same training step, where
    gradients are accumulated, copies of the first rows. Nothing keeps an autograd graph alive.

    Args:
        model: Whose recurrent layers.
        limit: Rows of a training step that are wanted at most, where it has micro-batches.
        may_be_empty: As of `Capture`.

    Attributes:
        is_keeping: Whether rows of earlier micro-batches are kept, and calls linked.
        begun: How often a new step was begun without an end of the one before, as a gradient
            scaler does that skips a step.
        seconds: Time that was spent on this; the reader resets it to zero.
        reached: Layers at whose results a gradient has ever arrived.
    """

    def __init__(self, model: nn.Module, limit: int = 0, may_be_empty: bool = False) -> None:
        super().__init__(model, may_be_empty)
        self.limit = limit
        self.is_keeping = True
        self.begun = 0
        self.seconds = 0.0
        self.reached: set[str] = set()
        # By call and place: 0 the output, 1 and on the final states, -1 and down the initial ones.
        self._gradients: list[dict[int, Tensor]] = []
        self._light: list[_Light] = []
        self._begun_here = 0
        self._went_back = False
        self._earlier: list[Part] = []
        self._marks: dict[int, tuple[Tensor, int]] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self._mark_layers()
        return self

    def _mark_layers(self) -> None:
        for layer in self.layers.values():
            parameter = _watched(layer)
            if parameter is not None:
                self._handles.append(parameter.register_post_accumulate_grad_hook(self._mark))

    @property
    def is_linking(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Only in steps that may be looked at: in a loop of many calls it costs."""
        return self.is_keeping

    @property
    def can_be_measured(self) -> bool:
        """Whether calls that go on from others were linked, as far as there are any."""
        return self.is_keeping or not (self._light or any(call.goes_on for call in self.calls))

    @property
    def gradients(self) -> list[OutputGradient]:
        """Per call, the gradients at its output and final states; None where none arrived."""
        return [
            (found.get(0), tuple(found.get(i + 1) for i in range(len(call.last))))
            for call, found in zip(self.calls, self._gradients, strict=True)
        ]

    def parts(self) -> list[Part]:
        """The first rows of this training step, micro-batch after micro-batch."""
        return self._earlier + self._present()

    def whole(self) -> tuple[list[Call], list[OutputGradient]]:
        """The calls of this training step, those of its micro-batches put together as one."""
        if not self._earlier:
            pairs = self._joined()
            return [call for call, _ in pairs], [grad for _, grad in pairs]
        calls, grads = merged(self.parts(), self.layers)
        # A layer whose rows may depend on each other is measured on the last micro-batch alone.
        looped = [pair for pair in self._joined() if not pair[0].is_viewed]
        return [*calls, *(c for c, _ in looped)], [*grads, *(g for _, g in looped)]

    def _joined(self) -> list[tuple[Call, OutputGradient]]:
        """Calls and gradients since the last backward pass began, chains as one call."""
        calls = chained(self.calls)
        grads = [_gradient_of(call, self._gradients) for call in calls]
        apart = frozenset(c.name for c in calls if c.chain is not None and c.chain.is_read_inside)
        if apart:
            calls = chained(self.calls, apart)
            grads = [_gradient_of(call, self._gradients) for call in calls]
        return list(zip(calls, grads, strict=True))

    def clear(self) -> None:
        """Forget the whole step."""
        self._earlier = []
        self._drop()

    def _drop(self) -> None:
        super().clear()
        self._gradients = []
        self._light = []
        self._begun_here = 0
        self._marks = {}
        self._went_back = False

    def _present(self) -> list[Part]:
        pairs = self._joined()
        left = self.limit - _rows(self._earlier)
        viewed = [pair for pair in pairs if pair[0].is_viewed]
        return [part_of_call(call, grad, left) for call, grad in viewed] if left > 0 else []

    def _next_pass(self) -> None:
        """A forward pass after a backward one: a new micro-batch of the step, or a new step."""
        if not self._goes_on():
            self.begun += 1
            self.clear()
            return
        if self.is_keeping:
            self._earlier += self._present()
        self._drop()

    def _goes_on(self) -> bool:
        """Whether the gradients are still there as the backward pass left them."""
        # By version number, as a look at the values would wait for the device. `zero_grad` takes
        # the gradients away or zeroes them in place; both show.
        marked = list(self._marks.values())
        return bool(marked) and all(
            p.grad is not None and p.grad._version == version for p, version in marked
        )

    def _mark(self, parameter: Tensor) -> None:
        if not self._marks:
            after_backward(self._mark_versions)
        self._marks[id(parameter)] = parameter, -1

    def _mark_versions(self) -> None:
        for key, (parameter, _) in self._marks.items():
            if parameter.grad is not None:
                self._marks[key] = parameter, parameter.grad._version

    def _hook(self, name: str) -> Any:
        caught = super()._hook(name)

        def live(layer: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
            if (
                not self.is_keeping
                and torch.is_grad_enabled()
                and not (self._went_back or kwargs)
                and self._note(name, layer, args, result)
            ):
                return None
            began = time.perf_counter()
            viewed = see(layer, args, kwargs, result)
            self.seconds += time.perf_counter() - began
            return viewed

        def see(layer: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
            if self._went_back:
                self._next_pass()
            elif self._begun_here >= MOST_CALLS:
                self.clear()
            count = len(self.calls)
            viewed = caught(layer, args, kwargs, result)
            if len(self.calls) == count:
                return viewed
            call = self.calls[-1]
            self._begun_here += not call.goes_on
            found: dict[int, Tensor] = {}
            self._gradients.append(found)
            for index, value in enumerate((call.output, *call.last)):
                if value.requires_grad:
                    value.register_hook(self._keeper(found, index, name))
            if call.handed is not None:
                for index, value in enumerate(call.state):
                    if value.requires_grad:
                        value.register_hook(self._keeper(found, -1 - index, name))
            self.calls[-1] = call.detached()
            return viewed

        return live

    def _note(self, name: str, layer: nn.Module, args: tuple[Any, ...], result: Any) -> bool:
        """Keep the least of a call in a step that is not measured; whether that is enough.

        Every step, and a loop of a hundred calls each time, would pay for it otherwise. Such calls
        are wanted only if the step breaks; see `fill`. One that begins with values of a state is
        not among them: it is compared with what the batch before has left.
        """
        if not args or not isinstance(layer, nn.RNNBase | nn.RNNCellBase):
            return False
        x, hx = args if len(args) == 2 else (args[0], None)
        state: tuple[Tensor, ...] = (hx,) if isinstance(hx, Tensor) else hx or ()
        if (
            (state and state[0].grad_fn is None)
            or not isinstance(x, Tensor)
            or is_given_weights(layer)
        ):
            return False
        if isinstance(layer, nn.RNNCellBase):
            last = (result,) if isinstance(result, Tensor) else result
            output = last[0]
        else:
            output, last = result
            last = (last,) if isinstance(last, Tensor) else last
        if output.grad_fn is None or (not state and self._begun_here >= MOST_CALLS):
            return False
        self._begun_here += not state
        self.graded[name] += 1
        found: dict[int, Tensor] = {}
        if last[0].grad_fn is not None:
            last[0].register_hook(self._keeper(found, 1, name))
        if not state and output is not last[0]:
            output.register_hook(self._keeper(found, 0, name))
        number = self._count.get(layer, 0)
        self._count[layer] = number + 1
        values = (
            x.detach(),
            tuple(s.detach() for s in state),
            output.detach(),
            tuple(s.detach() for s in last),
        )
        self._light.append((len(self.calls), number, name, layer, values, found))
        return True

    def fill(self) -> None:
        """Let calls that were only noted be calls like the others, in their place."""
        for before, number, name, layer, (x, state, output, last), found in reversed(self._light):
            call = Call(
                f"{name}#{number + 1}" if number else name,
                layer,
                x,
                state,
                output,
                last,
                goes_on=bool(state),
            )
            self.calls.insert(before, call)
            self._gradients.insert(before, found)
        self._light = []

    def _keeper(self, found: dict[int, Tensor], index: int, layer: str) -> Any:
        def keep(grad: Tensor) -> None:
            found[index] = grad
            self._went_back = True
            self.reached.add(layer)

        return keep


def _gradient_of(call: Call, found: Sequence[dict[int, Tensor]]) -> OutputGradient:
    if call.chain is not None:
        links = call.chain.links

        def look(link: int, what: str, index: int) -> Tensor | None:
            place = {"output": 0, "last": 1 + index, "state": -1 - index}[what]
            return found[links[link].number].get(place)

        return call.chain.collect(look)
    own = found[call.number]
    return own.get(0), tuple(own.get(1 + i) for i in range(len(call.last)))


def _watched(layer: nn.Module) -> nn.Parameter | None:
    """A parameter of a layer by whose gradient a new training step is known."""
    owner = layer.owner if isinstance(layer, Looped) else layer
    return next((p for p in owner.parameters() if p.requires_grad), None)


def _rows(parts: list[Part]) -> int:
    """Rows of the batch so far, by the first call."""
    return sum(p.rows.batch_sizes[0] for p in parts if p.name == parts[0].name)
