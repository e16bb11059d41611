"""Where a loss enters a recurrent layer, and which entries to measure from."""

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient, Rows
from steadygrad.scan import Layout


def entries(rows: Rows, directions: int) -> Tensor:
    """``(T, B)``: whether the loss enters at a time step.

    A gradient at the final state enters where that state is made: at a row's last time step, or,
    in the reverse direction, at its first.
    """
    layout = Layout(rows.batch_sizes)
    found = layout.pad((rows.output != 0).any(1), False).cpu()
    ends = layout.present().sum(0) - 1
    at = torch.arange(layout.batch)
    for grad in rows.last:
        enters = (grad != 0).any(-1).view(-1, directions, layout.batch).any(0).cpu()  # (D, B)
        found[ends, at] |= enters[0]
        if directions == 2:
            found[0, at] |= enters[1]
    return found


def last_entry(found: Tensor) -> Tensor:
    """``(B,)``: the last time step of each row at which the loss enters; -1 if there is none."""
    return torch.where(found, torch.arange(found.shape[0])[:, None], -1).amax(0)


def at_step(found: Tensor, step: int) -> Tensor:
    """``(B,)``: ``step`` for the rows where the loss enters there, else -1."""
    return torch.where(found[step], step, -1)


def choose(found: Tensor, count: int, lag: int | None, both_ways: bool) -> list[int]:
    """Time steps to measure from: spread over the later half, and deep enough for ``lag``.

    Args:
        found: ``(T, B)``, from `entries`.
        count: How many at most.
        lag: Steps that should lie before each, if there are such.
        both_ways: Whether a reverse direction wants sources early in time, too.
    """
    length = found.shape[0]
    steps = found.any(1).nonzero().flatten().tolist()
    depth = max(lag or 0, length // 2)
    chosen = spread([s for s in steps if s >= depth] or steps[-1:], count)
    if both_ways:
        chosen += spread([s for s in steps if length - 1 - s >= depth] or steps[:1], count)
    return sorted(set(chosen))


def spread(steps: list[int], count: int) -> list[int]:
    """At most ``count`` of the steps, evenly, first and last among them."""
    if len(steps) <= count:
        return steps
    if count == 1:
        return steps[-1:]
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]


def only_from(call: Call, grad: OutputGradient, step: int) -> OutputGradient:
    """The part of an output gradient that enters at one time step, shaped as the call's results."""
    output, last = grad
    output = None if output is None else call.arranged.only(output, step)
    return output, tuple(None if g is None else _last_part(call, g, step) for g in last)


def _last_part(call: Call, grad: Tensor, step: int) -> Tensor:
    """Of a final state's gradient what was made at ``step``: forward at the end, reverse at 0."""
    arranged, directions = call.arranged, call.view.num_directions
    (rows,) = arranged.states((grad,))
    masked = torch.zeros_like(rows)
    here = (arranged.ends() == step).to(rows)[:, None]
    masked[::directions] = rows[::directions] * here
    if directions == 2 and step == 0:
        masked[1::2] = rows[1::2]
    return arranged.handed((masked,))[0]


def is_reached(grad: OutputGradient) -> bool:
    """Whether any gradient arrived at the results of a call."""
    return grad[0] is not None or any(g is not None for g in grad[1])


def top_of(index: int, calls: list[Call], grads: list[OutputGradient]) -> int:
    """The last call above, in the graph, at which the loss enters."""
    for top in range(len(calls) - 1, index, -1):
        if not is_reached(grads[top]):
            continue
        tops, below = calls[top].results, calls[index].results
        ones = [torch.zeros_like(t) for t in tops]
        found = torch.autograd.grad(tops, below, ones, retain_graph=True, allow_unused=True)
        if any(g is not None for g in found):
            return top
    return index


def part_of(calls: list[Call], index: int, top: int, masked: OutputGradient) -> OutputGradient:
    """Gradient at one call of a gradient at the results of the top call."""
    if index == top:
        return masked
    pairs, wanted = calls[top].spread(masked), calls[index].results
    found = torch.autograd.grad(
        [t for t, _ in pairs], wanted, [g for _, g in pairs], retain_graph=True, allow_unused=True
    )
    return calls[index].collect({id(t): g for t, g in zip(wanted, found, strict=True)})
