"""The last output of a model, and the gradient of the loss at it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, is_grad_enabled, nn

from steadygrad.flow.answers import Answers, answers_of
from steadygrad.flow.hooks import Hook
from steadygrad.flow.loss_graph import head_of


@final
@dataclass(frozen=True)
class Kept:
    """An output, detached, and what the loss made of it.

    Attributes:
        output: Of the model.
        gradient: Of the loss at it, times ``scale``.
        loss: Of the step.
        scale: What the gradients were multiplied by.
        head: As of `Answers`.
    """

    output: Tensor
    gradient: Tensor
    loss: float
    scale: float
    head: str

    def answers(self) -> Answers | None:
        """What the output answers; None if the loss is none that is recognised."""
        return answers_of(self.output, self.gradient / self.scale, self.loss, self.head)


class OutputProbe:
    """Keeps the last output of a model, and the gradient of the loss at it.

    A container of layers, such as `torch.nn.ModuleList`, is never called itself: of its layers, the
    one that is called last is taken for the model.

    Args:
        model: The model; what it returns is looked through for its first tensor with a gradient.

    Attributes:
        is_on: Whether the next calls are of interest.
        keeps_graph: Whether the node that made the output is kept, until `clear`.
        node: That node.
    """

    def __init__(self, model: nn.Module) -> None:
        self.is_on, self.keeps_graph = True, False
        self.clear()
        self._handles = [m.register_forward_hook(Hook(self._see)) for m in _called(model)]

    def clear(self) -> None:
        """Forget the output."""
        self._output: Tensor | None = None
        self.node: Any = None
        self._gradient: Tensor | None = None
        self._head = ""
        self._last: nn.Module | None = None
        self._counts: Counter[nn.Module] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put out since `clear`."""
        return self._output is None

    def close_hook(self) -> None:
        """Take the hook off; what was seen stays."""
        for handle in self._handles:
            handle.remove()

    def close(self) -> None:
        """Take the hook off and forget the output."""
        self.close_hook()
        self.clear()

    def answers(self, loss: float, scale: float = 1.0) -> Answers | None:
        """What the last output answers.

        Args:
            loss: Of the step.
            scale: What the gradients were multiplied by.

        Returns:
            None if the model was not called exactly once, or its loss is none that is recognised.
        """
        kept = self.kept(loss, scale)
        return None if kept is None else kept.answers()

    def kept(self, loss: float, scale: float = 1.0) -> "Kept | None":
        """The same, to be told later; None if the model was not called exactly once."""
        if self._output is None or self._gradient is None or self._last is None:
            return None
        if self._counts[self._last] != 1:
            return None
        return Kept(self._output, self._gradient, loss, scale, self._head)

    def _see(self, module: nn.Module, args: Any, result: Any) -> None:
        if not self.is_on or not is_grad_enabled():
            return
        output = _first_tensor(result)
        if output is None:
            return
        self._last = module
        self._counts[module] += 1
        self._output, self._gradient = kept, _ = output.detach(), None
        self._head = head_of(output)
        if self.keeps_graph:
            self.node = output.grad_fn

        def keep(gradient: Tensor) -> None:
            if self._output is kept:  # not of a layer that was called before the last
                self._gradient = gradient.detach()

        output.register_hook(keep)


def _called(module: nn.Module) -> Iterator[nn.Module]:
    """The module, or what of it can be called."""
    if type(module).forward is not nn.Module.forward:
        yield module
        return
    for child in module.children():
        yield from _called(child)


def _first_tensor(result: Any) -> Tensor | None:
    if isinstance(result, Tensor):
        return result if result.requires_grad else None
    parts: Any = result.values() if isinstance(result, dict) else result
    if not isinstance(parts, tuple | list) and not isinstance(result, dict):
        return None
    return next((f for part in parts if (f := _first_tensor(part)) is not None), None)
