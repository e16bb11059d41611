"""What torch.jit.trace writes into a graph: lengths stay free, and sizes that cannot are held."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def run_padded(
    run: Callable[[Tensor, Any, Tensor, Any], tuple[Tensor, Any]],
    packed: PackedSequence,
    hx: Any,
    resets: PackedSequence | None,
    batch_first: bool,
) -> tuple[PackedSequence, Any]:
    """Pad, run with lengths, and pack again, so that the lengths stay an input of the graph.

    The rows at each time step would be numbers of the graph: run on other lengths that sum to as
    many rows, it would compute something else without an error.

    Args:
        run: The layer: padded input, state, lengths and resets to output and last state.
        packed: The input.
        hx: The state before the first step, in the caller's order; or None.
        resets: Packed as the input; or None.
        batch_first: Whether ``run`` takes ``(B, T, ·)``.
    """
    order, back = packed.sorted_indices, packed.unsorted_indices
    # Without its order: the rows stay sorted by length in between.
    padded, lengths = pad_packed_sequence(_plain(packed), batch_first)
    flags = None if resets is None else pad_packed_sequence(_plain(resets), batch_first)[0]
    output, last = run(padded, _selected(hx, order), lengths, flags)
    data = pack_padded_sequence(output, lengths, batch_first).data
    return PackedSequence(data, packed.batch_sizes, order, back), _selected(last, back)


def _plain(packed: PackedSequence) -> PackedSequence:
    return PackedSequence(packed.data, packed.batch_sizes)


def _selected(state: Any, order: Tensor | None) -> Any:
    """The rows of a state ``(L*D, B, ·)``, or of each of several, in another order."""
    if state is None or order is None:
        return state
    if isinstance(state, Tensor):
        return state.index_select(1, order)
    return tuple(part.index_select(1, order) for part in state)


def with_held_sizes(x: Tensor) -> Tensor:
    """``x (·, ·, I)``, and in the graph a check that its first axes have the sizes they have now.

    A loop over time steps is written into the graph step by step: run on more steps, it would leave
    them out without an error.
    """
    sizes = (int(size) for size in x.shape[:2])  # torch warns here that they become constants
    # All but the last axis of what is joined have to be the same.
    return torch.cat([x, x.new_zeros(*sizes, 0)], -1)
