"""How a call lays out its rows, for layers that compute padded steps as well and mask them.

`steadygrad.nn.arrangement` takes padding out, for layers that go over rows; here it stays, and no
size depends on a length, so that a graph can be made of a call with lengths.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from steadygrad.nn.checks import check_lengths, check_resets


class _Layer(Protocol):
    input_size: int
    batch_first: bool


@dataclass(frozen=True)
class PaddedRows:
    """One call's input as ``(B, T, I)``, and its outputs in the layout of the call.

    Attributes:
        x: ``(B, T, I)``, rows in the caller's order; zero beyond the end of a row.
        runs: ``(B, T)``, bool: which steps a row has. None if it has all.
        begins: ``(B, T)``, bool: where a new segment begins. None if nowhere.
        batch_first: Whether tensors of the call are ``(B, T, ·)``.
        is_batched: Whether the call has a batch axis.
        packed: The input, if it is packed.
    """

    x: Tensor
    runs: Tensor | None = None
    begins: Tensor | None = None
    batch_first: bool = False
    is_batched: bool = True
    packed: PackedSequence | None = None

    @classmethod
    def of(
        cls, layer: "_Layer", input: Any, lengths: Any = None, resets: Any = None
    ) -> "PaddedRows":
        """Read a call of a layer that has ``input_size`` and ``batch_first``.

        Args:
            layer: The layer.
            input: ``(T, B, I)``, ``(B, T, I)``, ``(T, I)`` or packed.
            lengths: ``(B,)``, of the rows of a padded batch; or None.
            resets: As the input without its features, packed in the same way; or None.

        Raises:
            ValueError: A shape does not fit, there is no time step, or lengths and resets do not
                belong to the input.
        """
        flags = None if resets is None else check_resets(layer, resets, input)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(
                    f"{type(layer).__name__}: lengths belong to a padded batch; got a packed one"
                )
            return cls._of_packed(layer, input, flags)
        return cls._of_padded(layer, input, lengths, flags)

    @classmethod
    def _of_packed(
        cls, layer: "_Layer", packed: PackedSequence, flags: PackedSequence | None
    ) -> "PaddedRows":
        if packed.data.dim() != 2 or packed.data.shape[-1] != layer.input_size:
            raise ValueError(
                f"{type(layer).__name__}: expected packed input of {layer.input_size} features, "
                f"got data of shape {tuple(packed.data.shape)}"
            )
        x, lengths = pad_packed_sequence(packed, batch_first=True)
        begins = None if flags is None else pad_packed_sequence(flags, batch_first=True)[0]
        return cls(x, _inside(x, lengths), begins, packed=packed)

    @classmethod
    def _of_padded(
        cls, layer: "_Layer", input: Tensor, lengths: Any, flags: Tensor | None
    ) -> "PaddedRows":
        kind, size = type(layer).__name__, layer.input_size
        if input.dim() not in (2, 3) or input.shape[-1] != size:
            axes = "(B, T" if layer.batch_first else "(T, B"
            raise ValueError(
                f"{kind}: expected input {axes}, {size}), unbatched (T, {size}), or packed, got "
                f"{tuple(input.shape)}"
            )
        is_batched = input.dim() == 3
        if lengths is not None and not is_batched:
            raise ValueError(f"{kind}: lengths belong to a padded batch; got one without a batch")
        laid = cls(input, None, None, layer.batch_first, is_batched)
        x = laid.grid(input)
        if not x.shape[1]:
            raise ValueError(f"{kind}: input holds no time step, got {tuple(input.shape)}")
        runs = None
        if lengths is not None:
            runs = _inside(x, check_lengths(layer, lengths, x.shape[0], x.shape[1]))
            # What padding holds, NaN for example, must reach no weight's gradient either.
            x = x.masked_fill(~runs[..., None], 0)
        return replace(laid, x=x, runs=runs, begins=None if flags is None else laid.grid(flags))

    def grid(self, value: Any) -> Tensor:
        """``(B, T, ·)`` of what is laid out as the input is; the data of what is packed will do."""
        if self.packed is not None:
            packed = self.packed
            data = value.data if isinstance(value, PackedSequence) else value
            order = packed.sorted_indices, packed.unsorted_indices
            laid = PackedSequence(data, packed.batch_sizes, *order)
            return pad_packed_sequence(laid, batch_first=True)[0]
        if not self.is_batched:
            return value[None]
        return value if self.batch_first else value.transpose(0, 1)

    def laid(self, y: Tensor) -> Any:
        """``(B, T, ·)`` laid out as the call has it; zero beyond the end of a row."""
        if self.packed is not None:
            sizes, order = self.packed.batch_sizes, self.packed.sorted_indices
            rows = y if order is None else y.index_select(0, order)
            is_there = (torch.arange(len(rows)) < sizes[:, None]).to(y.device)
            data = rows.transpose(0, 1)[is_there]
            return PackedSequence(data, sizes, order, self.packed.unsorted_indices)
        if self.runs is not None:
            y = y.masked_fill(~self.runs[..., None], 0)
        if not self.is_batched:
            return y[0]
        return y if self.batch_first else y.transpose(0, 1)


def _inside(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
