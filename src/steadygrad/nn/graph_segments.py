"""The scan of a traced graph in pieces over time, as `steadygrad.nn.segments` has it of a call."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steadygrad.cells import State
from steadygrad.nn.segments import Cuts
from steadygrad.scan import Weights, scan_in_graph


def scan_graph_in_segments(
    text: str,
    x: Tensor,
    weights: Weights,
    state: State,
    reverse: bool,
    sizes: Tensor | None,
    resets: Tensor | None,
    start: State | None,
    steps: int,
    cuts: Cuts,
) -> tuple[Tensor, State]:
    """Run a cell over time by one operator a piece; values and gradients as of a plain call.

    The pieces are part of the graph, and so their number is: another number of steps is another
    graph, unless ``burn_in`` is all that cuts.

    Args:
        text: As of `steadygrad.scan.operator_text`.
        x: ``(T*B, I)``, or codes ``(T*B,)``.
        weights: Weights of one direction.
        state: State before the first step, ``(B, ·)`` each.
        reverse: Whether the steps are taken from the last to the first.
        sizes: Rows that take part at each time step, not increasing; None for all.
        resets: As of `steadygrad.scan.ScanCall`.
        start: As of `steadygrad.scan.ScanCall`.
        steps: Time steps, ``T``.
        cuts: How the scan is cut.
    """
    batch = state[0].shape[0]
    starts: Sequence[int] = [0]
    if cuts.truncate is not None or cuts.checkpoint:
        starts = cuts.starts(int(steps))
    elif cuts.burn_in:
        starts = [0, cuts.burn_in]
    hidden: list[Tensor] = []
    ran: Tensor | None = None  # rows that took part in the piece before
    for start_at, stop in zip(starts, [*starts[1:], steps], strict=True):
        begin, end = (steps - stop, steps - start_at) if reverse else (start_at, stop)
        rows = slice(begin * batch, end * batch)
        whole = len(starts) == 1
        own_x = x if whole else x[rows]
        own_sizes = sizes if whole or sizes is None else sizes[begin:end]
        own_resets = resets if whole or resets is None else resets[rows]
        own_weights = weights if whole else _noise_of(weights, rows, steps * batch)
        if cuts.sever(start_at):
            state = tuple(_severed(s, ran, own_sizes) for s in state)

        def run(
            x: Tensor,
            *state: Tensor,
            weights: Weights = own_weights,
            sizes: Tensor | None = own_sizes,
            resets: Tensor | None = own_resets,
        ) -> tuple[Tensor, ...]:
            out, last = scan_in_graph(text, x, weights, state, reverse, sizes, resets, start)
            return out, *last

        if start_at < cuts.burn_in:
            with torch.no_grad():
                out, *last = run(own_x, *state)
        elif cuts.checkpoint:
            out, *last = checkpoint(run, own_x, *state, use_reentrant=False)
        else:
            out, *last = run(own_x, *state)
        hidden.append(out)
        state = tuple(last)
        ran = None if own_sizes is None else own_sizes[0]
    if len(hidden) == 1:
        return hidden[0], state
    return torch.cat(hidden[::-1] if reverse else hidden), state


def _severed(state: Tensor, before: Tensor | None, sizes: Tensor | None) -> Tensor:
    """A state without its past, in those rows that ran on both sides of the cut."""
    if before is None or sizes is None:
        return state.detach()
    count = torch.minimum(before, sizes[0]).to(state.device)
    ran = torch.arange(state.shape[0], device=state.device) < count
    return torch.where(ran[:, None], state.detach(), state)


def _noise_of(weights: Weights, rows: slice, total: int) -> Weights:
    """The weights with that part of the noise which some rows read."""
    noise = {
        name: value[rows] if value.dim() == 2 and value.shape[0] == total else value
        for name, value in weights.noise.items()
    }
    return Weights(
        weights.weight_ih,
        weights.weight_hh,
        weights.bias_ih,
        weights.bias_hh,
        weights.weight_hr,
        weights.per_unit,
        weights.constants,
        noise,
    )
