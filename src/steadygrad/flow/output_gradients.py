"""What a scalar sends to the results of each call: the one place where that is collected."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.chain import chained
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
    results = [t for call in calls for t in call.results]
    wanted = [*results, *beside]
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if wanted and scalar.requires_grad:
        found = torch.autograd.grad(scalar, wanted, retain_graph=True, allow_unused=True)
    by_id = {id(t): g for t, g in zip(results, found, strict=False)}
    return [call.collect(by_id) for call in calls], list(found[len(results) :])


def joined_gradients(
    scalar: Tensor, calls: Sequence[Call], beside: Sequence[Tensor] = ()
) -> tuple[list[Call], list[OutputGradient], list[Tensor | None]]:
    """The same, of calls that are first joined to chains where they hand their state on.

    Returns:
        The calls, chains among them; and as `output_gradients`.
    """
    joined = chained(calls)
    grads, others = output_gradients(scalar, joined, beside)
    apart = frozenset(c.name for c in joined if c.chain is not None and c.chain.is_read_inside)
    if apart:
        joined = chained(calls, apart)
        grads, others = output_gradients(scalar, joined, beside)
    return joined, grads, others
