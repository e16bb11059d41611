"""A parametrisation put on the recurrent weights of a layer, torch's or ours, and taken off."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steadygrad.cells import Cell
from steadygrad.nn.recurrent import Recurrent

PREFIX = "weight_hh"
HOOK = "_steadygrad_flat_weights"


def recurrent_weights(layer: nn.Module) -> list[str]:
    """Names of a layer's recurrent weights, parametrised or not, in its own order."""
    if not isinstance(layer, Recurrent | nn.RNNBase | nn.RNNCellBase):
        raise TypeError(
            "expected a steadygrad layer, or a torch.nn.RNN, LSTM, GRU or cell, "
            f"got {type(layer).__name__}"
        )
    names = {n for n in layer._parameters if n.startswith(PREFIX)}
    if parametrize.is_parametrized(layer):
        held: Any = layer.parametrizations
        names |= {n for n in held if n.startswith(PREFIX)}
    return sorted(names)


def parametrise_(layer: nn.Module, make: Callable[[Tensor], nn.Module]) -> None:
    """Register ``make(weight)`` on every recurrent weight of ``layer``.

    Raises:
        TypeError: It is no recurrent layer.
        ValueError: Its blocks are not square, or its matrix has a form already.
    """
    names = recurrent_weights(layer)
    _check(layer, names)
    for name in names:
        # unsafe: what is stored has another shape than the weight, by design.
        parametrize.register_parametrization(
            layer, name, make(getattr(layer, name).detach()), unsafe=True
        )
    if isinstance(layer, nn.RNNBase) and not isinstance(layer, Recurrent):
        _follow(layer)


def free_(layer: nn.Module) -> nn.Module:
    """Take the parametrisation off the recurrent weights of ``layer``; their values stay.

    The parameters are the objects that stood there before, so an optimiser that holds them still
    does. What comes after is free: nothing keeps the matrix in its form.

    Returns:
        ``layer``.

    Raises:
        TypeError: It is no recurrent layer.
        ValueError: Its recurrent weights are not parametrised.
    """
    names = recurrent_weights(layer)
    if not any(parametrize.is_parametrized(layer, n) for n in names):
        raise ValueError(f"{type(layer).__name__}: its recurrent weights are not parametrised")
    for name in names:
        if parametrize.is_parametrized(layer, name):
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    if isinstance(layer, nn.RNNBase) and not isinstance(layer, Recurrent):
        layer.__dict__.pop(HOOK).remove()
        layer._flat_weights = _flat(layer)
    return layer


def held_by(layer: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[nn.Parameter, Any]]:
    """What is stored, and the parametrisation of type ``kind`` that reads it, per weight."""
    for name in recurrent_weights(layer):
        if parametrize.is_parametrized(layer, name):
            held: Any = layer.parametrizations
            for item in held[name]:
                if isinstance(item, kind):
                    yield held[name].original, item


def _check(layer: nn.Module, names: list[str]) -> None:
    kind = type(layer).__name__
    for name in names:
        rows, columns = getattr(layer, name).shape
        if getattr(layer, "proj_size", 0) or not columns or not rows:
            raise ValueError(
                f"{kind}.{name} of shape {(rows, columns)} is no stack of square blocks "
                "(a layer with proj_size, or one without recurrent weights)"
            )
        if parametrize.is_parametrized(layer, name):
            raise ValueError(f"{kind}.{name} is parametrised already; steadygrad.nn.free_ it first")
    own = isinstance(layer, Recurrent) and type(layer.cell).recurrent_matrix
    if own and own is not Cell.recurrent_matrix:
        assert isinstance(layer, Recurrent)
        raise ValueError(
            f"the recurrent matrix of {type(layer.cell).__name__} has a form of its own already"
        )


def _flat(layer: nn.RNNBase) -> list[Any]:
    return [getattr(layer, name) for name in layer._flat_weights_names]


def _empty(layer: Any, _: Any, __: Any) -> None:
    # Not left there: a tensor with a history cannot be deep-copied.
    layer._flat_weights = [w.detach() for w in layer._flat_weights]


def _follow(layer: nn.RNNBase) -> None:
    """Keep a torch layer fit to be copied; its call sees parametrised weights by itself."""
    layer.__dict__[HOOK] = layer.register_forward_hook(_empty, always_call=True)
    with torch.no_grad():
        layer._flat_weights = _flat(layer)
