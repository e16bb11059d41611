"""Calls of a layer that record nothing: no gradient is wanted, so everything else can be prepared.

What a call of the same shapes needs beside its tensors (checks, layout, back end, split over
threads, argument words) is made once. Of weights nothing is kept: each call asks them anew where
their memory is and whether its shape, dtype and strides are still those, and the kernel reads them
there. So no change of a weight can be missed, whoever makes it and by whatever means.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan import Layout, Prepared, ScanCall, choose, is_plain, settings
from steadygrad.scan.backends import forks

if TYPE_CHECKING:
    from steadygrad.nn.recurrent import Recurrent

MOST = 32
"""Shapes of which calls are prepared, per layer."""
Key = tuple[Any, ...]
_WEIGHTS = (Tensor, torch.nn.Parameter)


@dataclass(frozen=True, eq=False)
class _Scan:
    """One layer in one direction.

    Attributes:
        prepared: What runs it.
        weights: Name and shape of each weight, in the order of `ScanCall.split`; of a weight that
            the layer does not have, no name.
        constants: The same of the cell's constants.
    """

    prepared: Prepared
    weights: tuple[tuple[str, torch.Size], ...]
    constants: tuple[tuple[str, torch.Size], ...]


@dataclass(frozen=True, eq=False)
class _Shape:
    """All of a call that its shapes decide.

    Attributes:
        cell: What ran then.
        scans: Per layer and direction.
        hidden: Shape of h after every step of one direction, as the kernels write it.
        states: Shape of each last state of all layers, and bytes from one layer's to the next.
        zeros: Where the states before the first step are, if none are given; and what holds them.
        transposed: Whether input and output have their first two axes the other way round.
    """

    cell: Cell
    scans: tuple[_Scan, ...]
    hidden: tuple[int, ...]
    states: tuple[tuple[tuple[int, ...], int], ...]
    zeros: tuple[tuple[int, ...], tuple[Tensor, ...]]
    transposed: bool


@final
@dataclass(eq=False)
class Unrecorded:
    """The prepared calls of one layer; several threads may use it at the same time.

    A shape is prepared when it comes the second time, after a call that went the long way, where
    everything that can be wrong is refused. None stands for a call that cannot be prepared.
    """

    _known: dict[Key, _Shape | None] = field(default_factory=dict)
    _seen: dict[Key, None] = field(default_factory=dict)

    def key(self, layer: "Recurrent", input: Any, hx: Any) -> Key | None:
        """What such a call is known by; None if nothing can be prepared for it."""
        if type(input) is not Tensor or not input.is_cpu or layer.checkpoint:
            return None
        if hx is None:
            given: tuple[Any, ...] = (input,)
        elif isinstance(hx, Tensor):
            given = (input, hx)
        elif isinstance(hx, tuple | list):
            given = (input, *hx)
        else:
            return None
        if (
            not is_plain(given)
            or torch.is_autocast_enabled("cpu")
            or torch._C._len_torch_function_stack()
            or input.is_neg()
            or input.layout is not torch.strided
        ):
            return None
        if torch.is_grad_enabled() and any(t.requires_grad for t in given):
            return None
        forks.settle()
        return (
            input.shape,
            input.dtype,
            len(given),
            layer.batch_first,
            layer.backend,
            torch.get_num_threads(),
            *settings(),
        )

    def run(self, layer: "Recurrent", key: Key, input: Tensor, hx: Any) -> Any:
        """Output and last state; None if the call has to go the long way."""
        shape = self._known.get(key)
        if shape is None or shape.cell is not layer.cell:
            return None
        if layer.training and layer.dropout and layer.num_layers > 1:
            return None
        addresses = _weights(layer, shape, input.dtype)
        if addresses is None:
            return None
        starts = shape.zeros[0] if hx is None else _starts(shape, input, hx)
        if starts is None:
            return None
        x = input.transpose(0, 1) if shape.transposed else input
        x = x.contiguous()
        finals = [x.new_empty(s) for s, _ in shape.states]
        ends = [f.data_ptr() for f in finals]
        directions = 2 if layer.bidirectional else 1
        for first in range(0, len(shape.scans), directions):
            outputs = []
            for k in range(first, first + directions):
                begin, end = starts, ends
                if k:  # of each state, the part that is this scan's
                    end = [e + k * lead for e, (_, lead) in zip(ends, shape.states, strict=True)]
                if k and hx is not None:
                    begin = [s + k * n for s, (_, n) in zip(starts, shape.states, strict=True)]
                run = shape.scans[k].prepared.run
                outputs.append(run(x, shape.hidden, addresses[k], begin, end))
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        output = x.transpose(0, 1) if shape.transposed else x
        return output, tuple(finals) if len(finals) > 1 else finals[0]

    def note(self, layer: "Recurrent", key: Key, input: Tensor) -> None:
        """After a call that went the long way: prepare the next such, if this is the second."""
        if key in self._known:
            return
        if key not in self._seen:
            self._seen[key] = None
            _bound(self._seen)
            return
        self._known[key] = _prepare(layer, input)
        _bound(self._known)

    def __reduce__(self) -> tuple[Any, ...]:
        # Addresses belong to one process; a copy of a layer prepares its own.
        return Unrecorded, ()


def _bound(known: dict[Key, Any]) -> None:
    while len(known) > MOST:
        try:
            del known[next(iter(known))]  # the oldest
        except (KeyError, RuntimeError, StopIteration):  # another thread was faster
            return


def _weights(layer: "Recurrent", shape: _Shape, dtype: torch.dtype) -> list[list[int]] | None:
    """Where the weights of every scan are now; None if one is not as the kernel wants it."""
    recorded = torch.is_grad_enabled()
    found = []
    for one in shape.scans:
        own = []
        for held, wanted in ((layer._parameters, one.weights), (layer._buffers, one.constants)):
            for name, size in wanted:
                if not name:
                    own.append(0)
                    continue
                value = held.get(name)
                if (
                    value is None
                    or type(value) not in _WEIGHTS
                    or value.dtype is not dtype
                    or value.shape != size
                    or not value.is_cpu
                    or not value.is_contiguous()
                    or value.is_neg()
                    or (recorded and value.requires_grad)
                ):
                    return None
                own.append(value.data_ptr())
        found.append(own)
    return found


def _starts(shape: _Shape, input: Tensor, hx: Any) -> list[int] | None:
    """Where the given states are; None if they are not as they should be, in any way."""
    given = (hx,) if isinstance(hx, Tensor) else hx
    if len(given) != len(shape.states):
        return None
    for value, (size, _) in zip(given, shape.states, strict=True):
        if (
            value.dtype is not input.dtype
            or value.shape != size
            or not value.is_cpu
            or not value.is_contiguous()
            or value.is_neg()
        ):
            return None
    return [value.data_ptr() for value in given]


def _prepare(layer: "Recurrent", input: Tensor) -> _Shape | None:
    """Prepare calls of the shapes of one that has just been run."""
    cell = layer.cell
    if (
        not input.is_floating_point()
        or input.dim() not in (2, 3)
        or not input.numel()
        or cell.noise
        or type(cell).recurrent_matrix is not Cell.recurrent_matrix
    ):
        return None
    batched = input.dim() == 3
    transposed = batched and layer.batch_first
    sizes = tuple(input.shape[:-1]) if batched else (input.shape[0], 1)
    steps, batch = sizes[::-1] if transposed else sizes
    width, size = layer.output_size, layer.hidden_size
    count = layer.num_layers * layer.num_directions
    scans = []
    for number, reverse in product(range(layer.num_layers), (False, True)[: layer.num_directions]):
        weights = layer.weights(number, reverse)
        like = weights.weight_ih.detach()
        state = (like.new_zeros(batch, width),)
        state += (like.new_zeros(batch, size),) * (len(cell.states) - 1)
        x = like.new_zeros(steps * batch, like.shape[1])
        call = ScanCall(
            cell, x, weights, state, Layout.dense(steps, batch, reverse), backend=layer.backend
        )
        prepared = choose(call).prepared(call)
        if prepared is None:
            return None
        suffix = layer._suffixes(number)[reverse]
        units = iter(cell.per_unit)
        named, constants = [], []
        for name, value in weights.flat():
            if name.startswith("constant."):
                constants.append((name.replace(".", "_"), value.shape))
                continue
            own = (next(units) if name == "unit" else name) + suffix
            named.append((own if value.numel() else "", value.shape))
        scans.append(_Scan(prepared, tuple(named), tuple(constants)))
    widths = [width] + [size] * (len(cell.states) - 1)
    shapes = [(count, batch, w) if batched else (count, w) for w in widths]
    leads = [batch * w * input.element_size() for w in widths]
    zeros = tuple(torch.zeros(batch, w, dtype=input.dtype) for w in widths)
    return _Shape(
        cell,
        tuple(scans),
        (steps, batch, width) if batched else (steps, width),
        tuple(zip(shapes, leads, strict=True)),
        (tuple(z.data_ptr() for z in zeros), zeros),
        transposed,
    )
