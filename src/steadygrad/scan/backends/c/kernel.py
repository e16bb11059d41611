"""A compiled cell, with the two functions of the eager back end: forward and backward."""

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import build, pool
from steadygrad.scan.backends.c.call import Call, Way
from steadygrad.scan.backends.c.printer.file import Printed, print_cell
from steadygrad.scan.backends.c.records import Records
from steadygrad.scan.backends.c.slots import Slots
from steadygrad.scan.backends.eager import Trip
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import by_gate, shares
from steadygrad.scan.ir.trace import trace
from steadygrad.scan.layout import Layout
from steadygrad.scan.projection import is_codes, project, weight_gradient
from steadygrad.scan.taps import OnTap
from steadygrad.scan.weights import Weights

PLACES = {"recurrent": 1, "total": 2, "preactivation": 3}


@lru_cache(maxsize=128)
def printed(cell: Cell, dtype: torch.dtype, exact: bool, projects: bool = False) -> Printed:
    """The C file of a cell, with or without a projection of h."""
    program = trace(cell)
    shared = tuple(shares(cell, program, item) for level in program.products for item in level)
    real = "float" if dtype == torch.float32 else "double"
    return print_cell(cell, real, exact, shared, projects)


class Kernel:
    """A loaded cell: its file and its functions."""

    def __init__(self, cell: Cell, file: Printed) -> None:
        self.file = file
        self.records = Records(cell)
        library = build.load(file.text)
        self.forward = _way(library, "forward", file.forward)
        self.backward = _way(library, "backward", file.backward)


def _way(library: ctypes.CDLL, name: str, slots: Slots) -> Way:
    run, room = (getattr(library, f"steadygrad_{name}{part}") for part in ("", "_room"))
    run.argtypes = room.argtypes = (ctypes.c_void_p,)
    run.restype, room.restype = None, ctypes.c_int64
    return Way(slots, run, room)


@lru_cache(maxsize=128)
def loaded(cell: Cell, dtype: torch.dtype, exact: bool, projects: bool = False) -> Kernel:
    """The kernel of a cell, built at its first use."""
    return Kernel(cell, printed(cell, dtype, exact, projects))


def forward(
    cell: Cell,
    layout: Layout,
    x: Tensor,
    weights: Weights,
    state: Sequence[Tensor],
    keep: bool,
    exact: bool = False,
) -> Trip:
    """As the eager `forward`, with the projection of ``x``, ``(N, I)``, included."""
    projection = weights.weight_hr
    codes = x if is_codes(x) else None
    if codes is not None:  # projected here: the kernel sees no input of its own
        x = project(codes, weights.weight_ih, weights.bias_ih)
    kernel = loaded(cell, x.dtype, exact, projection is not None)
    file = kernel.file
    count, inputs = len(x), 0 if codes is not None else x.shape[1]
    gates = len(cell.gates)
    size = weights.weight_ih.shape[0] // gates
    width = state[0].shape[1]
    call = Call(kernel.forward, layout, inputs, size, gates, width)
    call.numbers(keep=int(keep))
    if codes is None:
        call.tensor("x", x)
        call.tensor("w", weights.weight_ih)
        if weights.bias_ih is not None:
            call.tensor("bias", weights.bias_ih)
    else:
        call.tensor("xp", x)
    hidden = call.tensor("hidden", pool.empty((count, width), x))
    kept = {"hidden": hidden}
    if projection is not None:
        call.tensor("hr", projection)
        if keep:
            kept["wide"] = call.tensor("wide", pool.empty((count, size), x))
    if keep:
        parts = _kept(file, codes is not None)
        kept["kernel"] = pool.empty((count, sum(parts.values()), size), x)
        call.parts(kept["kernel"], parts, size)
        if codes is not None:
            kept["projected"] = x
    for k, value in enumerate(state):
        call.tensor(f"s{k}", value)
    final = tuple(call.filled(f"e{k}", value) for k, value in enumerate(state))
    matrix, bias = weights.weight_hh, weights.bias_hh
    call.stacked("r", matrix, file, cell, size)
    call.stacked("b", matrix.new_zeros(len(matrix)) if bias is None else bias, file, cell, size)
    for k, unit in enumerate(weights.per_unit):
        call.tensor(f"u{k}", unit)
    call.beside(file, weights)
    call.scratch(x)
    kernel.forward.run(call.address)
    return Trip(hidden, final, kept if keep else {})


def _kept(file: Printed, coded: bool) -> Mapping[str, int]:
    """What a trip keeps; of codes the projection comes from outside."""
    return {n: w for n, w in file.kept.items() if n != "xp"} if coded else file.kept


@dataclass(frozen=True)
class Found:
    """Gradients: of the input and the weights by name, of per-unit parameters, of the state."""

    by_name: dict[str, Tensor]
    per_unit: tuple[Tensor, ...]
    state: tuple[Tensor, ...]


