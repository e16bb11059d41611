r"""Calls of one layer that each saw some rows of a batch, put together as one call.

A batch comes in parts where gradients are accumulated over micro-batches, and where several
processes share it. The gradient of the whole at a time step is then

.. math::
    |\partial L / \partial h_t|^2 = \sum_p |\partial L / \partial h_t^{(p)}|^2

over the parts p, as rows of a batch have nothing in common but the weights. Not only this sum is
additive in rows: so is all else that a replay measures, if it is given the rows of all parts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient, Rows, rows_of, rows_read
from steadygrad.nn.arrangement import Arrangement
from steadygrad.scan import Layout


@dataclass(frozen=True)
class Part:
    """Some rows of a call and of the gradient at its results, free of the layout; on the CPU.

    Attributes:
        name: Of the call.
        rows: What went in, and the gradients at the results; zero where none arrived.
        output: What came out, ``(N, D*P)``.
        last: The final states, each ``(L*D, B, ·)``.
        reached: Whether a gradient arrived at the output, and at each final state.
        goes_on: As in `Call`.
        below: As in `Call`.
    """

    name: str
    rows: Rows
    output: Tensor
    last: tuple[Tensor, ...]
    reached: tuple[bool, ...]
    goes_on: bool
    below: tuple[str, ...] = ()


def part_of_call(call: Call, grad: OutputGradient, limit: int | None = None) -> Part:
    """Take at most ``limit`` rows of a call, those that the loss reads first, to the CPU."""
    chosen = rows_read(call, grad, limit)
    values = rows_of(replace(call, noise_seed=None), (call.output, call.last), chosen)
    rows = rows_of(call, grad, chosen)
    return Part(
        call.name,
        Rows(
            x=_kept(rows.x),
            batch_sizes=rows.batch_sizes,
            state=tuple(map(_kept, rows.state)),
            noise=rows.noise and tuple({n: _kept(v) for n, v in d.items()} for d in rows.noise),
            output=_kept(rows.output),
            last=tuple(map(_kept, rows.last)),
        ),
        _kept(values.output),
        tuple(map(_kept, values.last)),
        tuple(g is not None for g in (grad[0], *grad[1])),
        call.goes_on,
        call.below,
    )


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def merged(
    parts: Iterable[Part], layers: dict[str, nn.Module]
) -> tuple[list[Call], list[OutputGradient]]:
    """Put the parts of each call together, in the order in which the calls are first met.

    Args:
        parts: Of any number of calls.
        layers: The modules by name; a later call of the same one is ``name#2``.
    """
    by_name: dict[str, list[Part]] = {}
    for part in parts:
        by_name.setdefault(part.name, []).append(part)
    pairs = [_one(found, layers[name.partition("#")[0]]) for name, found in by_name.items()]
    return [call for call, _ in pairs], [grad for _, grad in pairs]


def _one(parts: Sequence[Part], layer: nn.Module) -> tuple[Call, OutputGradient]:
    device = next(layer.parameters()).device
    rows = [part.rows for part in parts]
    layouts = [Layout(r.batch_sizes) for r in rows]
    lengths = torch.cat([layout.present().sum(0) for layout in layouts])
    order = lengths.argsort(descending=True, stable=True)

    def over_time(tensors: Sequence[Tensor]) -> Tensor:
        steps = max(len(layout.batch_sizes) for layout in layouts)
        wide = []
        for layout, tensor in zip(layouts, tensors, strict=True):
            padded = layout.pad(tensor, 0)
            wide.append(nn.functional.pad(padded, (0, 0, 0, 0, 0, steps - len(padded))))
        together = torch.cat(wide, 1)[:, order]
        return pack_padded_sequence(together, lengths[order]).data.to(device)

    def over_rows(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors), 1)[:, order].to(device)

    def states(each: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(over_rows(one) for one in zip(*each, strict=True))

    sizes = tuple((lengths[:, None] > torch.arange(int(lengths.max()))).sum(0).tolist())
    # A state that some part was not given starts at zero there.
    starts = _starts(parts)
    packed = PackedSequence(over_time([r.x for r in rows]), torch.tensor(sizes))
    call = Call(
        parts[0].name,
        layer,
        packed,
        states(starts),
        over_time([part.output for part in parts]),
        states([part.last for part in parts]),
        goes_on=any(part.goes_on for part in parts),
        noise=_noise(rows, over_time, order, device),
        layout=Arrangement.of(packed),
        below=parts[0].below,
    )
    reached = [any(flags) for flags in zip(*(part.reached for part in parts), strict=True)]
    output = over_time([r.output for r in rows]) if reached[0] else None
    last = states([r.last for r in rows])
    grad = output, tuple(g if has else None for g, has in zip(last, reached[1:], strict=True))
    return (call, grad) if len(set(sizes)) > 1 else _laid_out(call, grad, sizes)


def _starts(parts: Sequence[Part]) -> list[tuple[Tensor, ...]]:
    if not any(part.rows.state for part in parts):
        return [() for _ in parts]
    return [
        part.rows.state or tuple(torch.zeros_like(s) for s in part.last)  # of projections: h alone
        for part in parts
    ]


def _noise(
    rows: Sequence[Rows],
    over_time: Callable[[Sequence[Tensor]], Tensor],
    order: Tensor,
    device: torch.device,
) -> tuple[dict[str, Tensor], ...] | None:
    """What the cell drew: for each row and step, or for each row."""
    if any(r.noise is None for r in rows):
        return None
    found: list[dict[str, Tensor]] = []
    for drawn in zip(*(r.noise for r in rows if r.noise is not None), strict=True):
        together: dict[str, Tensor] = {}
        for name in drawn[0]:
            values = [d[name] for d in drawn]
            if all(len(v) == len(r.x) for v, r in zip(values, rows, strict=True)):
                together[name] = over_time(values)
            else:
                together[name] = torch.cat(values)[order].to(device)
        found.append(together)
    return tuple(found)


def _laid_out(
    call: Call, grad: OutputGradient, sizes: tuple[int, ...]
) -> tuple[Call, OutputGradient]:
    """A call of rows of one length in the layout that its layer takes."""
    layout = Arrangement.of_sizes(sizes, call.view.batch_first)
    laid = layout.laid
    dense = replace(call, input=laid(call.input.data), output=laid(call.output), layout=layout)
    return dense, (None if grad[0] is None else laid(grad[0]), grad[1])
