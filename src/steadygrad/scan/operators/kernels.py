"""What the operators compute, on any device; what torch knows of them without values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from steadygrad.scan.backends.base import OutputGradients, Saved
from steadygrad.scan.backends.choose import choose
from steadygrad.scan.call import ScanCall
from steadygrad.scan.operators.schema import LIBRARY, call_of, names_of

HIDDEN = "hidden"


def _scan(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    call = call_of(cell, names, reverse, sizes, tensors)
    done = choose(call).forward(call, keep=False)
    return _own([done.hidden, *done.final], tensors)


def _scan_keep(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    call = call_of(cell, names, reverse, sizes, tensors)
    backend = choose(call)
    shapes = backend.saved_shapes(call)
    done = backend.forward(call, keep=shapes is not None)
    kept = [done.saved.tensors[name] for name in shapes or () if name != HIDDEN]
    return _own([done.hidden, *done.final, *kept], tensors)


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
    call = call_of(cell, names, reverse, sizes, tensors)
    backend = choose(call)
    shapes = backend.saved_shapes(call)
    if shapes is not None and len(saved) == len(shapes):
        kept = Saved(dict(zip(shapes, saved, strict=True)))
    else:  # nothing that this back end can read was kept
        kept = backend.forward(call, keep=True).saved
    hidden, *final = grads
    if hidden is None:
        hidden = call.state[0].new_zeros(call.layout.rows, call.width)
    wanted = {name for name, need in zip(names_of(names), needed, strict=True) if need}
    found = backend.backward(call, kept, OutputGradients(hidden.contiguous(), tuple(final)), wanted)
    placed = found.in_order(names_of(names), needed)
    pairs = zip(placed, tensors, needed, strict=True)
    own = [torch.zeros_like(t) if g is None else g for g, t, need in pairs if need]
    return _own(own, [*tensors, *saved, *(g for g in grads if g is not None)])


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
    call = call_of(cell, names, reverse, sizes, tensors, steps=False)
    like = call.weights.weight_ih
    hidden = like.new_empty((call.x.shape[0], call.width))
    return [hidden, *(like.new_empty(s.shape) for s in call.state)]


def _fake_scan_keep(
    cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
) -> list[Tensor]:
    outputs = _fake_scan(cell, names, reverse, sizes, tensors)
    call = call_of(cell, names, reverse, sizes, tensors, steps=False)
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
    return _products(call_of(cell, names, reverse, sizes, tensors, steps=False))


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
    call = call_of(cell, names, reverse, sizes, tensors, steps=False)
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
