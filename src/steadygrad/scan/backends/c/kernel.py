"""A compiled cell: its kernel loaded, and called forward and backward."""

import ctypes
import os
import struct
from collections.abc import Mapping, Set
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.base import ForwardPass, Gradients, OutputGradients, Saved
from steadygrad.scan.backends.c import build, pool
from steadygrad.scan.backends.c.call import EntryPoint, KernelCall
from steadygrad.scan.backends.c.printer.file import Printed, print_cell
from steadygrad.scan.backends.c.records import Records
from steadygrad.scan.backends.c.slots import Slots
from steadygrad.scan.call import ScanCall
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.ir.products import by_gate, shares
from steadygrad.scan.ir.trace import trace
from steadygrad.scan.projection import weight_gradient

PLACES = {"recurrent": 1, "total": 2, "preactivation": 3}


def exact() -> bool:
    """Whether kernels call the system's exp, tanh, sin... (``STEADYGRAD_EXACT=1``), slower."""
    return os.environ.get("STEADYGRAD_EXACT", "") not in ("", "0")


@lru_cache(maxsize=128)
def printed(cell: Cell, dtype: torch.dtype, exact: bool, projects: bool = False) -> Printed:
    """The C file of a cell, with or without a projection of h."""
    program = trace(cell)
    shared = tuple(shares(cell, program, item) for level in program.products for item in level)
    real = "float" if dtype == torch.float32 else "double"
    return print_cell(cell, real, exact, shared, projects)


class Kernel:
    """A cell's file, and its functions: each built, or found built, when it is first asked for."""

    def __init__(self, cell: Cell, file: Printed) -> None:
        self.file = file
        self.records = Records(cell)

    @cached_property
    def forward(self) -> EntryPoint:
        (library,) = build.load(source(self.file), build.FORWARD)
        return _entry(library, "forward", self.file.forward)

    @cached_property
    def backward(self) -> EntryPoint:
        (library,) = build.load(source(self.file), build.BACKWARD)
        return _entry(library, "backward", self.file.backward)


def source(file: Printed) -> build.Source:
    """What the libraries of a cell are compiled from."""
    return build.Source(file.own, file.shared_text)


def _entry(library: ctypes.CDLL, name: str, slots: Slots) -> EntryPoint:
    run, room = (getattr(library, f"steadygrad_{name}{part}") for part in ("", "_room"))
    run.argtypes = room.argtypes = (ctypes.c_void_p,)
    run.restype, room.restype = None, ctypes.c_int64
    return EntryPoint(slots, run, room)


@lru_cache(maxsize=128)
def loaded(cell: Cell, dtype: torch.dtype, exact: bool, projects: bool = False) -> Kernel:
    """The kernel of a cell."""
    return Kernel(cell, printed(cell, dtype, exact, projects))


def of(call: ScanCall) -> Kernel:
    """The kernel that runs a call."""
    return loaded(call.cell, call.dtype, exact(), call.weights.weight_hr is not None)


def forward(call: ScanCall, keep: bool) -> ForwardPass:
    """Run a call, the projection of ``x`` included."""
    weights, x = call.weights, call.x
    projection = weights.weight_hr
    coded = call.is_coded
    if coded:  # projected here: the kernel sees no input of its own
        x = call.projected()
    kernel = of(call)
    file, gates, size, width = kernel.file, len(call.cell.gates), call.size, call.width
    count, inputs = len(x), 0 if coded else x.shape[1]
    words = KernelCall(kernel.forward, call.layout, inputs, size, gates, width)
    words.numbers(keep=int(keep))
    if coded:
        words.tensor("xp", x)
    else:
        words.tensor("x", x)
        words.tensor("w", weights.weight_ih)
        if weights.bias_ih is not None:
            words.tensor("bias", weights.bias_ih)
    hidden = words.tensor("hidden", pool.empty((count, width), x))
    kept = {"hidden": hidden}
    if projection is not None:
        words.tensor("hr", projection)
        if keep:
            kept["wide"] = words.tensor("wide", pool.empty((count, size), x))
    if keep:
        parts = widths_kept(file, coded)
        kept["kernel"] = pool.empty((count, sum(parts.values()), size), x)
        words.parts(kept["kernel"], parts, size)
        if coded:
            kept["projected"] = x
    for k, value in enumerate(call.state):
        words.tensor(f"s{k}", value)
    final = tuple(words.filled(f"e{k}", value) for k, value in enumerate(call.state))
    if call.resets is not None:
        words.tensor("resets", call.resets)
        for k, value in enumerate(call.reset_state()):
            words.tensor(f"start{k}", value)
    matrix, bias = weights.weight_hh, weights.bias_hh
    words.stacked("r", matrix, file, call.cell, size)
    bias = matrix.new_zeros(len(matrix)) if bias is None else bias
    words.stacked("b", bias, file, call.cell, size)
    for k, unit in enumerate(weights.per_unit):
        words.tensor(f"u{k}", unit)
    words.beside(file, weights)
    words.scratch(x)
    kernel.forward.run(words.address)
    return ForwardPass(hidden, final, Saved(kept, kernel) if keep else Saved())


def saved_shapes(call: ScanCall) -> dict[str, tuple[int, ...]]:
    """Shapes of what `forward` keeps, in its order."""
    projects, coded = call.weights.weight_hr is not None, call.is_coded
    rows, size, gates = call.x.shape[0], call.size, len(call.cell.gates)
    file = printed(call.cell, call.dtype, exact(), projects)
    shapes: dict[str, tuple[int, ...]] = {"hidden": (rows, call.width)}
    if projects:
        shapes["wide"] = (rows, size)
    shapes["kernel"] = (rows, sum(widths_kept(file, coded).values()), size)
    if coded:
        shapes["projected"] = (rows, gates * size)
    return shapes


