"""A model whose lengths and states are arguments and results, as an exported file has them."""

import copy
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.nn import Recurrent
from steadygrad.nn.layer_view import twin_of, view

_TORCH = (nn.RNN, nn.LSTM, nn.GRU)


@final
class Explicit(nn.Module):
    """A copy of a model for export.

    ``(*inputs, lengths?, resets?, *states?) -> (*outputs, *last states?)``.

    Layers of `torch.nn` become ours with the same weights, so that all take one way out.

    Args:
        model: A recurrent layer, or a model with such layers in it; in evaluation mode afterwards.
        states: Whether states go in and come out.
        lengths: Whether the lengths of the rows go in; for a recurrent layer alone.
        resets: Whether it goes in where segments of the rows begin; for a recurrent layer alone.

    Attributes:
        is_layer: Whether the model is a recurrent layer itself.
        state_names: Names of the states, in order.

    Raises:
        InputError: States, lengths or resets are asked of a model that has no place for them.
    """

    def __init__(self, model: nn.Module, states: bool, lengths: bool, resets: bool = False) -> None:
        super().__init__()
        self.model = _with_our_layers(copy.deepcopy(model)).eval()
        self.is_layer = isinstance(self.model, Recurrent)
        self.has_lengths, self.has_resets = lengths, resets
        for name, is_asked in (("lengths", lengths), ("resets", resets)):
            if is_asked and not self.is_layer:
                raise InputError(
                    f"export: {name} belong to a recurrent layer; "
                    f"{type(model).__name__} is a model around one"
                )
        self._layers = {n: m for n, m in self.model.named_modules() if isinstance(m, Recurrent)}
        if states and not self._layers:
            raise InputError(f"export: {type(model).__name__} has no recurrent layer with a state")
        self._places = (
            [(n, k, s) for n, m in self._layers.items() for k, s in enumerate(m.cell.states)]
            if states
            else []
        )
        self.state_names = [f"{n}.{s}" if n else s for n, _, s in self._places]

    def start(self, batch: int) -> list[Tensor]:
        """The states that a sequence begins with: zeros, or what is learnt."""
        found: list[Tensor] = []
        for name, index, _ in self._places:
            layer = self._layers[name]
            found.append(view(layer).start(next(layer.parameters()), batch)[index].contiguous())
        return found

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Run the model; see the class."""
        count = len(given) - len(self._places)
        inputs, states = list(given[:count]), list(given[count:])
        if self.is_layer:
            resets = inputs.pop() if self.has_resets else None
            lengths = inputs.pop() if self.has_lengths else None
            before: Any = (tuple(states) if len(states) > 1 else states[0]) if states else None
            output, last = self.model(*inputs, before, lengths, resets)
            parts = last if isinstance(last, tuple) else (last,)
            return (output, *parts) if states else (output,)
        handed: dict[str, tuple[Tensor, ...]] = {}
        hooks = self._hook(states, handed) if states else []
        try:
            outputs = _tensors(self.model(*inputs))
        finally:
            for hook in hooks:
                hook.remove()
        if not states:
            return outputs
        unused = [n for n in self._layers if n not in handed]
        if unused:
            raise InputError(f"export: the layer {unused[0]!r} is not called by the model")
        return (*outputs, *(handed[n][k] for n, k, _ in self._places))

    def _hook(self, states: Sequence[Tensor], handed: dict[str, tuple[Tensor, ...]]) -> list[Any]:
        """Hand each layer its state, and catch the one that it ends with."""
        hooks: list[Any] = []
        for name, layer in self._layers.items():
            own = tuple(s for s, (n, _, _) in zip(states, self._places, strict=True) if n == name)

            def enter(
                _: nn.Module, args: Any, named: Any, name: str = name, own: Any = own
            ) -> tuple[Any, Any]:
                is_given = (len(args) > 1 and args[1] is not None) or named.get("hx") is not None
                if name in handed or is_given:
                    why = "is called twice" if name in handed else "is given a state by the model"
                    raise InputError(
                        f"export: the layer {name!r} {why}, so its state cannot be an input"
                    )
                return args[:1], {**named, "hx": own if len(own) > 1 else own[0]}

            def leave(_: nn.Module, args: Any, output: Any, name: str = name) -> None:
                handed[name] = output[1] if isinstance(output[1], tuple) else (output[1],)

            hooks.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.append(layer.register_forward_hook(leave))
        return hooks


def _with_our_layers(model: nn.Module) -> nn.Module:
    if isinstance(model, _TORCH):
        return twin_of(model)
    for name, part in list(model.named_modules()):
        if name and isinstance(part, _TORCH):
            model.set_submodule(name, twin_of(part))
    return model


def _tensors(value: Any) -> tuple[Tensor, ...]:
    """All tensors of a model's output, in order."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return tuple(t for part in value for t in _tensors(part))
    return ()


def largest_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest value where that is above one."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            raise InputError(f"expected a result of shape {tuple(b.shape)}, got {tuple(a.shape)}")
        if not b.numel():
            continue
        scale = max(1.0, float(b.abs().max()))
        error = float((a.double() - b.double()).abs().max()) / scale
        worst = error if not error <= worst else worst  # a NaN is the worst
    return worst


def no_grad_outputs(model: nn.Module, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a model computes, for comparison."""
    with torch.no_grad():
        return _tensors(model(*given))
