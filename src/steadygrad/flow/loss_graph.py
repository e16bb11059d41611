"""The graph next to a loss: which functions made what the loss is computed from."""

from dataclasses import dataclass
from typing import Any, final

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
ERRORS = ("MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
FARTHEST = 256  # nodes


def head_of(output: Tensor) -> str:
    """``"softmax"`` or ``"sigmoid"`` if that, and then nothing but views, made a tensor; or ""."""
    return _head(output.grad_fn)


@final
@dataclass(frozen=True)
class Slips:
    """What goes wrong between a model's output and its loss without an error.

    Attributes:
        twice: ``"softmax"`` or ``"sigmoid"`` if a loss that applies it is given its results; or "".
        pairs: n if n outputs ``(n, 1)`` are held to n targets ``(n,)``, all to all, by
            broadcasting to ``(n, n)``; 0 else.
    """

    twice: str = ""
    pairs: int = 0


def slips_in(root: Any) -> Slips:
    """Read the graph of a loss, from the node that made it.

    Only names and shapes of nodes are read, so that it works after the backward pass, too.
    """
    todo: list[Any] = [root]
    seen: set[Any] = set()
    twice, pairs = "", 0
    while todo and len(seen) < FARTHEST:
        node = todo.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        wrong = next((head for name, head in TWICE.items() if _is(node, name)), "")
        below = [n for n, _ in node.next_functions]
        if wrong and below and _head(below[0]) == wrong:
            twice = twice or wrong
        pairs = pairs or _pairs(node, below)
        todo += below
    return Slips(twice, pairs)


def _pairs(node: Any, below: list[Any]) -> int:
    """n, if this node takes targets from outputs, and n outputs were stretched to ``(n, n)``."""
    if len(below) != 2 or sum(n is None for n in below) != 1:  # targets have no graph
        return 0
    if not any(_is(node, name) for name in ("Sub", *ERRORS)):
        return 0
    side, stretched = below[0] or below[1], _shape(node)
    if _is(side, "Expand"):  # an error broadcasts before it begins, a difference by itself
        side, stretched = side.next_functions[0][0], _shape(side)
    n = stretched[0] if len(stretched) == 2 else 0
    return n if n > 1 and stretched == (n, n) and _shape(side) in ((n, 1), (n,)) else 0


def _shape(node: Any) -> tuple[int, ...]:
    """Of what a node has put out; () if it does not tell."""
    told = getattr(node, "_input_metadata", None)  # what its backward takes is what it put out
    return tuple(told[0].shape) if told else ()


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