def widths_kept(file: Printed, coded: bool) -> Mapping[str, int]:
    """What a forward pass keeps; of codes the projection comes from outside."""
    return {n: w for n, w in file.kept.items() if n != "xp"} if coded else file.kept


def backward(call: ScanCall, saved: Saved, outside: OutputGradients, wanted: Set[str]) -> Gradients:
    """Carry the gradient back, through the kernel that ran forward."""
    weights, x, kept = call.weights, call.x, saved.tensors
    projection = weights.weight_hr
    # Without a note, as of what came through a torch operator, it is the kernel of such a call.
    kernel: Kernel = saved.note or of(call)
    file = kernel.file
    gates, width, size = len(call.cell.gates), outside.hidden.shape[1], call.size
    coded = call.is_coded
    inputs = 0 if coded else x.shape[1]
    words = KernelCall(kernel.backward, call.layout, inputs, size, gates, width)
    if projection is not None:
        words.tensor("hr", projection)
        words.tensor("wide", kept["wide"])
    if not coded:
        words.tensor("x", x)
    words.parts(kept["kernel"], widths_kept(file, coded), size)
    if coded:
        words.tensor("xp", kept["projected"])
    words.tensor("hidden", kept["hidden"])
    words.tensor("h0", call.state[0])
    words.tensor("grad", outside.hidden)
    found = _outputs(words, file, call, wanted)
    for k, value in enumerate(outside.final):
        if value is not None:
            words.tensor(f"g{k}", value)
    states = call.state if "state" in wanted else ()
    grads = [words.filled(f"d{k}", value) for k, value in enumerate(states)]
    starts: list[Tensor] = []
    if call.resets is not None:
        words.tensor("resets", call.resets)
        anew = call.reset_state()
        words.tensor("start0", anew[0])
        for k, value in enumerate(anew if "start" in wanted else ()):
            sums = value.new_zeros(words.threads, len(value))
            starts.append(words.tensor(f"dstart{k}", sums))
    words.stacked("r", weights.weight_hh, file, call.cell, size)
    units = []
    for k, unit in enumerate(weights.per_unit):
        words.tensor(f"u{k}", unit)
        units.append(words.tensor(f"du{k}", unit.new_zeros(words.threads, size)))
    words.beside(file, weights)
    if call.clip:
        _clip_words(words, call.clip)
    tap = call.on_tap and kernel.records.tap(words, call.layout, call.clip is None)
    words.scratch(outside.hidden)
    kernel.backward.run(words.address)
    if call.on_tap and tap:
        call.on_tap(tap)
    if "pre" in found:
        found["weight_ih"] = weight_gradient(found.pop("pre"), x, weights.weight_ih)
    by_name = _by_gate(found, file, call, wanted)
    of_units, of_starts = (tuple(part.sum(0) for part in parts) for parts in (units, starts))
    return Gradients(by_name, of_units, tuple(grads), of_starts)


def _outputs(
    words: KernelCall, file: Printed, call: ScanCall, wanted: Set[str]
) -> dict[str, Tensor]:
    """Make what the kernel fills: the gradients that are wanted, one a product for R."""
    found: dict[str, Tensor] = {}
    x, weights, size = call.x, call.weights, call.size
    like, rows = weights.weight_ih, weights.weight_ih.shape[0]
    if "x" in wanted:
        words.tensor("w", weights.weight_ih)
        found["x"] = words.tensor("dx", pool.empty(tuple(x.shape), x))
    if "weight_ih" in wanted and call.is_coded:
        found["pre"] = words.tensor("pre", pool.empty((len(x), rows), like))
    elif "weight_ih" in wanted:
        found["weight_ih"] = words.tensor("dw", like.new_empty(weights.weight_ih.shape))
    if "bias_ih" in wanted:
        found["bias_ih"] = words.tensor("db", like.new_empty(rows))
    if "weight_hr" in wanted and weights.weight_hr is not None:
        found["weight_hr"] = words.filled("dhr", weights.weight_hr)
    for name, word in (("weight_hh", "dr"), ("bias_hh", "dbr")):
        if name not in wanted:
            continue
        stacked = getattr(weights, name)
        if file.fills:  # each product writes to its place
            found[name] = like.new_empty(stacked.shape)
            words.stacked(word, found[name], file, call.cell, size)
            continue
        for i, item in enumerate(file.products):
            own = like.new_empty(len(item.gates) * size, *stacked.shape[1:])
            found[f"{name} {i}"] = words.tensor(f"{word}{i}", own)
    return found


def _by_gate(
    found: dict[str, Tensor], file: Printed, call: ScanCall, wanted: Set[str]
) -> dict[str, Tensor]:
    """Put the rows of all products where they belong in ``weight_hh`` and ``bias_hh``."""
    for name in ("weight_hh", "bias_hh"):
        if name not in wanted or name in found:
            continue
        parts = [found.pop(f"{name} {i}") for i in range(len(file.products))]
        whole = torch.zeros_like(getattr(call.weights, name))
        own = by_gate(call.cell, whole, call.size)
        for part, item in zip(parts, file.products, strict=True):
            for gate, rows in zip(item.gates, part.split(call.size), strict=True):
                own[gate] += rows
        found[name] = whole
    return found


def _clip_words(words: KernelCall, clip: LoopClip) -> None:
    (bound,) = struct.unpack("q", struct.pack("d", clip.bound))
    words.numbers(place=PLACES[clip.place], by=int(clip.by == "norm"), bound=bound)
