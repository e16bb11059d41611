"""One call of a kernel: its argument words, and what must live until it returns."""

import array
from collections.abc import Callable, Mapping
from functools import lru_cache

from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.c import pool
from steadygrad.scan.c.slots import Slots
from steadygrad.scan.c.source import Printed
from steadygrad.scan.c.threads import split as split_work
from steadygrad.scan.c.tools import openmp
from steadygrad.scan.layout import Layout
from steadygrad.scan.products import rows_of
from steadygrad.scan.weights import Weights


class Call:
    """One call of a kernel: its argument words, and what must live until it returns."""

    def __init__(
        self, slots: Slots, layout: Layout, inputs: int, size: int, gates: int, width: int
    ) -> None:
        self.index = slots.index
        self.rows = layout.rows
        self.words = array.array("q", bytes(8 * len(slots.names)))
        self._alive: list[object] = []
        entry = openmp()
        if entry:
            self.numbers(parallel=entry[0], number=entry[1], team=entry[2])
        split = split_work(layout, inputs, size, gates)
        places = None if layout.is_dense else _places(layout)
        self.threads, self.split = split.threads, split
        self._alive += (split, places)
        self.numbers(
            T=len(layout.batch_sizes),
            B=layout.batch,
            H=size,
            P=width,
            I=inputs,
            threads=split.threads,
            reverse=int(layout.reverse),
            most=split.most,
            together=int(split.together),
            bounds=split.bounds.buffer_info()[0],
            sizes=places[0].buffer_info()[0] if places else 0,
            offsets=places[1].buffer_info()[0] if places else 0,
        )

    def numbers(self, **values: int) -> None:
        for name, value in values.items():
            self.words[self.index[name]] = value

    def tensor(self, name: str, value: Tensor) -> Tensor:
        value = value.contiguous()
        self._alive.append(value)
        self.words[self.index[name]] = value.data_ptr()
        return value

    def stacked(self, word: str, value: Tensor, file: Printed, cell: Cell, size: int) -> None:
        """Give every product its rows of a stacked weight: where they lie, or a copy of them."""
        value = value.contiguous()
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

    def scratch(self, room: Callable[[int], int], like: Tensor) -> None:
        """Scratch memory, as much as the kernel says; the thread's, until its next call."""
        self.words[self.index["work"]] = pool.scratch(room(self.address) * like.element_size())

    def own_scratch(self, room: Callable[[int], int], like: Tensor) -> None:
        """Scratch memory that is kept from one run of this call to the next."""
        self.tensor("work", pool.empty((room(self.address),), like))

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


@lru_cache(maxsize=64)
def _places(layout: Layout) -> "tuple[array.array[int], array.array[int]]":
    """Rows at each time step and where they begin, as the kernel reads it."""
    return array.array("q", layout.batch_sizes), array.array("q", layout.offsets)
