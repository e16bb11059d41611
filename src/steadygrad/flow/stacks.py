"""Which calls stand on which: the stacks of recurrent layers that a loss went through."""

from collections.abc import Sequence

from steadygrad.flow.capture import Call
from steadygrad.flow.recurrence import Recurrence
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.sources import is_reached


class Stacks:
    """Calls by what feeds them.

    Two calls belong to one stack where the results of the lower one make the input of the upper
    one, step by step: their time steps and rows are the same. What reads another's results at steps
    of its own, as a decoder does, is no part of its stack.

    Args:
        calls: In the order in which they were made.
        ways: How each is measured.
        grads: What the loss sent to each; a call that it did not reach is in no stack.
    """

    def __init__(
        self, calls: Sequence[Call], ways: Sequence[Recurrence], grads: Sequence[OutputGradient]
    ) -> None:
        shapes = {
            i: tuple(ways[i].entries(grad).shape)
            for i, grad in enumerate(grads)
            if is_reached(grad)
        }
        number = {call.name: i for i, call in enumerate(calls) if i in shapes}
        self._below: dict[int, list[int]] = {
            i: [
                number[n]
                for n in calls[i].below
                if n in number and number[n] < i and shapes[number[n]] == shapes[i]
            ]
            for i in shapes
        }

    def is_lowest(self, index: int) -> bool:
        """Whether no other recurrence feeds a call."""
        return not self._below[index]

    def above(self, index: int) -> list[int]:
        """Every call that stands on one, the nearest first."""
        found = {index}
        for i in sorted(self._below):
            if found & set(self._below[i]):
                found.add(i)
        return sorted(found - {index})

    def top_of(self, index: int) -> int:
        """The last call that stands on one; itself if there is none."""
        return max([index, *self.above(index)])
