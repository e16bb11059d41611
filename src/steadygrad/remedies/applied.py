"""The changes that a remedy made to a model, and their undoing."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.run import Run, TrainingCalls


@final
class Applied:
    """The changes of one remedy, each recorded before it is made.

    A remedy changes the model through `keep`, `assign` and `replace`, so that `undo` can restore it
    bit for bit: values, modules and flags. Parameters are restored in place, so that references
    held by optimisers and hooks stay valid.

    Attributes:
        memory: State of the remedy between steps, by name; saved in checkpoints, and restored in
            place.
        kept: The tensors whose values were changed in place.
    """

    def __init__(self) -> None:
        self._restore: list[Callable[[], None]] = []
        self._changed: list[str] = []
        self.memory: dict[str, Tensor] = {}
        self.kept: list[Tensor] = []
        self._is_undone = False
        self._penalty: Callable[[Tensor], Tensor] | None = None

    @property
    def changed(self) -> str:
        """The changes in plain words, with their layers."""
        return "; ".join(self._changed) or "nothing before training"

    def note(self, text: str) -> None:
        """Add one change to the description in `changed`."""
        self._changed.append(text)

    def keep(self, tensor: Tensor) -> Tensor:
        """Save the values of ``tensor`` before it is changed in place; return it."""
        before = tensor.detach().clone()

        @torch.no_grad()
        def restore() -> None:
            tensor.copy_(before)

        self._restore.append(restore)
        self.kept.append(tensor)
        return tensor

    def assign(self, owner: object, attribute: str, value: Any) -> None:
        """Set a flag of a module, and save the old value."""
        before = getattr(owner, attribute)
        self._restore.append(lambda: setattr(owner, attribute, before))
        setattr(owner, attribute, value)

    def replace(self, model: nn.Module, old: nn.Module, new: nn.Module) -> None:
        """Put ``new`` wherever ``old`` is registered inside ``model``."""
        # A module shared by two parents is registered twice. modules() visits each parent once, so
        # both registrations are found.
        for parent in list(model.modules()):
            for name, child in list(parent._modules.items()):
                if child is old:
                    self._restore.append(_setter(parent, name, old))
                    parent._modules[name] = new

    def remember(self, name: str, value: Tensor) -> Tensor:
        """Store ``value``, which is changed in place later, in `memory`; return it."""
        self.memory[name] = value
        return value

    def on_undo(self, restore: Callable[[], None]) -> None:
        """Call ``restore`` when the remedy is undone."""
        self._restore.append(restore)

    def penalise(
        self, model: nn.Module, term: Callable[[Run], Tensor | None], sees_calls: bool
    ) -> None:
        """Add ``term`` to the loss of every later step, through `penalty`."""
        calls = TrainingCalls(model).__enter__() if sees_calls else None
        if calls is not None:
            self._restore.append(calls.close)
        asked = self.remember("penalties", torch.zeros((), dtype=torch.long))

        def penalty(loss: Tensor) -> Tensor:
            kept = () if calls is None else tuple(calls.calls)
            if calls is not None:
                calls.clear()
            found = term(Run(model, loss, kept, int(asked)))
            asked.add_(1)
            return loss.new_zeros(()) if found is None else found

        self._penalty = penalty

    def penalty(self, loss: Tensor) -> Tensor:
        """Return the term that the remedy adds to the loss of this step; zero if none.

        Works in any loop, between the forward pass and ``backward``::

            loss = criterion(model(x), target)
            (loss + applied.penalty(loss)).backward()

        Call it once per forward pass: it consumes the recorded calls of recurrent layers. Clips and
        the optimiser come after ``backward``, as usual.

        Args:
            loss: The unscaled loss of this step, a scalar with its graph.

        Raises:
            RuntimeError: The remedy was undone.
        """
        if self._is_undone:
            raise RuntimeError("this remedy was undone and has no penalty; apply it again first")
        return loss.new_zeros(()) if self._penalty is None else self._penalty(loss)

    def undo(self) -> None:
        """Restore the model bit for bit to its state before the remedy.

        Later training of the tensors that the remedy changed is lost.

        Raises:
            RuntimeError: It was undone already.
        """
        if self._is_undone:
            raise RuntimeError("this remedy was undone already; apply it again first")
        self._is_undone = True
        for restore in reversed(self._restore):
            restore()


def _setter(parent: nn.Module, name: str, child: nn.Module) -> Callable[[], None]:
    def restore() -> None:
        parent._modules[name] = child

    return restore
