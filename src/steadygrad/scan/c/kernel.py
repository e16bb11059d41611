"""A compiled cell, with the two functions of `steadygrad.scan.eager`: forward and backward."""

import array
import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.c import build
from steadygrad.scan.c.source import Printed, Slots, print_cell
from steadygrad.scan.c.tools import openmp
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.eager import Gradients, Trip
from steadygrad.scan.layout import Layout
from steadygrad.scan.products import blocks, shares
from steadygrad.scan.taps import LOG10_2, OnTap, Tap
from steadygrad.scan.trace import Product, trace
from steadygrad.scan.weights import Weights

PLACES = {"recurrent": 1, "total": 2, "preactivation": 3}


@lru_cache(maxsize=128)
def printed(cell: Cell, dtype: torch.dtype, exact: bool) -> Printed:
    """The C file of a cell."""
    program = trace(cell)
    shared = tuple(shares(cell, program, item) for level in program.products for item in level)
    return print_cell(cell, "float" if dtype == torch.float32 else "double", exact, shared)


class Call:
    """One call of a kernel: its argument words, and what must live until it returns."""

    def __init__(self, slots: Slots, layout: Layout, size: int) -> None:
        self._slots = slots
        self._rows = sum(layout.batch_sizes)
        self._words = array.array("q", bytes(8 * len(slots.names)))
        self._alive: list[object] = []
        entry = openmp()
        self.threads = max(1, min(torch.get_num_threads(), layout.batch)) if entry else 1
        if entry:
            self.number("parallel", entry[0])
            self.number("number", entry[1])
        for name, value in (
            ("T", len(layout.batch_sizes)),
            ("B", layout.batch),
            ("H", size),
            ("threads", self.threads),
            ("reverse", int(layout.reverse)),
        ):
            self.number(name, value)
        frame = _frame(layout, self.threads)
        for name, block in zip(("sizes", "offsets", "bounds"), frame, strict=True):
            self.number(name, block.buffer_info()[0])
        self._alive += frame
        self.bounds = frame[2]

    def number(self, name: str, value: int) -> None:
        self._words[self._slots.index[name]] = value

    def tensor(self, name: str, value: Tensor) -> Tensor:
        value = value.contiguous()
        self._alive.append(value)
        self.number(name, value.data_ptr())
        return value

    def packed(self, name: str, library: ctypes.CDLL, factor: Tensor) -> None:
        """A right factor ``(k, n)`` of a product, in the panels that the kernel reads."""
        k, n = factor.shape
        words = [ctypes.c_int64(v) for v in (k, n, *factor.stride())]
        library.steadygrad_packed.restype = ctypes.c_int64
        panels = factor.new_empty(library.steadygrad_packed(words[0], words[1]))
        library.steadygrad_pack(
            words[0],
            words[1],
            ctypes.c_void_p(factor.data_ptr()),
            words[2],
            words[3],
            ctypes.c_void_p(panels.data_ptr()),
        )
        self.tensor(name, panels)

    def beside(self, file: Printed, weights: Weights) -> None:
        """Constants and noise; for noise also whether it is per row (1) or per step (2)."""
        for k, name in enumerate(file.constants):
            self.tensor(f"z{k}", weights.constants[name[2:]])
        for k, name in enumerate(file.noise):
            value = self.tensor(f"n{k}", weights.noise[name[2:]])
            per_step = value.dim() == 2 and len(value) == self._rows
            self.number(f"m{k}", 2 if per_step else value.dim() - 1)

    def scratch(self, rows: int, spills: int, size: int, like: Tensor) -> None:
        most = max(b - a for a, b in zip(self.bounds, self.bounds[1:], strict=False))
        each = (most * rows + spills) * size + 64
        self.number("work_size", each)
        self.tensor("work", like.new_empty(each * self.threads))

    def run(self, function: Callable[[ctypes.c_void_p], object]) -> None:
        function(ctypes.c_void_p(self._words.buffer_info()[0]))


@lru_cache(maxsize=64)
def _frame(layout: Layout, threads: int) -> "tuple[array.array[int], ...]":
    """Sizes and offsets of all time steps, and rows of each thread, as the kernel reads them."""
    lists = (layout.batch_sizes, layout.offsets, _bounds(layout, threads))
    return tuple(array.array("q", values) for values in lists)


