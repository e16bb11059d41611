"""One call of a kernel: its argument words, and what must live until it returns."""

import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import pool
from steadygrad.scan.backends.c.openmp import openmp
from steadygrad.scan.backends.c.printer.file import Printed
from steadygrad.scan.backends.c.slots import Slots
from steadygrad.scan.backends.c.threads import Split
from steadygrad.scan.backends.c.threads import split as split_work
from steadygrad.scan.ir.products import rows_of
from steadygrad.scan.layout import Layout
from steadygrad.scan.weights import Weights


def readable(value: Tensor) -> Tensor:
    """The tensor, or a copy, as its memory shows it: contiguous, and with its own sign.

    The imaginary part of a conjugate is a view whose sign is a bit of the tensor: its memory holds
    the negative, and `Tensor.contiguous` does not look at that bit.
    """
    value = value.contiguous()
    return value.resolve_neg() if value.is_neg() else value


@dataclass(frozen=True, eq=False)
class EntryPoint:
    """One of the two functions of a kernel.

    Attributes:
        slots: Names of the argument words.
        run: The function, called with the address of the words.
        room: How many values of scratch memory it needs; it writes into the words how they are
            shared out.
    """

    slots: Slots
    run: Callable[[int], None]
    room: Callable[[int], int]


@dataclass(frozen=True)
class Sizes:
    """What one call of a kernel shares with every other of the same sizes.

    Attributes:
        words: The argument words, those of pointers to tensors still empty.
        room: Values of scratch memory that the kernel asks for.
        split: How the work is split over threads.
        rows: Rows of all time steps.
        places: Rows at each time step and where they begin, as the kernel reads it; or None.
    """

    words: "array.array[int]"
    room: int
    split: Split
    rows: int
    places: object


class KernelCall:
    """One call of a kernel: its argument words, and what must live until it returns.

    Args:
        entry: The function that will be called.
        layout: Rows of each time step.
        inputs: Features of the input, ``I``; 0 if it is projected already.
        size: Units, ``H``.
        gates: Gates of the cell, ``G``.
        width: Features of h, ``P``.
    """

    def __init__(
        self, entry: EntryPoint, layout: Layout, inputs: int, size: int, gates: int, width: int
    ) -> None:
        given = (inputs, size, gates, width, torch.get_num_threads())
        if layout.is_dense:  # the rows of thousands of steps need not be compared
            steps, batch = len(layout.batch_sizes), layout.batch
            self._sizes = _dense(entry, steps, batch, layout.reverse, *given)
        else:
            self._sizes = _sizes(entry, layout, *given)
        self.index = entry.slots.index
        self.words = self._sizes.words[:]
        self.rows, self.split = self._sizes.rows, self._sizes.split
        self.threads, self.room = self.split.threads, self._sizes.room
        self._alive: list[Tensor] = []

    def numbers(self, **values: int) -> None:
        for name, value in values.items():
            self.words[self.index[name]] = value

    def tensor(self, name: str, value: Tensor) -> Tensor:
        value = readable(value)
        self._alive.append(value)
        self.words[self.index[name]] = value.data_ptr()
        return value

    def filled(self, name: str, like: Tensor) -> Tensor:
        """A new tensor for the kernel to fill, of the shape of ``like``.

        Contiguous whatever the strides of ``like``, which `torch.empty_like` would keep: the
        kernel would then fill a copy, and the caller read what was never written.
        """
        return self.tensor(name, torch.empty_like(like, memory_format=torch.contiguous_format))

    def stacked(self, word: str, value: Tensor, file: Printed, cell: Cell, size: int) -> None:
        """Give every product its rows of a stacked weight: where they lie, or a copy of them."""
        value = readable(value)
        self._alive.append(value)
        step = size * value.stride(0) * value.element_size()
        for i, (item, first) in enumerate(zip(file.products, file.first, strict=True)):
            if first is None:
                self.tensor(f"{word}{i}", rows_of(cell, value, item, size))
            else:
                self.words[self.index[f"{word}{i}"]] = value.data_ptr() + first * step

    def parts(self, block: Tensor, widths: Mapping[str, int], size: int) -> None:
        """Parts of one piece of memory, one after another: ``(N, width, size)`` each."""
        self._alive.append(block)
        address, step = block.data_ptr(), self.rows * size * block.element_size()
        for name, width in widths.items():
            self.words[self.index[name]] = address
            address += width * step

    def scratch(self, like: Tensor) -> None:
        """Scratch memory, as much as the kernel says; the thread's, until its next call."""
        self.words[self.index["work"]] = pool.scratch(self._sizes.room * like.element_size())

    def own_scratch(self, like: Tensor) -> None:
        """Scratch memory that is kept from one run of this call to the next."""
        self.tensor("work", pool.empty((self._sizes.room,), like))

    def beside(self, file: Printed, weights: Weights) -> None:
        """Constants and noise; for noise also whether it is per row (1) or per step (2)."""
        for k, name in enumerate(file.constants):
            self.tensor(f"z{k}", weights.constants[name[2:]])
        for k, name in enumerate(file.noise):
            value = self.tensor(f"n{k}", weights.noise[name[2:]])
            per_step = value.dim() == 2 and len(value) == self.rows
            self.numbers(**{f"m{k}": 2 if per_step else value.dim() - 1})

    @property
    def address(self) -> int:
        """Where the words stand, in an array that never grows."""
        return self.words.buffer_info()[0]


@lru_cache(maxsize=256)
def _dense(entry: EntryPoint, steps: int, batch: int, reverse: bool, *given: int) -> Sizes:
    return _sizes(entry, Layout.dense(steps, batch, reverse), *given)


@lru_cache(maxsize=256)
def _sizes(
    entry: EntryPoint, layout: Layout, inputs: int, size: int, gates: int, width: int, threads: int
) -> Sizes:
    """Fill in all numbers; ``threads`` is what torch is set to now, which the split asks for."""
    index = entry.slots.index
    words = array.array("q", bytes(8 * len(index)))
    split = split_work(layout, inputs, size, gates)
    values = {
        "T": len(layout.batch_sizes),
        "B": layout.batch,
        "H": size,
        "P": width,
        "I": inputs,
        "threads": split.threads,
        "reverse": int(layout.reverse),
        "most": split.most,
        "together": int(split.together),
        "bounds": split.bounds.buffer_info()[0],
    }
    places = None
    if not layout.is_dense:
        places = array.array("q", layout.batch_sizes), array.array("q", layout.offsets)
        values |= {n: p.buffer_info()[0] for n, p in zip(("sizes", "offsets"), places, strict=True)}
    team = openmp()
    if team:
        values |= dict(zip(("parallel", "number", "team"), team, strict=True))
    for name, value in values.items():
        words[index[name]] = value
    room = entry.room(words.buffer_info()[0])  # which also writes down what it consists of
    return Sizes(words, room, split, layout.rows, places)
