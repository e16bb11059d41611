"""Calls of a layer whose shapes came before: what the shapes decide is made once.

Checks, layout, back end, split over threads and argument words are the same for every call of the
same shapes. Of weights nothing is kept: each call asks them anew where their memory is and whether
its shape, dtype and strides are still those, and the kernel reads them there. So no change of a
weight can be missed, by whatever means it is made.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.cells import Cell
from steadygrad.scan import (
    Layout,
    Prepared,
    PreparedRun,
    ScanCall,
    choose,
    is_plain,
    is_profiled,
    scan_prepared,
    settings,
)
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
        recorded: The same as autograd has it, without a clip and an observer.
        weights: Name and shape of each weight, in the order of `ScanCall.split`.
        constants: The same of the cell's constants.
    """

    prepared: Prepared
    recorded: PreparedRun
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
        zeros: The states before the first step, if none are given, and where they are.
        transposed: Whether input and output have their first two axes the other way round.
    """

    cell: Cell
    scans: tuple[_Scan, ...]
    hidden: tuple[int, ...]
    states: tuple[tuple[tuple[int, ...], int], ...]
    zeros: tuple[list[Tensor], list[int]]
    transposed: bool


@final
@dataclass(eq=False)
class PreparedCalls:
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
        if layer.learn_initial_state or layer.burn_in or is_profiled():
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
        weights = [_tensors(layer, one, input.dtype) for one in shape.scans]
        if None in weights:
            return None
        starts = _starts(shape, input, hx)
        if starts is None:
            return None
        x = input.transpose(0, 1) if shape.transposed else input
        x = x.contiguous()
        if torch.is_grad_enabled() and (
            input.requires_grad
            or any(s.requires_grad for s in starts)
            or any(w.requires_grad for own in weights if own for w in own)
        ):
            if layer.truncate is not None:
                return None
            return _recorded(layer, shape, x, weights, starts)
        return _unrecorded(layer, shape, x, weights, starts if hx is not None else None)

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
        return PreparedCalls, ()


def _bound(known: dict[Key, Any]) -> None:
    while len(known) > MOST:
        try:
            del known[next(iter(known))]  # the oldest
        except (KeyError, RuntimeError, StopIteration):  # another thread was faster
            return


def _unrecorded(
    layer: "Recurrent", shape: _Shape, x: Tensor, weights: list[Any], given: list[Tensor] | None
) -> Any:
    """A call that no backward pass follows: all scans write their last states to one place."""
    starts = shape.zeros[1] if given is None else [value.data_ptr() for value in given]
    finals = [x.new_empty(*s) for s, _ in shape.states]
    ends = [f.data_ptr() for f in finals]
    directions = layer.num_directions
    for first in range(0, len(shape.scans), directions):
        if first and layer.dropout:
            x = F.dropout(x, layer.dropout, layer.training)
        outputs = []
        for k in range(first, first + directions):
            begin, end = starts, ends
            if k:  # of each state, the part that is this scan's
                end = [e + k * lead for e, (_, lead) in zip(ends, shape.states, strict=True)]
            if k and given is not None:
                begin = [s + k * n for s, (_, n) in zip(starts, shape.states, strict=True)]
            own = [w.data_ptr() for w in weights[k]]
            outputs.append(shape.scans[k].prepared.run(x, shape.hidden, own, begin, end))
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    output = x.transpose(0, 1) if shape.transposed else x
    return output, tuple(finals) if len(finals) > 1 else finals[0]


def _recorded(
    layer: "Recurrent", shape: _Shape, x: Tensor, weights: list[Any], starts: list[Tensor]
) -> Any:
    """A call that a backward pass may follow."""
    directions = layer.num_directions
    last: list[list[Tensor]] = []
    alone = len(shape.scans) == 1
    for first in range(0, len(shape.scans), directions):
        if first and layer.dropout:
            x = F.dropout(x, layer.dropout, layer.training)
        outputs = []
        for k in range(first, first + directions):
            run = shape.scans[k].recorded
            if layer.on_tap is not None or layer.loop_clip is not None:
                tap = layer.on_tap and partial(layer.on_tap, k // directions, k > first)
                frame = replace(run.frame, clip=layer.loop_clip, on_tap=tap)
                run = replace(run, frame=frame)
            own = starts
            if not alone and shape.zeros[0] is not starts:
                own = [s[k] for s in starts]
            hidden, *final = scan_prepared(run, (x, *weights[k], *own))
            outputs.append(hidden)
            last.append(final)
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    output = x.transpose(0, 1) if shape.transposed else x
    states = last[0] if alone else [torch.stack(parts) for parts in zip(*last, strict=True)]
    return output, tuple(states) if len(states) > 1 else states[0]


def _tensors(layer: "Recurrent", one: _Scan, dtype: torch.dtype) -> list[Tensor] | None:
    """The weights of a scan as they are now; None if one is not as the kernel wants it."""
    own: list[Tensor] = []
    for held, wanted in ((layer._parameters, one.weights), (layer._buffers, one.constants)):
        for name, size in wanted:
            value = held.get(name)
            if (
                value is None
                or type(value) not in _WEIGHTS
                or value.dtype is not dtype
                or value.shape != size
                or not value.is_cpu
                or not value.is_contiguous()
                or value.is_neg()
            ):
                return None
            own.append(value)
    return own


def _starts(shape: _Shape, input: Tensor, hx: Any) -> Any:
    """The states before the first step; None if given ones are not as they should be."""
    if hx is None:
        return shape.zeros[0]
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
    return list(given)


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
    widths = [width] + [size] * (len(cell.states) - 1)
    shapes = [(count, batch, w) if batched else (count, w) for w in widths]
    hidden = (steps, batch, width) if batched else (steps, width)
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
        backend = choose(call)
        prepared = backend.prepared(call)
        if prepared is None or not weights.weight_hh.numel():
            return None
        suffix = layer._suffixes(number)[reverse]
        units = iter(cell.per_unit)
        named, constants = [], []
        for name, value in weights.flat():
            if name.startswith("constant."):
                constants.append((name.replace(".", "_"), value.shape))
                continue
            named.append(((next(units) if name == "unit" else name) + suffix, value.shape))
        frame, _ = call.split()
        ends = shapes if count == 1 else [s[1:] for s in shapes]
        is_last = number == layer.num_layers - 1 and layer.num_directions == 1
        run = PreparedRun(prepared, backend, frame, hidden, tuple(ends), is_last)
        scans.append(_Scan(prepared, run, tuple(named), tuple(constants)))
    leads = [batch * w * input.element_size() for w in widths]
    with torch.inference_mode(False):
        zeros = [torch.zeros(batch, w, dtype=input.dtype) for w in widths]
    return _Shape(
        cell,
        tuple(scans),
        hidden,
        tuple(zip(shapes, leads, strict=True)),
        (zeros, [z.data_ptr() for z in zeros]),
        transposed,
    )
