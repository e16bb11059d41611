"""Source reversal: read the input sequence of an encoder in reverse order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from steadygrad.flow import recurrent_layers
from steadygrad.nn import reverse_in_time
from steadygrad.nn.arrangement import time_axis
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, ends_ratio, ends_text, example, seeded
from steadygrad.remedies.unsuitable import no_layer_to_see


@final
@dataclass(frozen=True)
class SourceReversal(Remedy):
    r"""Reverse the time steps of the input of one recurrent layer.

    .. math::
        x_1, x_2, \dots, x_T \;\rightarrow\; x_T, \dots, x_2, x_1

    For an encoder whose last state is used: the average distance from a source element to its
    target is unchanged, but that of the first ones falls from T steps to 1, where learning starts.
    Not for a model that answers at every step: outputs are reversed too, and each would depend on
    its future. It acts in every call, in training and evaluation alike.

    Packed sequences are reversed one by one. In a padded batch the padding is read first.

    Args:
        layer: Name of the recurrent layer, as in ``named_modules``; the first if not given.

    References:
        Sutskever, Vinyals and Le, *Sequence to Sequence Learning with Neural Networks*, 2014,
        section 3.3 (test perplexity 5.8 to 4.7, BLEU 25.9 to 30.6).
    """

    name: ClassVar[str] = "source-reversal"
    claim: ClassVar[str] = "The gradient at the first input is what it was at the last"
    helps: ClassVar[tuple[str, ...]] = ("vanishing",)
    reads_ahead: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"layer": "layer.layers.1"}

    layer: str = ""

    def unsuitable(self, model: nn.Module) -> str | None:
        names = [name for name, _ in recurrent_layers(model)]
        if self.layer and names and self.layer not in names:
            return f"it has no recurrent layer {self.layer!r}; there are: {', '.join(names)}"
        return no_layer_to_see(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        layers = dict(recurrent_layers(model))
        path = self.layer or next(iter(layers))
        handle = layers[path].register_forward_pre_hook(_turn, with_kwargs=True)
        applied.on_undo(handle.remove)
        applied.note(f"{path}: the layer reads its input from the last time step to the first")

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)
        before = ends_ratio(model, x)
        turned = ends_ratio(model, x.flip(0))
        self.apply(model)
        after = ends_ratio(model, x)
        return Demonstration(ends_text(before, after), math.isclose(after, -turned, rel_tol=1e-6))


def _turn(
    layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "input" in kwargs:
        return args, dict(kwargs) | {"input": _reversed(layer, kwargs["input"])}
    return (_reversed(layer, args[0]), *args[1:]), dict(kwargs)


def _reversed(layer: nn.Module, x: Tensor | PackedSequence) -> Tensor | PackedSequence:
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x)
        turned = reverse_in_time(padded, lengths)
        return pack_padded_sequence(turned, lengths, enforce_sorted=x.sorted_indices is None)
    return torch.flip(x, [time_axis(layer, x)])
