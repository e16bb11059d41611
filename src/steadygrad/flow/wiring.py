"""Wiring: how a recurrent layer hangs together with the loss, and with what moves its weights.

Read from the autograd graph and from the optimiser's groups; no values are computed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from steadygrad.flow.quantity import Quantity, declare
from steadygrad.nn import Looped

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "wiring",
            "yes or no",
            "Whether the loss reaches a layer, and the optimiser holds its weights.",
        )
    ),
)

_SAMPLED = 64  # values of each weight by which it is seen to change
_OVER_STATE = ("weight_hh", "weight_hr")  # parts of the names of what acts on the state


@final
@dataclass(frozen=True)
class Wiring:
    """What holds one recurrent layer in a training.

    Attributes:
        name: Of the layer.
        calls: Calls with gradients on.
        ungraded: Calls within `torch.no_grad`.
        is_reached: Whether a gradient of the loss has arrived at its results.
        weights: Names of its parameters.
        frozen: Those that take no gradient (``requires_grad`` is False).
        unheld: Those that no group of the optimiser holds; None where no optimiser is known.
        has_changed: Whether any of those has changed since the training began: another optimiser
            moves it, or it is a copy of what this one moves (in full precision, a shard).
        has_twin: Whether a layer of the same shapes was reached: it may be a target network.
        is_stale: Whether the optimiser holds, in their place, tensors that no module of the model
            has any more.
        steps: Steps of the optimiser over which that was so; 0 for a single look.
        transformed: Calls with other weights than its own, or within a transform of `torch.func`:
            nothing is known of them.
        is_stranger: Whether the model does not know it: it stands in a plain list, for example.
    """

    name: str
    calls: int
    ungraded: int
    is_reached: bool
    weights: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    unheld: tuple[str, ...] | None = None
    has_changed: bool = False
    has_twin: bool = False
    is_stale: bool = False
    steps: int = 0
    transformed: int = 0
    is_stranger: bool = False

    @property
    def is_frozen(self) -> bool:
        """Whether none of its weights takes a gradient, or none of those on the state does."""
        return self._are_lost(self.frozen)

    @property
    def is_unheld(self) -> bool:
        """Whether the optimiser holds none of its weights, or none of those on the state."""
        if self.unheld is None or self.has_changed or self.is_frozen:
            return False
        return self._are_lost(self.unheld)

    @property
    def is_aside(self) -> bool:
        """Whether it is plainly not to be trained: called without gradients, and not to move.

        Such are target networks, teachers, and fixed encoders.
        """
        if self.unheld is None:
            is_still = len(self.frozen) == len(self.weights) or self.has_twin
        else:
            is_still = set(self.weights) <= {*self.unheld, *self.frozen}
        return not self.calls and bool(self.ungraded) and is_still

    def _are_lost(self, names: Collection[str]) -> bool:
        over_state = [n for n in self.weights if any(part in n for part in _OVER_STATE)]
        return bool(self.weights) and (
            len(names) == len(self.weights)
            or (bool(over_state) and all(n in names for n in over_state))
        )


def weights_of(layer: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a layer by name; of one with a loop of its own, those of its owner."""
    return dict((layer.owner if isinstance(layer, Looped) else layer).named_parameters())


def measured_parameters(layers: Iterable[nn.Module]) -> set[int]:
    """All parameters of layers that are measured, by identity."""
    return {id(p) for layer in layers for p in weights_of(layer).values()}


def wirings(
    layers: Mapping[str, nn.Module],
    calls: Mapping[str, int],
    ungraded: Mapping[str, int],
    reached: Collection[str],
    transformed: Mapping[str, int],
) -> list[Wiring]:
    """How layers hang together with one loss, no optimiser being known."""
    found: list[Wiring] = []
    shapes = {name: _shapes(layer) for name, layer in layers.items()}
    for name, layer in layers.items():
        weights = weights_of(layer)
        frozen = tuple(n for n, p in weights.items() if not p.requires_grad)
        found.append(
            Wiring(
                name,
                calls.get(name, 0),
                ungraded.get(name, 0),
                name in reached,
                tuple(weights),
                frozen,
                has_twin=any(n != name and shapes[n] == shapes[name] for n in reached),
                transformed=transformed.get(name, 0),
            )
        )
    return found


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in weights_of(layer).items()}


def unheld(layer: nn.Module, held: Collection[int]) -> tuple[str, ...]:
    """Weights of a layer that are not among the parameters, by identity, that are held."""
    return tuple(n for n, p in weights_of(layer).items() if id(p) not in held)


def has_changed(layer: nn.Module, names: Iterable[str], before: Mapping[str, Tensor]) -> bool:
    """Whether any weight of a layer differs from what `sampled` gave earlier."""
    weights = weights_of(layer)
    return any(n not in before or not is_same(weights[n], before[n]) for n in names)


def is_stale(model: nn.Module, layer: nn.Module, held: Iterable[Tensor]) -> bool:
    """Whether an optimiser holds tensors shaped as a layer's weights that the model has no more."""
    here = {id(p) for p in model.parameters()}
    lost = [tuple(p.shape) for p in held if id(p) not in here]
    wanted = [tuple(p.shape) for p in weights_of(layer).values()]
    return bool(wanted) and all(lost.count(shape) >= wanted.count(shape) for shape in set(wanted))


@torch.no_grad()
def sampled(layer: nn.Module) -> dict[str, Tensor]:
    """A few values of each weight of a layer, by which it is seen to change."""
    return {name: taken(p) for name, p in weights_of(layer).items()}


@torch.no_grad()
def _sample(parameter: Tensor) -> Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, len(flat) // _SAMPLED)]


@torch.no_grad()
def taken(parameter: Tensor) -> Tensor:
    """A few of its values, by which `is_same` sees whether it changes."""
    return _sample(parameter).clone()


def is_same(parameter: Tensor, before: Tensor) -> bool:
    """Whether the values that `taken` gave earlier are the same now."""
    now = _sample(parameter)
    return now.shape == before.shape and bool((now.to(before) == before).all())


def strangers(model: nn.Module, tensors: Iterable[Tensor]) -> dict[str, dict[str, Tensor]]:
    """Parameters that a model uses and does not know, by what holds them, then by name.

    Modules that stand in plain lists, tuples or dictionaries of its modules are found by name.
    """
    left = {id(t): t for t in tensors}
    found: dict[str, dict[str, Tensor]] = {}
    for place, inner in held_plainly(model):
        here: dict[str, Tensor] = {
            n: p for n, p in inner.named_parameters() if left.pop(id(p), None) is not None
        }
        if here:
            found[place] = here
    if left:
        found["parameters outside of the model"] = {
            f"of shape {tuple(t.shape)} ({i})": t for i, t in enumerate(left.values())
        }
    return found


def held_plainly(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that stand in plain lists, tuples or dictionaries of a model's modules, by place.

    torch does not know them: they are in no ``parameters()`` and in no ``state_dict``.
    """
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            parts = value.items() if isinstance(value, dict) else ()
            parts = enumerate(value) if isinstance(value, list | tuple) else parts
            for place, part in parts:
                if isinstance(part, nn.Module):
                    yield f"{path}.{attribute}[{place!r}]".lstrip("."), part
