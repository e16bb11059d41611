"""The graph next to a loss: which functions made what the loss is computed from."""

from typing import Any

from torch import Tensor

VIEWS = (
    "View", "UnsafeView", "Reshape", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Select",
    "Slice", "Index", "Alias", "Clone", "Movedim", "Expand", "ToCopy", "Cat",
)  # fmt: skip
"""Functions that only arrange, by the beginning of their node's name."""
HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
TWICE = {
    "LogSoftmax": "softmax",
    "NllLoss": "softmax",
    "BinaryCrossEntropyWithLogits": "sigmoid",
}
"""Functions that expect raw scores or their logarithm, and what must not come before them."""
FARTHEST = 256  # nodes


def head_of(output: Tensor) -> str:
    """``"softmax"`` or ``"sigmoid"`` if that, and then nothing but views, made a tensor; or ""."""
    return _head(output.grad_fn)


def applied_twice(loss: Tensor) -> str:
    """``"softmax"`` or ``"sigmoid"`` if a loss that applies it is given its results; or "".

    Only names of nodes are read, so that it works after the backward pass, too.
    """
    todo: list[Any] = [loss.grad_fn]
    seen: set[Any] = set()
    while todo and len(seen) < FARTHEST:
        node = todo.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        wrong = next((head for name, head in TWICE.items() if _is(node, name)), "")
        below = [n for n, _ in node.next_functions]
        if wrong and below and _head(below[0]) == wrong:
            return wrong
        todo += below
    return ""


def _head(node: Any) -> str:
    for _ in range(FARTHEST):
        if node is None:
            return ""
        found = next((head for name, head in HEADS.items() if _is(node, name)), "")
        if found:
            return found
        if not any(_is(node, name) for name in VIEWS) or not node.next_functions:
            return ""
        node = node.next_functions[0][0]
    return ""


def _is(node: Any, name: str) -> bool:
    """Whether a node is of this function: ``SoftmaxBackward0``, and not ``SoftmaxFooBackward0``."""
    found = type(node).__name__
    return found.startswith((f"{name}Backward", f"{name}2DBackward", f"{name}NdBackward"))
