"""Calls of recurrent layers, caught in the act: what went in and what came out."""

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from steadygrad.flow.hooks import Hook
from steadygrad.flow.through_depth import DEEP
from steadygrad.nn import LayerView, Looped, view
from steadygrad.nn.arrangement import Arrangement
from steadygrad.nn.layer_view import layers_in
from steadygrad.scan import is_codes

if TYPE_CHECKING:
    from steadygrad.flow.links import Links

_SIGNED = "steadygrad"
_FARTHEST = 64  # nodes looked through for where a state comes from


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
        number: Its place among the calls that were caught with it.
        handed: Number of the earlier call of the same layer, among those caught, whose last state
            the initial state was made from; None if there is none.
        layout: How the rows lie, where that is not what the layer itself would take.
        chain: The calls that this one stands for; None if it is one call.
        severed: Steps after which a chain hands its state on by value alone; None for never.
        fed: Numbers of the earlier calls, among those caught, whose results the input was made of.
        below: Names of the calls that feed this one, chains as one; the call itself not among them.
        resets: Where segments of its rows begin, as the layer was given it; None if nowhere.
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
    number: int = -1
    handed: int | None = None
    layout: Arrangement | None = None
    chain: "Links | None" = None
    severed: int | None = None
    fed: tuple[int, ...] = ()
    below: tuple[str, ...] = ()
    resets: Any = None

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
        return self.layout or self.view.arrange(self.input, self.lengths)

    @property
    def results(self) -> list[Tensor]:
        """The tensors in the graph at which the gradient tells what the loss sent to the call."""
        if self.chain is not None:
            return self.chain.results
        return [t for t in (self.output, *self.last) if t.requires_grad]

    def collect(self, grads: dict[int, Tensor | None]) -> tuple[Tensor | None, tuple[Any, ...]]:
        """Gradients at `results`, by identity, as those at output and final states."""
        if self.chain is not None:
            return self.chain.collect(self.chain.lookup(grads))
        # A layer may return one tensor twice: by identity, not by place.
        return grads.get(id(self.output)), tuple(grads.get(id(s)) for s in self.last)

    def spread(self, grad: tuple[Tensor | None, tuple[Any, ...]]) -> list[tuple[Tensor, Tensor]]:
        """The inverse of `collect`, as tensor and gradient."""
        if self.chain is not None:
            return self.chain.spread(grad)
        pairs = zip((self.output, *self.last), (grad[0], *grad[1]), strict=True)
        return [(t, g) for t, g in pairs if g is not None and t.requires_grad]

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
            self.number,
            self.handed,
            self.layout,
            None,  # its links have graphs
            self.severed,
            self.fed,
            self.below,
            self.resets,
        )


def recurrent_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of every recurrent layer, torch's and ours."""
    # What wraps a model, or a part of it, keeps the names its maker knows.
    wrapper = _wrapper(model)
    for name, module in layers_in(model):
        yield _name(name, wrapper, module), module


