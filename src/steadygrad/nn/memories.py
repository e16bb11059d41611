"""Layers with a matrix as state by name: read from text, and stacked."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, make_dataclass
from typing import Any, get_type_hints

from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.nn.step_gradient import Looped
from steadygrad.spec import read_spec

GIVEN = ("input_size", "hidden_size", "batch_first", "device", "dtype")
"""Arguments of a layer that are no options of its notation."""


class MemoryStack(nn.Module):
    """Layers with a matrix as state, each reads the output of the one below.

    Args:
        layers: Time first, the lowest first.
        dropout: Probability of dropping an element of the output of each layer but the last.

    Shapes:
        Input ``(T, B, I)``; output ``(T, B, H)`` and the last states, a tuple of tensors: those of
        the lowest layer first. Handed to the next call, the sequence goes on.
    """

    def __init__(self, layers: Sequence[Looped], dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.states_each = len(layers[0].states)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, input: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the stack; see the class for shapes."""
        x, last = input, ()
        for index, layer in enumerate(self.layers):
            many = self.states_each
            begun = None if state is None else state[index * many : (index + 1) * many]
            x, ended = layer(
                self.dropout(x) if index else x,
                begun[0] if begun is not None and many == 1 else begun,
            )
            last += (ended,) if many == 1 else ended
        return x, last


def read_memory(
    text: str, known: Mapping[str, type[Looped]], input_size: int, hidden_size: int
) -> Looped:
    """Build a layer from ``name`` or ``name:option=value,option=value``.

    Args:
        text: Options are the arguments of the layer besides its sizes.
        known: Kinds of layers by name.
        input_size: Features of the input.
        hidden_size: Features of the output.

    Raises:
        InputError: No such layer or option, or a value that the layer refuses.
    """
    try:
        options = read_spec(text, {n: _options(kind) for n, kind in known.items()}, "layer")
        return known[memory_name(text)](input_size, hidden_size, **asdict(options))
    except ValueError as error:
        raise InputError(f"cell {text}: {error}") from None


def memory_name(text: str) -> str:
    """The name in a notation."""
    return text.partition(":")[0].strip().replace("_", "-")


def _options(kind: type[Looped]) -> type[Any]:
    """The arguments of a layer besides its sizes, as a dataclass."""
    hints = get_type_hints(kind.__init__)
    given = inspect.signature(kind).parameters.values()
    return make_dataclass(
        kind.__name__, [(p.name, hints[p.name], p.default) for p in given if p.name not in GIVEN]
    )