def backward(
    cell: Cell,
    layout: Layout,
    x: Tensor,
    saved: dict[str, Tensor],
    weights: Weights,
    state: Sequence[Tensor],
    needed: Mapping[str, bool],
    grad_hidden: Tensor,
    grad_final: Sequence[Tensor | None],
    clip: LoopClip | None = None,
    on_tap: OnTap | None = None,
    exact: bool = False,
) -> Found:
    """As `steadygrad.scan.backends.eager.backward`, up to the gradients of input and weights.

    ``grad_final`` is None where no gradient arrives; that of the state is found if it is needed.
    """
    projection = weights.weight_hr
    kernel = loaded(cell, grad_hidden.dtype, exact, projection is not None)
    file = kernel.file
    gates, width = len(cell.gates), grad_hidden.shape[1]
    size = weights.weight_ih.shape[0] // gates
    coded = is_codes(x)
    call = Call(kernel.backward, layout, 0 if coded else x.shape[1], size, gates, width)
    if projection is not None:
        call.tensor("hr", projection)
        call.tensor("wide", saved["wide"])
    if not coded:
        call.tensor("x", x)
    call.parts(saved["kernel"], _kept(file, coded), size)
    if coded:
        call.tensor("xp", saved["projected"])
    call.tensor("hidden", saved["hidden"])
    call.tensor("h0", state[0])
    call.tensor("grad", grad_hidden)
    found = _outputs(call, file, cell, x, weights, needed)
    for k, value in enumerate(grad_final):
        if value is not None:
            call.tensor(f"g{k}", value)
    wanted = state if needed.get("state") else ()
    grads = [call.filled(f"d{k}", value) for k, value in enumerate(wanted)]
    call.stacked("r", weights.weight_hh, file, cell, size)
    units = []
    for k, unit in enumerate(weights.per_unit):
        call.tensor(f"u{k}", unit)
        units.append(call.tensor(f"du{k}", unit.new_zeros(call.threads, size)))
    call.beside(file, weights)
    if clip:
        _clip_words(call, clip)
    tap = on_tap and kernel.records.tap(call, layout, clip is None)
    call.scratch(grad_hidden)
    kernel.backward.run(call.address)
    if on_tap and tap:
        on_tap(tap)
    if "pre" in found:
        found["weight_ih"] = weight_gradient(found.pop("pre"), x, weights.weight_ih)
    return Found(
        _by_gate(found, file, cell, weights, needed), tuple(u.sum(0) for u in units), tuple(grads)
    )


def _outputs(
    call: Call, file: Printed, cell: Cell, x: Tensor, weights: Weights, needed: Mapping[str, bool]
) -> dict[str, Tensor]:
    """Make what the kernel fills: the gradients that are needed, one a product for R."""
    found: dict[str, Tensor] = {}
    like, rows = weights.weight_ih, weights.weight_ih.shape[0]
    size = rows // len(cell.gates)
    if needed.get("x"):
        call.tensor("w", weights.weight_ih)
        found["x"] = call.tensor("dx", pool.empty(tuple(x.shape), x))
    if needed.get("weight_ih") and is_codes(x):
        found["pre"] = call.tensor("pre", pool.empty((len(x), rows), like))
    elif needed.get("weight_ih"):
        found["weight_ih"] = call.tensor("dw", like.new_empty(weights.weight_ih.shape))
    if needed.get("bias_ih"):
        found["bias_ih"] = call.tensor("db", like.new_empty(rows))
    if needed.get("weight_hr") and weights.weight_hr is not None:
        found["weight_hr"] = call.filled("dhr", weights.weight_hr)
    for name, word in (("weight_hh", "dr"), ("bias_hh", "dbr")):
        if not needed.get(name):
            continue
        stacked = getattr(weights, name)
        if file.fills:  # each writes to its place
            found[name] = like.new_empty(stacked.shape)
            call.stacked(word, found[name], file, cell, size)
            continue
        for i, item in enumerate(file.products):
            own = like.new_empty(len(item.gates) * size, *stacked.shape[1:])
            found[f"{name} {i}"] = call.tensor(f"{word}{i}", own)
    return found


def _by_gate(
    found: dict[str, Tensor],
    file: Printed,
    cell: Cell,
    weights: Weights,
    needed: Mapping[str, bool],
) -> dict[str, Tensor]:
    """Put the rows of all products where they belong in ``weight_hh`` and ``bias_hh``."""
    size = weights.weight_ih.shape[0] // len(cell.gates)
    for name in ("weight_hh", "bias_hh"):
        if not needed.get(name) or name in found:
            continue
        parts = [found.pop(f"{name} {i}") for i in range(len(file.products))]
        whole = torch.zeros_like(getattr(weights, name))
        own = by_gate(cell, whole, size)
        for part, item in zip(parts, file.products, strict=True):
            for gate, rows in zip(item.gates, part.split(size), strict=True):
                own[gate] += rows
        found[name] = whole
    return found


def _clip_words(call: Call, clip: LoopClip) -> None:
    (bound,) = struct.unpack("q", struct.pack("d", clip.bound))
    call.numbers(place=PLACES[clip.place], by=int(clip.by == "norm"), bound=bound)
