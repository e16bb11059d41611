"""Calls of recurrent layers, caught in the act: what went in and what came out."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from steadygrad.flow.hooks import Hook
from steadygrad.nn import LayerView, Looped, view
from steadygrad.nn.arrangement import Arrangement
from steadygrad.nn.layer_view import layers_in
from steadygrad.scan import is_codes


@dataclass(frozen=True)
class Call:
    """One call of one recurrent layer.

    Attributes:
        name: The layer's name in the model; a later call of the same layer is ``name#2``.
        layer: The module.
        input: What it was given: ``(T, B, I)``, ``(B, T, I)``, ``(T, I)`` or packed; or codes of
            symbols, without the last axis.
        state: The initial state as a tuple, each ``(L*D, B, ·)`` or ``(L*D, ·)``; empty if none.
        output: Its first result, the data of it if packed.
        last: The final state as a tuple.
        noise_seed: Where the layer's own draws began, if its cell draws any.
        lengths: Steps of each row ``(B,)``, if a padded batch came with them.
        goes_on: Whether the initial state carries a graph: a gradient passes on to what made it.
        noise: What the layer's cell drew, where it is known by value; see `Recurrent.fixed_noise`.
    """

    name: str
    layer: nn.Module
    input: Tensor | PackedSequence
    state: tuple[Tensor, ...]
    output: Tensor
    last: tuple[Tensor, ...]
    noise_seed: int | None = None
    lengths: Tensor | None = None
    goes_on: bool = False
    noise: tuple[dict[str, Tensor], ...] | None = None

    @property
    def is_viewed(self) -> bool:
        """Whether the layer has a view; one with a loop of its own has none."""
        return not isinstance(self.layer, Looped)

    @property
    def view(self) -> LayerView:
        """Of the layer."""
        return view(self.layer)

    @property
    def arranged(self) -> Arrangement:
        """How the call lays out its rows."""
        return self.view.arrange(self.input, self.lengths)

    def over_time(self) -> Tensor | None:
        """The input of a dense batch of features, ``(T, B, I)``; None where it is anything else."""
        if not self.is_viewed:
            return None
        arranged = self.arranged
        if not arranged.is_dense or not arranged.is_batched or is_codes(self.input.data):
            return None
        return arranged.rows(self.input).view(len(arranged.batch_sizes), arranged.batch, -1)

    def detached(self) -> "Call":
        """The same values, without the graph that made them."""
        x = self.input
        if isinstance(x, PackedSequence):
            x = PackedSequence(x.data.detach(), x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        else:
            x = x.detach()
        return Call(  # at every step of a training that is watched: `replace` takes thrice as long
            self.name,
            self.layer,
            x,
            tuple(s.detach() for s in self.state),
            self.output.detach(),
            tuple(s.detach() for s in self.last),
            self.noise_seed,
            self.lengths,
            self.goes_on,
            self.noise,
        )


def recurrent_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of every recurrent layer, torch's and ours."""
    # What wraps a model, or a part of it, keeps the names its maker knows.
    wrapper = _wrapper(model)
    for name, module in layers_in(model):
        yield _name(name, wrapper, module), module


def measurable_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of everything whose gradient can be followed through time.

    The recurrent layers, and layers that have a loop of their own, in model order.
    """
    named = dict(recurrent_layers(model))
    wrapper = _wrapper(model)
    order = {module: place for place, module in enumerate(model.modules())}
    for path, module in model.named_modules():
        if isinstance(module, Looped):
            named[_name(path, wrapper, module)] = module
    yield from sorted(named.items(), key=lambda item: order[item[1]])


def _name(path: str, wrapper: str, module: nn.Module) -> str:
    inner = f"{path}.".removeprefix(wrapper).replace("_orig_mod.", "").rstrip(".")
    return inner or type(module).__name__.lower()


def _wrapper(model: nn.Module) -> str:
    """Path to what `torch.compile` or data parallelism wraps, with a dot at its end; or nothing."""
    path = ""
    while True:
        if isinstance(model, DistributedDataParallel):
            path, model = f"{path}module.", model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            path, model = f"{path}_orig_mod.", model._orig_mod  # pyright: ignore[reportAssignmentType]
        else:
            return path


class Capture:
    """Catch every call of the recurrent layers of a model, while the context is open.

    Only references are held: nothing is copied, computed or changed. Use `clear` between
    training steps so that no step outlives the next.

    Args:
        model: Any model that holds recurrent layers.

    Raises:
        ValueError: The model holds none.
    """

    @staticmethod
    def find(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield name and module of every layer that is caught."""
        return measurable_layers(model)

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[Call] = []
        self.layers = dict(self.find(model))
        if not self.layers:
            raise ValueError(
                f"{type(model).__name__} holds no recurrent layer (torch.nn.RNN, LSTM, GRU or a "
                "steadygrad layer). A loop over torch.nn.LSTMCell is no layer: put the cell into "
                "steadygrad.Recurrent."
            )
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self.layers.items():
            hook = Hook(self._hook(name))
            self._handles.append(layer.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off and let go of every tensor."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls.clear()

    def _hook(self, name: str) -> Any:
        names = _arguments(self.layers[name])

        def caught(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
        ) -> None:
            if not torch.is_grad_enabled():
                return
            given = dict(zip(names, args, strict=False)) | kwargs
            x, hx = given[names[0]], given.get(names[1]) if len(names) > 1 else None
            output, last = result if isinstance(result, tuple) else (result, None)
            before = sum(call.layer is layer for call in self.calls)
            self.calls.append(
                Call(
                    f"{name}#{before + 1}" if before else name,
                    layer,
                    x,
                    _as_tuple(hx),
                    output.data if isinstance(output, PackedSequence) else output,
                    _as_tuple(last),
                    getattr(layer, "noise_seed", None),
                    _lengths(given.get("lengths")),
                    any(s.grad_fn is not None for s in _as_tuple(hx)),
                )
            )

        return caught


def _arguments(layer: nn.Module) -> tuple[str, ...]:
    """Names of what a layer is called with: input, state, lengths."""
    if isinstance(layer, Looped):
        return tuple(inspect.signature(layer.forward).parameters)
    return ("input", "hx", "lengths")


def _as_tuple(state: Any) -> tuple[Tensor, ...]:
    if state is None:
        return ()
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _lengths(given: Any) -> Tensor | None:
    return None if given is None else torch.as_tensor(given).detach().cpu().long()
