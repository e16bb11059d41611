r"""Answers: what a model puts out, and what its loss asks of it, told from one gradient.

A squared error :math:`L = c \sum_i (o_i - y_i)^2` has the gradient :math:`2 c (o - y)` at the
output, so that :math:`c = |g|^2 / 4L` and :math:`y = o - g / 2c`. A cross-entropy of R rows has
:math:`(\mathrm{softmax}(o) - \mathrm{onehot}) / R`. Both are recognised by their own arithmetic, or
not at all: ``c`` has to be one of the usual factors, and what is left of the softmax a one-hot row.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.flow.hooks import Hook
from steadygrad.flow.loss_graph import head_of
from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "answers",
            "as the output",
            "Size and spread over the batch of a model's outputs and of its targets.",
        )
    ),
)

MOST = 2**22  # values of an output: of more, finding out would cost too much of a look
CLOSE = 1e-3  # relative: what float32 leaves of sums of many squares


@final
@dataclass(frozen=True)
class Answers:
    """Outputs of one batch, and its targets as far as the loss gives them away.

    Attributes:
        loss: ``"squared"`` or ``"cross-entropy"``.
        rows: Answers in the batch.
        output_size: Root mean square of the outputs.
        target_size: The same of the targets; of classes 1.
        gap: The same of outputs less targets; of classes nan.
        output_spread: Standard deviation over the rows, in the mean of all outputs; of classes, of
            their probabilities.
        target_spread: The same of the targets.
        head: Name of the function that made the outputs, if it is one that loses are applied to
            by mistake (``"softmax"``, ``"sigmoid"``); else "".
    """

    loss: Literal["squared", "cross-entropy"]
    rows: int
    output_size: float
    target_size: float
    gap: float
    output_spread: float
    target_spread: float
    head: str = ""


class OutputProbe:
    """Keeps the last output of a model, and the gradient of the loss at it.

    Args:
        model: The model; what it returns is looked through for its first tensor with a gradient.

    Attributes:
        is_on: Whether the next calls are of interest.
    """

    def __init__(self, model: nn.Module) -> None:
        self.is_on = True
        self.clear()
        self._handle = model.register_forward_hook(Hook(self._see))

    def clear(self) -> None:
        """Forget the output."""
        self._output: Tensor | None = None
        self._gradient: Tensor | None = None
        self._head = ""
        self._count = 0

    def close_hook(self) -> None:
        """Take the hook off; what was seen stays."""
        self._handle.remove()

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
        if self._output is None or self._gradient is None or self._count != 1:
            return None
        return answers_of(self._output, self._gradient / scale, loss, self._head)

    def _see(self, module: nn.Module, args: Any, result: Any) -> None:
        if not self.is_on or not torch.is_grad_enabled():
            return
        output = _first_tensor(result)
        if output is None:
            return
        self._count += 1
        self._output, self._gradient = output.detach(), None
        self._head = head_of(output)

        def keep(gradient: Tensor) -> None:
            self._gradient = gradient.detach()

        output.register_hook(keep)


def _first_tensor(result: Any) -> Tensor | None:
    if isinstance(result, Tensor):
        return result if result.requires_grad else None
    parts: Any = result.values() if isinstance(result, dict) else result
    if not isinstance(parts, tuple | list) and not isinstance(result, dict):
        return None
    return next((f for part in parts if (f := _first_tensor(part)) is not None), None)


@torch.no_grad()
def answers_of(output: Tensor, gradient: Tensor, loss: float, head: str = "") -> Answers | None:
    """Tell targets from the gradient of a loss at an output; None if the loss is not recognised."""
    if not math.isfinite(loss) or not loss > 0 or output.dim() < 1 or output.is_complex():
        return None
    if output.numel() > MOST:
        return None
    o, g = output.double(), gradient.double()
    if not bool(g.isfinite().all()) or not bool(g.any()):
        return None
    return _classes(o, g, loss, head) or _squares(o, g, loss, head)


def _squares(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    factor = float(g.square().sum()) / (4 * loss)
    count, read = o.numel(), int((g != 0).sum())
    usual = [1.0, *(1 / n for n in {count, read, o.shape[0]})]
    if not any(math.isclose(factor, c * half, rel_tol=CLOSE) for c in usual for half in (1, 0.5)):
        return None
    is_read = (g != 0).reshape(len(o), -1).any(1)
    o, g = o[is_read], g[is_read]
    y = o - g / (2 * factor)
    return Answers(
        "squared", len(o), _size(o), _size(y), _size(y - o), _spread(o), _spread(y), head
    )


def _classes(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    for axis in {o.dim() - 1, 1} if o.dim() > 1 else ():
        rows, back = (t.movedim(axis, -1).reshape(-1, o.shape[axis]) for t in (o, g))
        is_read = back.any(1)
        rows, back = rows[is_read], back[is_read]
        if rows.shape[1] < 2:
            continue
        chances = rows.softmax(-1)
        wanted = chances - back * len(rows)
        places = wanted.argmax(-1)
        onehot = nn.functional.one_hot(places, rows.shape[1]).to(wanted)
        told = float(-chances.gather(1, places[:, None]).log().mean())
        if bool((wanted - onehot).abs().max() < CLOSE) and math.isclose(told, loss, rel_tol=CLOSE):
            return Answers(
                "cross-entropy",
                len(rows),
                _size(rows),
                1.0,
                math.nan,
                _spread(chances),
                _spread(onehot),
                head,
            )
    return None


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _spread(values: Tensor) -> float:
    flat = values.reshape(len(values), -1)
    return float(flat.std(0, correction=0).mean())
