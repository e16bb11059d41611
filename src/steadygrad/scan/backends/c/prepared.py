"""A kernel called forward again and again with other tensors of the same shapes."""

from collections.abc import Sequence
from typing import final

from torch import Tensor

from steadygrad.scan.backends.c import pool
from steadygrad.scan.backends.c.call import KernelCall
from steadygrad.scan.backends.c.kernel import Kernel
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
        self._links = tuple(links)
        self._words, self._work = words.words, index["work"]
        self._room = words.room * item_size
        self._run = kernel.forward.run

    @staticmethod
    def is_able(call: ScanCall, kernel: Kernel) -> bool:
        """Whether such a call can be prepared: no product needs a copy of its weight's rows."""
        no_gaps = all(first is not None for first in kernel.file.first)
        return no_gaps and not call.is_coded and not kernel.file.noise

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
        given = (x.data_ptr(), *weights, *starts, hidden.data_ptr(), *ends)
        words = self._words[:]
        for place, source, offset in self._links:
            words[place] = given[source] + offset
        words[self._work] = pool.scratch(self._room)
        self._run(words.buffer_info()[0])
        return hidden


_SINGLE = {"x": "x", "weight_ih": "w", "bias_ih": "bias", "weight_hr": "hr"}
