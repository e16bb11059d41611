"""A kernel called again and again, forward and backward, with other tensors of the same shapes."""

import array
from collections.abc import Sequence
from itertools import accumulate
from typing import final

import torch
from torch import Tensor

from steadygrad.scan.backends.c import pool
from steadygrad.scan.backends.c.call import KernelCall, readable
from steadygrad.scan.backends.c.kernel import Kernel, widths_kept
from steadygrad.scan.call import ScanCall

Link = tuple[int, int, int]
"""A word that holds an address, whose it is of the tensors given, and bytes to be added."""


@final
class _Links:
    """Words that hold the address of a given tensor, as it is or further on.

    Args:
        links: All of them.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self._plain = tuple((place, source) for place, source, offset in links if not offset)
        self._moved = tuple(link for link in links if link[2])

    def filled(self, words: "array.array[int]", given: Sequence[int]) -> "array.array[int]":
        """A copy of ``words`` with the addresses of what is given."""
        words = words[:]
        for place, source in self._plain:
            words[place] = given[source]
        for place, source, offset in self._moved:
            words[place] = given[source] + offset
        return words


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
        no_bias = weights.weight_ih.new_zeros(len(weights.weight_hh))
        self._kept = words, no_bias
        index, item_size = words.index, call.x.element_size()
        links = _weight_links(call, kernel, index, _READ)
        if "bias_hh" not in frame.names:
            for i in range(len(file.first)):
                words.words[index[f"b{i}"]] = no_bias.data_ptr()
        count, states = len(tensors), range(len(call.state))
        links += [(index[f"s{k}"], count - len(states) + k, 0) for k in states]
        links.append((index["hidden"], count, 0))
        links += [(index[f"e{k}"], count + 1 + k, 0) for k in states]
        self._links = _Links(links)
        self._words, self._work = words.words, index["work"]
        self._room = words.room * item_size
        self._run = kernel.forward.run
        # The same of a call that keeps something: where the parts of what is kept begin.
        self._keep, part = index["keep"], words.rows * size * item_size
        parts = widths_kept(file, coded=False)
        rows = words.rows
        self._kept_shape = rows, sum(parts.values()), size
        self._wide_shape = (rows, size) if weights.weight_hr is not None else None
        self._parts = tuple(
            (index[name], part * before)
            for name, before in zip(parts, accumulate(parts.values(), initial=0), strict=False)
        )
        self._wide = index.get("wide", 0)
        self.saved_names = ("hidden", *(("wide",) if self._wide_shape else ()), "kernel")
        self.note: object = kernel
        self._gradient = PreparedGradient(call, kernel) if file.fills else None

    @staticmethod
    def is_able(call: ScanCall, kernel: Kernel) -> bool:
        """Whether such a call can be prepared: no product needs a copy of its weight's rows."""
        no_gaps = all(first is not None for first in kernel.file.first)
        return no_gaps and not call.is_coded and not kernel.file.noise

    def forward(
        self, tensors: Sequence[Tensor], shape: tuple[int, ...], ends: Sequence[tuple[int, ...]]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run a call and keep what its backward pass needs; see `Prepared`."""
        x = tensors[0]
        hidden = pool.empty(shape, x)
        final = [x.new_empty(*size) for size in ends]
        addresses = [t.data_ptr() for t in tensors]
        addresses.append(hidden.data_ptr())
        addresses += [t.data_ptr() for t in final]
        words = self._filled(addresses)
        block = pool.empty(self._kept_shape, x)
        saved: tuple[Tensor, ...] = hidden, block
        if self._wide_shape is not None:
            wide = pool.empty(self._wide_shape, x)
            words[self._wide] = wide.data_ptr()
            saved = hidden, wide, block
        address = block.data_ptr()
        for place, offset in self._parts:
            words[place] = address + offset
        words[self._keep] = 1
        self._run(words.buffer_info()[0])
        return (hidden, *final), saved

    def backward(
        self, kept: Sequence[Tensor], grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...] | None:
        """Carry the gradient back; see `Prepared`."""
        own = self._gradient
        return None if own is None else own.run(kept, grads, needed)

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
        words = self._links.filled(self._words, given)
        words[self._work] = pool.scratch(self._room)
        return words


@final
class PreparedGradient:
    """The backward pass of a `PreparedCall`, without clips and taps, made once in the same way.

    Args:
        call: One call of the shapes that are meant.
        kernel: The cell's, whose products fill the gradient of R, each its own rows.
    """

    def __init__(self, call: ScanCall, kernel: Kernel) -> None:
        frame, tensors = call.split()
        names, file, size = frame.names, kernel.file, call.size
        gates, item_size = len(call.cell.gates), call.x.element_size()
        index, count = file.backward.index, len(tensors)
        self._kernel, self._work, self._item_size = kernel, index["work"], item_size
        self._sizes = call.layout, call.x.shape[1], size, gates, call.width
        self._by_threads: dict[int, KernelCall] = {}
        rows = call.layout.rows
        first = count - len(call.state)
        links = _weight_links(call, kernel, index, _READ_BACK)
        links += [(index["h0"], first, 0), (index["hidden"], count, 0)]
        if call.weights.weight_hr is not None:
            links.append((index["wide"], count + 1, 0))
        block = count + (1 if call.weights.weight_hr is None else 2)
        parts = widths_kept(file, coded=False)
        part = rows * size * item_size
        begins = accumulate(parts.values(), initial=0)
        links += [
            (index[name], block, part * before) for name, before in zip(parts, begins, strict=False)
        ]
        links.append((index["grad"], block + 1, 0))
        self._links = _Links(links)
        self._final = tuple(index[f"g{k}"] for k in range(len(call.state)))
        # Of each tensor, where the address of its gradient belongs; None if it never has one.
        self._outputs = [_gradient_links(call, kernel, index, name) for name in names]
        for k in range(len(call.state)):
            self._outputs[first + k] = ((index[f"d{k}"], 0),)
        self._units = tuple(n for n, name in enumerate(names) if name == "unit")
        self._unit_words = tuple(index[f"du{k}"] for k in range(len(self._units)))
        self._size, self._hidden = size, (rows, call.width)

    def _call(self) -> KernelCall:
        """Sizes and split for as many threads as torch is set to now, with which it is built."""
        threads = torch.get_num_threads()
        found = self._by_threads.get(threads)
        if found is None:
            found = KernelCall(self._kernel.backward, *self._sizes)
            self._by_threads[threads] = found
        return found

    def run(
        self, kept: Sequence[Tensor], grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors, in their shapes; None where none is needed."""
        alive = [readable(t) for t in kept]
        x = alive[0]
        hidden = grads[0]
        alive.append(x.new_zeros(self._hidden) if hidden is None else readable(hidden))
        given = [t.data_ptr() for t in alive]
        call = self._call()
        words = self._links.filled(call.words, given)
        for place, grad in zip(self._final, grads[1:], strict=True):
            if grad is not None:
                grad = readable(grad)
                alive.append(grad)
                words[place] = grad.data_ptr()
        found: list[Tensor | None] = [None] * len(needed)
        for n, (need, places) in enumerate(zip(needed, self._outputs, strict=True)):
            if need and places:
                like = alive[n]
                value = torch.empty_like(like) if n else pool.empty(like.shape, like)
                found[n] = value
                address = value.data_ptr()
                for place, offset in places:
                    words[place] = address + offset
        units = [x.new_zeros(call.threads, self._size) for _ in self._units]
        for place, value in zip(self._unit_words, units, strict=True):
            words[place] = value.data_ptr()
        words[self._work] = pool.scratch(call.room * self._item_size)
        self._kernel.backward.run(words.buffer_info()[0])
        for n, value in zip(self._units, units, strict=True):
            if needed[n]:
                found[n] = value.sum(0)
        return tuple(found)


_READ = {"x": "x", "weight_ih": "w", "bias_ih": "bias", "weight_hr": "hr"}
_READ_BACK = {"x": "x", "weight_ih": "w", "weight_hr": "hr"}
_WRITTEN = {"x": "dx", "weight_ih": "dw", "bias_ih": "db", "weight_hr": "dhr"}
_STACKED = {"weight_hh": ("r", "dr"), "bias_hh": ("b", "dbr")}


def _rows(call: ScanCall, kernel: Kernel, name: str) -> list[int]:
    """Of each product, at which byte of a stacked weight its rows begin."""
    lead = (call.width if name == "weight_hh" else 1) * call.size * call.x.element_size()
    found: list[int] = []
    for first in kernel.file.first:
        assert first is not None  # see `PreparedCall.is_able`
        found.append(first * lead)
    return found


def _weight_links(
    call: ScanCall, kernel: Kernel, index: dict[str, int], single: dict[str, str]
) -> list[Link]:
    """Where the addresses of the input and of all weights belong."""
    names = call.split()[0].names
    links = [(index[word], names.index(name), 0) for name, word in single.items() if name in names]
    for name, (word, _) in _STACKED.items():
        if name in names and f"{word}0" in index:
            links += [
                (index[f"{word}{i}"], names.index(name), offset)
                for i, offset in enumerate(_rows(call, kernel, name))
            ]
    units = [n for n, name in enumerate(names) if name == "unit"]
    links += [(index[f"u{k}"], n, 0) for k, n in enumerate(units)]
    return links + [
        (index[f"z{k}"], names.index(f"constant.{name[2:]}"), 0)
        for k, name in enumerate(kernel.file.constants)
    ]


def _gradient_links(
    call: ScanCall, kernel: Kernel, index: dict[str, int], name: str
) -> tuple[tuple[int, int], ...]:
    """Words that the address of a gradient goes to, and bytes to be added; none for most names."""
    if name in _WRITTEN:
        return ((index[_WRITTEN[name]], 0),)
    if name not in _STACKED:
        return ()
    word = _STACKED[name][1]
    return tuple((index[f"{word}{i}"], at) for i, at in enumerate(_rows(call, kernel, name)))