def _bounds(layout: Layout, threads: int) -> list[int]:
    """Rows of each thread, contiguous, with about the same number of steps."""
    if layout.is_dense:
        return [layout.batch * i // threads for i in range(threads + 1)]
    lengths = layout.present().sum(0).cumsum(0).tolist()
    total = lengths[-1]
    inner = [sum(done <= total * i / threads for done in lengths) for i in range(1, threads)]
    return [0, *inner, layout.batch]


def forward(
    cell: Cell,
    layout: Layout,
    projected: Tensor,
    weights: Weights,
    state: Sequence[Tensor],
    keep: bool,
    exact: bool = False,
) -> Trip:
    """As `steadygrad.scan.eager.forward`; ``projected`` is overwritten if ``keep``."""
    file = printed(cell, projected.dtype, exact)
    size = projected.shape[1] // len(cell.gates)
    library = build.load(file.text)
    call = Call(file.forward, layout, size)
    count = projected.shape[0]
    hidden = projected.new_empty(count, size)
    saved = projected.new_empty(count if keep else 0, file.beside, size)
    call.number("keep", int(keep))
    projected = call.tensor("xp", projected)
    call.tensor("hidden", hidden)
    call.tensor("saved", saved)
    final = []
    arguments: dict[str, Tensor] = {}
    for k, value in enumerate(state):
        call.tensor(f"s{k}", value)
        final.append(call.tensor(f"e{k}", torch.empty_like(value)))
    for i, item in enumerate(file.products):
        matrix, bias = blocks(cell, weights, item, size)
        call.packed(f"r{i}", library, matrix.t())
        call.tensor(f"b{i}", matrix.new_zeros(matrix.shape[0]) if bias is None else bias)
        if keep and not _is_h(cell, item):
            arguments[f"argument {i}"] = call.tensor(f"k{i}", projected.new_empty(count, size))
    for k, unit in enumerate(weights.per_unit):
        call.tensor(f"u{k}", unit)
    call.beside(file, weights)
    call.scratch(file.forward_rows, file.spills, size, projected)
    call.run(library.steadygrad_forward)
    kept = {"kernel": saved, "projected": projected, "hidden": hidden, **arguments}
    return Trip(hidden, tuple(final), kept if keep else {})


def backward(
    cell: Cell,
    layout: Layout,
    saved: dict[str, Tensor],
    weights: Weights,
    state: Sequence[Tensor],
    grad_hidden: Tensor,
    grad_final: Sequence[Tensor],
    clip: LoopClip | None = None,
    on_tap: OnTap | None = None,
    exact: bool = False,
) -> Gradients:
    """As `steadygrad.scan.eager.backward`."""
    file = printed(cell, grad_hidden.dtype, exact)
    count, size = grad_hidden.shape
    library = build.load(file.text)
    call = Call(file.backward, layout, size)
    call.tensor("xp", saved["projected"])
    call.tensor("saved", saved["kernel"])
    call.tensor("grad", grad_hidden)
    pre = call.tensor("pre", grad_hidden.new_empty(count, size * len(cell.gates)))
    grads = []
    for k, value in enumerate(grad_final):
        call.tensor(f"g{k}", value)
        grads.append(call.tensor(f"d{k}", torch.empty_like(value)))
    own: dict[Product, Tensor] = {}
    for i, item in enumerate(file.products):
        call.packed(f"r{i}", library, blocks(cell, weights, item, size)[0])
        own[item] = (
            pre
            if file.shared[i]
            else call.tensor(f"q{i}", pre.new_empty(count, size * len(item.gates)))
        )
    units = []
    for k, unit in enumerate(weights.per_unit):
        call.tensor(f"u{k}", unit)
        units.append(call.tensor(f"du{k}", unit.new_zeros(call.threads, size)))
    call.beside(file, weights)
    _clip_words(call, clip)
    taps = _tap_words(call, cell, layout, grad_hidden, clip) if on_tap else None
    call.scratch(file.backward_rows, file.spills, size, grad_hidden)
    call.run(library.steadygrad_backward)
    if on_tap and taps:
        on_tap(taps.read(cell, layout))
    before = _before(layout, saved["hidden"], state[0])
    arguments = {
        item: before if _is_h(cell, item) else saved[f"argument {i}"]
        for i, item in enumerate(file.products)
    }
    return Gradients(pre, own, None, arguments, tuple(u.sum(0) for u in units), tuple(grads))


def _is_h(cell: Cell, item: Product) -> bool:
    return item.argument == f"s.{cell.states[0]}"


def _before(layout: Layout, hidden: Tensor, start: Tensor) -> Tensor:
    """Stack h before every step, ``(N, H)``."""
    if layout.is_dense:
        if layout.reverse:
            return torch.cat([hidden[layout.batch :], start])
        return torch.cat([start, hidden[: -layout.batch]])
    before = torch.empty_like(hidden)
    current = start.clone()
    for offset, rows in layout.steps():
        before[offset : offset + rows] = current[:rows]
        current[:rows] = hidden[offset : offset + rows]
    return before


def _clip_words(call: Call, clip: LoopClip | None) -> None:
    bound = torch.tensor([clip.bound if clip else 0.0], dtype=torch.float64)
    call.tensor("bound", bound)
    call.number("place", PLACES[clip.place] if clip else 0)
    call.number("by", int(clip is not None and clip.by == "norm"))


class _Taps:
    """Buffers that a backward loop fills with sums of squares."""

    def __init__(self, squares: Tensor, bad: Tensor, gates: Tensor, exponents: Tensor | None):
        self.squares, self.bad, self.gates, self.exponents = squares, bad, gates, exponents

    def read(self, cell: Cell, layout: Layout) -> Tap:
        count = sum(layout.batch_sizes)

        def norms(squares: Tensor) -> Tensor:
            logs = 0.5 * squares[:, :count].log10()
            if self.exponents is not None:
                logs = logs - self.exponents[:count].double() * LOG10_2
            return torch.stack([layout.pad(row, -torch.inf) for row in logs])

        bad = torch.stack([layout.pad(row, 0) for row in self.bad[:, :count]])
        return Tap(
            cell.states,
            cell.gates,
            norms(self.squares),
            norms(self.gates),
            bad,
            layout.present(),
            layout.reverse,
        )


def _tap_words(
    call: Call, cell: Cell, layout: Layout, like: Tensor, clip: LoopClip | None
) -> _Taps:
    cells = len(layout.batch_sizes) * layout.batch
    double = {"dtype": torch.float64, "device": like.device}
    squares = call.tensor("squares", torch.zeros(len(cell.states), cells, **double))
    gates = call.tensor("gates", torch.zeros(len(cell.gates), cells, **double))
    bad = call.tensor("bad", torch.zeros(len(cell.states), cells, dtype=torch.int64))
    exponents = None
    if clip is None:  # a clip compares true values, so rows cannot be scaled under it
        exponents = call.tensor("exponents", torch.zeros(cells + layout.batch, dtype=torch.int32))
    call.number("tapped", 1)
    return _Taps(squares, bad, gates, exponents)
