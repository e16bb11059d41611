"""What a scalar sends to the results of each call: the one place where that is collected."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient


def output_gradients(
    scalar: Tensor, calls: Sequence[Call], beside: Sequence[Tensor] = ()
) -> tuple[list[OutputGradient], list[Tensor | None]]:
    """Gradients at the output and the final states of calls; the graph stays.

    Args:
        scalar: A loss, or a part of one.
        calls: With their graphs.
        beside: What else the gradient is wanted of, parameters for example.

    Returns:
        Per call, None where nothing arrives; and of what was asked for beside.
    """
    results = [t for call in calls for t in (call.output, *call.last) if t.requires_grad]
    wanted = [*results, *beside]
    found: Sequence[Tensor | None] = ()
    if wanted and scalar.requires_grad:
        found = torch.autograd.grad(scalar, wanted, retain_graph=True, allow_unused=True)
    else:
        found = [None] * len(wanted)
    # A layer may return one tensor twice: by identity, not by place.
    by_id = {id(t): g for t, g in zip(results, found, strict=False)}
    grads: list[OutputGradient] = [
        (by_id.get(id(c.output)), tuple(by_id.get(id(s)) for s in c.last)) for c in calls
    ]
    return grads, list(found[len(results) :])
