"""A kernel called forward again and again with other tensors of the same shapes."""

import array
from collections.abc import Sequence
from itertools import accumulate
from typing import final

import torch
from torch import Tensor

from steadygrad.scan.backends.base import ForwardPass, Saved
from steadygrad.scan.backends.c import pool
from steadygrad.scan.backends.c.call import KernelCall
from steadygrad.scan.backends.c.kernel import Kernel, widths_kept
from steadygrad.scan.call import ScanCall


@final
class PreparedCall:
    """What does not change from call to call, made once: sizes, split, and which word is what.

    Nothing of a tensor is kept but where its address belongs, so nothing here can be out of date,
    and several threads may run one at the same time, each with words of its own.

    Args:
        call: One call of the shapes that are meant.
        kernel: The cell's.
    """

    def __init__(self, call: ScanCall, kernel: Kernel) -> None:
        weights, size, gates = call.weights, call.size, len(call.cell.gates)
        file = kernel.file
        frame, tensors = call.split()
        words = KernelCall(kernel.forward, call.layout, call.x.shape[1], size, gates, call.width)
        self._kept = words, weights.weight_ih.new_zeros(len(weights.weight_hh))
        index = words.index
        names = ["x", *frame.names[1:]]
        # Word, place in what `run` is given, and bytes to be added.
        links = [
            (index[word], names.index(name), 0) for name, word in _SINGLE.items() if name in names
        ]
        item_size = call.x.element_size()
        for kind, word, lead in (("weight_hh", "r", call.width), ("bias_hh", "b", 1)):
            for i, first in enumerate(file.first):
                assert first is not None  # see `is_able`
                place = index[f"{word}{i}"]
                if kind in names:
                    links.append((place, names.index(kind), first * size * lead * item_size))
                else:
                    words.words[place] = self._kept[1].data_ptr()
        last = len(tensors) - len(call.state)
        units = [n for n, name in enumerate(names) if name == "unit"]
        links += [(index[f"u{k}"], n, 0) for k, n in enumerate(units)]
        links += [
            (index[f"z{k}"], names.index(f"constant.{name[2:]}"), 0)
            for k, name in enumerate(file.constants)
        ]
        states = range(len(call.state))
        links += [(index[f"s{k}"], last + k, 0) for k in states]
        links.append((index["hidden"], len(tensors), 0))
        links += [(index[f"e{k}"], len(tensors) + 1 + k, 0) for k in states]
        self._links, self._states = tuple(links), len(call.state)
        self._words, self._work = words.words, index["work"]
        self._room = words.room * item_size
        self._run, self._kernel = kernel.forward.run, kernel
        # The same of a call that keeps something: where the parts of what is kept begin.
        self._keep, part = index["keep"], words.rows * size * item_size
        parts = widths_kept(file, coded=False)
        self._rows, self._size, self._width = words.rows, size, call.width
        self._values = sum(parts.values())
        self._parts = tuple(
            (index[name], part * before)
            for name, before in zip(parts, accumulate(parts.values(), initial=0), strict=False)
        )
        self._wide = index["wide"] if weights.weight_hr is not None else None

    @staticmethod
    def is_able(call: ScanCall, kernel: Kernel) -> bool:
        """Whether such a call can be prepared: no product needs a copy of its weight's rows."""
        no_gaps = all(first is not None for first in kernel.file.first)
        return no_gaps and not call.is_coded and not kernel.file.noise

    def forward(self, tensors: Sequence[Tensor]) -> ForwardPass:
        """Run a call and keep what its backward pass needs."""
        x, states = tensors[0], tensors[len(tensors) - self._states :]
        hidden = pool.empty((self._rows, self._width), x)
        final = tuple(torch.empty_like(s) for s in states)
        kept = {"hidden": hidden}
        words = self._filled([t.data_ptr() for t in (*tensors, hidden, *final)])
        if self._wide is not None:
            kept["wide"] = pool.empty((self._rows, self._size), x)
            words[self._wide] = kept["wide"].data_ptr()
        block = kept["kernel"] = pool.empty((self._rows, self._values, self._size), x)
        address = block.data_ptr()
        for place, offset in self._parts:
            words[place] = address + offset
        words[self._keep] = 1
        self._run(words.buffer_info()[0])
        return ForwardPass(hidden, final, Saved(kept, self._kernel))

    def run(
        self,
        x: Tensor,
        shape: tuple[int, ...],
        weights: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
    ) -> Tensor:
        """Run a call; see `steadygrad.scan.backends.base.Prepared`."""
        hidden = pool.empty(shape, x)
        words = self._filled((x.data_ptr(), *weights, *starts, hidden.data_ptr(), *ends))
        self._run(words.buffer_info()[0])
        return hidden

    def _filled(self, given: Sequence[int]) -> "array.array[int]":
        """The words of one call, with the addresses of its tensors, of h and of the last states."""
        words = self._words[:]
        for place, source, offset in self._links:
            words[place] = given[source] + offset
        words[self._work] = pool.scratch(self._room)
        return words


_SINGLE = {"x": "x", "weight_ih": "w", "bias_ih": "bias", "weight_hr": "hr"}