def measurable_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of everything whose gradient can be followed through time.

    The recurrent layers, layers that have a loop of their own, and torch's cells, in model order.
    """
    named = dict(recurrent_layers(model))
    wrapper = _wrapper(model)
    order = {module: place for place, module in enumerate(model.modules())}
    for path, module in model.named_modules():
        if isinstance(module, (Looped, nn.RNNCellBase)):
            named[_name(path, wrapper, module)] = module
    yield from sorted(named.items(), key=lambda item: order[item[1]])


def is_deep(model: nn.Module) -> bool:
    """Whether a model has layers, but nothing that can be followed through time."""
    return next(measurable_layers(model), None) is None and any(
        isinstance(module, DEEP) for module in model.modules()
    )


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
        may_be_empty: Whether one without any is accepted, too.

    Attributes:
        graded: Calls so far with gradients on, by layer, those that are forgotten included.
        ungraded: Calls so far without.
        transformed: Calls so far that a hook cannot see as they are: with weights that are not the
            layer's own (`torch.func.functional_call`), or within a transform of `torch.func`.

    Raises:
        ValueError: The model holds none.
    """

    is_linking: bool = True
    """Whether it is found out which call goes on from which."""

    @staticmethod
    def find(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield name and module of every layer that is caught."""
        return measurable_layers(model)

    def __init__(self, model: nn.Module, may_be_empty: bool = False) -> None:
        self.calls: list[Call] = []
        self.graded: Counter[str] = Counter()
        self.ungraded: Counter[str] = Counter()
        self.transformed: Counter[str] = Counter()
        self._count: dict[nn.Module, int] = {}
        self._era = 0  # which time round the calls are counted from 0
        self.layers = dict(self.find(model))
        if not self.layers and not may_be_empty:
            raise ValueError(
                f"{type(model).__name__} holds no recurrent layer: no torch.nn.RNN, LSTM or GRU, "
                "no cell of torch's, and no steadygrad layer"
            )
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self.layers.items():
            if not isinstance(layer, Looped):
                before = Hook(self._enter)
                self._handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            hook = Hook(self._hook(name), partial(self._transform, name))
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

    def reopen(self, model: nn.Module) -> None:
        """Begin anew, with the layers that the model has now."""
        self.close()
        self.layers = dict(self.find(model))
        self.__enter__()

    @property
    def is_on(self) -> bool:
        """Whether calls are caught."""
        return bool(self._handles)

    def turn(self, is_on: bool) -> None:
        """Catch the next calls, or take the hooks off until they are wanted again."""
        if is_on and not self._handles:
            self.__enter__()
        elif not is_on and self._handles:
            self.close()

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls.clear()
        self._count.clear()
        self._era += 1

    def _transform(self, name: str) -> None:
        self.transformed[name] += 1

    def _hook(self, name: str) -> Any:
        names = _arguments(self.layers[name])

        def caught(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
        ) -> Any:
            if not torch.is_grad_enabled():
                self.ungraded[name] += 1
                return None
            if is_given_weights(layer):
                self._transform(name)
                return None
            self.graded[name] += 1
            given = dict(zip(names, args, strict=False)) | kwargs
            x, hx = given[names[0]], given.get(names[1]) if len(names) > 1 else None
            # An LSTMCell makes h from the very c that it returns, a loop its output from the state
            # that it hands out: of a view of it the gradient is that of what reads it outside.
            own = _viewed if self.is_linking else _same
            is_remade = isinstance(layer, (nn.RNNCellBase, Looped))
            if isinstance(layer, nn.RNNCellBase):
                last = result = own(result)
                output = _as_tuple(last)[0]
            else:
                output, last = result if isinstance(result, tuple) else (result, None)
                if is_remade and isinstance(result, tuple):
                    last = own(last)
                    result = output, last
            before = self._count.get(layer, 0)
            self._count[layer] = before + 1
            state = _as_tuple(hx)
            self.calls.append(
                Call(
                    f"{name}#{before + 1}" if before else name,
                    layer,
                    x,
                    state,
                    output.data if isinstance(output, PackedSequence) else output,
                    _as_tuple(last),
                    getattr(layer, "noise_seed", None),
                    _lengths(given.get("lengths")),
                    any(s.grad_fn is not None for s in state),
                    number=len(self.calls),
                    handed=self._made_by(layer, state),
                    fed=self._fed_by(x),
                    resets=given.get("resets"),
                )
            )
            self._sign(self.calls[-1])
            return result if is_remade else None

        return caught

    def _sign(self, call: Call) -> None:
        """Leave the number of a call in the graph of its results, where later calls find it."""
        if not self.is_linking:
            return
        # In the metadata of the nodes, which they keep: to hold a node would keep its graph alive.
        for value in (call.output, *call.last):
            if value.grad_fn is not None:
                _metadata(value.grad_fn)[_SIGNED] = (id(self), self._era, call.number)

    def _made_by(self, layer: nn.Module, state: tuple[Tensor, ...]) -> int | None:
        """The nearest earlier call in the graph of a state, if it is one of the same layer."""
        # What lies behind the call of another layer is not handed on.
        found = self._nearest(state)
        return next((n for n in found if self.calls[n].layer is layer), None)

    def _fed_by(self, x: Tensor | PackedSequence) -> tuple[int, ...]:
        """The nearest earlier calls in the graph of an input."""
        return tuple(self._nearest((x.data if isinstance(x, PackedSequence) else x,)))

    def _nearest(self, values: tuple[Tensor, ...]) -> Iterator[int]:
        """Numbers of the earlier calls that tensors were made from, the nearest first."""
        if not self.is_linking:
            return
        todo = [v.grad_fn for v in values if v.grad_fn is not None]
        seen = set(todo)
        at = 0
        while at < len(todo) and at < _FARTHEST:
            node = todo[at]
            at += 1
            owner, era, number = _metadata(node).get(_SIGNED, (None, None, None))
            if owner == id(self) and era == self._era and number is not None:
                yield number
                continue
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    todo.append(below)

    def _enter(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Hand a state in as a view of itself: its gradient is then what this call sends back."""
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        if hx is None or not self.is_linking or not torch.is_grad_enabled():
            return None
        if all(s.grad_fn is None for s in _as_tuple(hx)):
            return None
        viewed: Any = (
            hx.view_as(hx) if isinstance(hx, Tensor) else tuple(s.view_as(s) for s in _as_tuple(hx))
        )
        if len(args) > 1:
            return (args[0], viewed, *args[2:]), kwargs
        return args, {**kwargs, "hx": viewed}


def is_given_weights(layer: nn.Module) -> bool:
    """Whether a layer runs with tensors that were put in the place of its parameters."""
    inner = layer.owner if isinstance(layer, Looped) else layer
    for p in inner._parameters.values():
        # By its type first: torch makes `isinstance` of a parameter slow.
        if p is not None and type(p) is not nn.Parameter and not isinstance(p, nn.Parameter):
            return True
    return False


def _metadata(node: Any) -> dict[str, Any]:
    """What may be written on a node of the graph; torch's stubs take it for a method."""
    return node.metadata


def _arguments(layer: nn.Module) -> tuple[str, ...]:
    """Names of what a layer is called with: input, state, lengths, resets."""
    if isinstance(layer, Looped):
        return tuple(inspect.signature(layer.forward).parameters)
    return ("input", "hx", "lengths", "resets")


def _as_tuple(state: Any) -> tuple[Tensor, ...]:
    if state is None:
        return ()
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _same(value: Any) -> Any:
    return value


def _viewed(value: Any) -> Any:
    """The same values as tensors of their own in the graph; of other kinds what it is."""
    if isinstance(value, Tensor):
        return value.view_as(value)
    return tuple(map(_viewed, value)) if type(value) is tuple else value


def _lengths(given: Any) -> Tensor | None:
    return None if given is None else torch.as_tensor(given).detach().cpu().long()
