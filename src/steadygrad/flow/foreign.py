"""Functions of other libraries in the graph of a loss that hand something from step to step.

A fused kernel (a `torch.autograd.Function`, an operator, C++) is one node of the graph, whatever
runs inside. If a gradient that enters at one step comes out at steps before it and at none behind
it, it holds a recurrence, or causal attention, whose states are hidden. A function of each
element, or one that mixes all elements (a norm), holds none.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

FAR = 8
"""Steps over which something has to be handed on: a short causal convolution is no recurrence."""
_OURS = ("torch.", "steadygrad.")
_OPERATOR = "GeneratedBackwardFor_"


def foreign_functions(nodes: Iterable[Any], may_run: bool) -> tuple[str, ...]:
    """Name the functions of other libraries that hand something from step to step.

    Args:
        nodes: Of the graph of a loss.
        may_run: Whether the backward pass of a single node may be run, by itself: only on a graph
            that is not needed afterwards, for a kernel may let go of what it keeps. Otherwise, and
            where it cannot be run, a function of two sequences or more counts (q, k, v).
    """
    found: dict[str, bool] = {}
    for node in nodes:
        name = _foreign(node)
        if name is not None and not found.get(name):
            told = _hands_on(node) if may_run else None
            found[name] = _reads_sequences(node) if told is None else told
    return tuple(name for name, hands_on in found.items() if hands_on)


def _foreign(node: Any) -> str | None:
    """The name of a function that is neither torch's nor ours; None of any other."""
    full = node.name()
    if full.startswith("torch::autograd::CppNode<"):
        return full.removeprefix("torch::autograd::CppNode<").removesuffix(">")
    made = getattr(type(node), "_forward_cls", None)
    if made is None:
        return None
    if full.startswith(_OPERATOR):
        name = full.removeprefix(_OPERATOR).removesuffix("Backward")
        return None if name.startswith("steadygrad") else name
    return None if f"{made.__module__}.".startswith(_OURS) else made.__name__


def _reads_sequences(node: Any) -> bool:
    edges = [b._input_metadata[i].shape for b, i in node.next_functions if b is not None]
    return sum(len(shape) > 2 for shape in edges) > 1


@torch.no_grad()
def _hands_on(node: Any) -> bool | None:
    """Run the backward pass of one node with a gradient at one step; None where that fails."""
    results = node._input_metadata
    try:
        for which, result in enumerate(results):
            for axis, size in enumerate(result.shape):
                if size <= FAR:
                    continue
                # Whichever way it runs: from step FAR to 0, or from the FAR-th last to the last.
                for place, end, behind in (
                    (FAR, 0, slice(FAR + 1, None)),
                    (size - 1 - FAR, size - 1, slice(0, size - 1 - FAR)),
                ):
                    given = [torch.zeros(r.shape, dtype=r.dtype, device=r.device) for r in results]
                    given[which].select(axis, place).fill_(1)
                    back = type(node)._forward_cls.backward(node, *given)
                    if any(_is_reached(g, axis, size, end, behind) for g in _tensors(back)):
                        return True
    except Exception:  # whatever another library raises
        return None
    return False


def _tensors(back: Any) -> list[Tensor]:
    return [g for g in (back if isinstance(back, tuple) else (back,)) if isinstance(g, Tensor)]


def _is_reached(grad: Tensor, axis: int, size: int, end: int, behind: slice) -> bool:
    """Whether a gradient comes out at the end that is far off, and at no step behind its entry."""
    if grad.dim() <= axis or grad.shape[axis] != size:
        return False
    by_step = grad.abs().movedim(axis, 0).flatten(1).amax(1)
    rest = by_step[behind]
    return bool(by_step[end] > 0) and len(rest) > 0 and not bool((rest != 0).any())
