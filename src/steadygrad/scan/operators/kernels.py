"""What the operators compute, on any device; what torch knows of them without values."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from steadygrad.scan.backends.base import OutputGradients, Saved
from steadygrad.scan.backends.choose import choose
from steadygrad.scan.call import ScanCall
from steadygrad.scan.operators.padding import Padding
from steadygrad.scan.operators.schema import LIBRARY, call_of, call_without_sizes, names_of

HIDDEN = "hidden"


def _scan(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    call, padding = call_of(cell, names, reverse, sizes, tensors)
    if padding is not None and not padding.batch:
        return _nothing(call, padding, tensors)
    done = choose(call).forward(call, keep=False)
    return _own(_laid([done.hidden, *done.final], padding, tensors), tensors)


def _scan_keep(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    call, padding = call_of(cell, names, reverse, sizes, tensors)
    backend = choose(call)
    shapes = backend.saved_shapes(call)
    if padding is None:
        done = backend.forward(call, keep=shapes is not None)
        kept = [done.saved.tensors[name] for name in shapes or () if name != HIDDEN]
        return _own([done.hidden, *done.final, *kept], tensors)
    padded = backend.saved_shapes(call_without_sizes(cell, names, reverse, tensors)) or {}
    whole = [call.weights.weight_ih.new_zeros(s) for n, s in padded.items() if n != HIDDEN]
    if not padding.batch:
        return [*_nothing(call, padding, tensors), *whole]
    done = backend.forward(call, keep=shapes is not None)
    own = [done.saved.tensors[name] for name in shapes or () if name != HIDDEN]
    for block, value in zip(whole, own, strict=True):
        # Opaque: read by `_scan_back` alone, and only as far as it was written.
        block.view(-1)[: value.numel()].copy_(value.reshape(-1))
    return _own([*_laid([done.hidden, *done.final], padding, tensors), *whole], tensors)


def _scan_back(
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
) -> list[Tensor]:
    call, padding = call_of(cell, names, reverse, sizes, tensors)
    own = names_of(names)
    hidden, *final = grads
    if padding is not None:
        if not padding.batch:
            return _nothing_back(own, tensors, final, needed)
        at = padding.places.to(call.x.device)
        hidden = None if hidden is None else hidden.index_select(0, at)
        final = [None if g is None else g[: padding.batch] for g in final]
    backend = choose(call)
    shapes = backend.saved_shapes(call)
    if shapes is not None and len(saved) == len(shapes):
        blocks = saved
        if padding is not None:
            blocks = [
                saved[0].index_select(0, padding.places.to(saved[0].device)),
                *(
                    block.view(-1)[: math.prod(shape)].view(shape)
                    for block, shape in zip(saved[1:], list(shapes.values())[1:], strict=True)
                ),
            ]
        kept = Saved(dict(zip(shapes, blocks, strict=True)))
    else:  # nothing that this back end can read was kept
        kept = backend.forward(call, keep=True).saved
    if hidden is None:
        hidden = call.state[0].new_zeros(call.layout.rows, call.width)
    wanted = {name for name, need in zip(own, needed, strict=True) if need}
    found = backend.backward(call, kept, OutputGradients(hidden.contiguous(), tuple(final)), wanted)
    placed = found.in_order(own, needed)
    if padding is not None:
        last = iter(grads[1:])
        lasts = [next(last) if name == "state" else None for name in own]
        placed = tuple(
            g if g is None else padding.placed(name, g, t, l)
            for name, g, t, l in zip(own, placed, tensors, lasts, strict=True)
        )
    pairs = zip(placed, tensors, needed, strict=True)
    full = [torch.zeros_like(t) if g is None else g for g, t, need in pairs if need]
    return _own(full, [*tensors, *saved, *(g for g in grads if g is not None)])


def _laid(
    outputs: Sequence[Tensor], padding: Padding | None, tensors: Sequence[Tensor]
) -> list[Tensor]:
    """The outputs with the padding that was cut off."""
    if padding is None:
        return list(outputs)
    first = tensors[len(tensors) - len(outputs) + 1 :]
    last = [padding.after(a, b) for a, b in zip(outputs[1:], first, strict=True)]
    return [padding.spread(outputs[0]), *last]


def _nothing(call: ScanCall, padding: Padding, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The outputs where no row takes part."""
    hidden = call.weights.weight_ih.new_zeros(padding.total, call.width)
    return [hidden, *(s.clone() for s in tensors[len(tensors) - len(call.state) :])]


def _nothing_back(
    names: Sequence[str],
    tensors: Sequence[Tensor],
    final: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor]:
    """The gradients where no row takes part: the state is handed on as it is."""
    last = iter(final)
    found: list[Tensor] = []
    for name, value, need in zip(names, tensors, needed, strict=True):
        grad = next(last) if name == "state" else None
        if need:
            found.append(torch.zeros_like(value) if grad is None else grad.clone())
    return found


def _own(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, contiguous and each in memory of its own, as torch is told that they are."""
    taken = {t.untyped_storage().data_ptr() for t in inputs}
    found: list[Tensor] = []
    for value in outputs:
        value = value.contiguous()
        address = value.untyped_storage().data_ptr()
        if address in taken and value.numel():
            value = value.clone()
            address = value.untyped_storage().data_ptr()
        taken.add(address)
        found.append(value)
    return found


def _fake_scan(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    call = call_without_sizes(cell, names, reverse, tensors)
    like = call.weights.weight_ih
    hidden = like.new_empty((call.x.shape[0], call.width))
    return [hidden, *(like.new_empty(s.shape) for s in call.state)]


def _fake_scan_keep(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    outputs = _fake_scan(cell, names, reverse, sizes, tensors)
    call = call_without_sizes(cell, names, reverse, tensors)
    shapes = choose(call).saved_shapes(call) or {}
    like = call.weights.weight_ih
    return outputs + [like.new_empty(shape) for name, shape in shapes.items() if name != HIDDEN]


def _fake_scan_back(
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, need in zip(tensors, needed, strict=True) if need]


for _name, _real, _fake in (
    ("scan", _scan, _fake_scan),
    ("scan_keep", _scan_keep, _fake_scan_keep),
    ("scan_back", _scan_back, _fake_scan_back),
):
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"steadygrad::{_name}", _fake, lib=LIBRARY)


def _products(call: ScanCall) -> int:
    """Multiplications and additions of one forward pass, in matrix products alone."""
    rows = call.x.shape[0]
    matrices = [call.weights.weight_hh, call.weights.weight_hr]
    if not call.is_coded:
        matrices.append(call.weights.weight_ih)
    return 2 * rows * sum(m.numel() for m in matrices if m is not None)


def _count_forward(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor], **_: object
) -> int:
    return _products(call_without_sizes(cell, names, reverse, tensors))


def _count_backward(
    cell: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    saved: list[Tensor],
    grads: list[Tensor | None],
    needed: list[bool],
    **_: object,
) -> int:
    call = call_without_sizes(cell, names, reverse, tensors)
    need = {name for name, is_needed in zip(names_of(names), needed, strict=True) if is_needed}
    rows, weights = call.x.shape[0], call.weights
    # The gradient passes through R (and the projection) whatever is asked for.
    through = [weights.weight_hh, weights.weight_hr]
    through += [weights.weight_ih] if "x" in need else []
    through += [getattr(weights, n) for n in ("weight_hh", "weight_hr") if n in need]
    through += [weights.weight_ih] if "weight_ih" in need and not call.is_coded else []
    return 2 * rows * sum(m.numel() for m in through if m is not None)


OPERATORS = torch.ops.steadygrad
# With `get_raw` a formula is given tensors and not shapes: it needs the names of the weights.
register_flop_formula([OPERATORS.scan, OPERATORS.scan_keep], get_raw=True)(_count_forward)
register_flop_formula(OPERATORS.scan_back, get_raw=True)(_count_backward)
