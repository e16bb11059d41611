"""The parameters that a remedy on gradients treats, with their names, layers and groups."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, final, overload

import torch
from torch import Tensor, nn

Scope = Literal["all", "group", "layer", "parameter"]
"""The parameters that share a norm: all, a group of the optimiser, a layer, a tensor."""
SCOPES: tuple[Scope, ...] = ("all", "group", "layer", "parameter")


@final
class Parameters(Sequence[nn.Parameter]):
    """The parameters of a training, each once, in a fixed order.

    Args:
        model: Names them.
        optimizer: If given, its parameters, in its groups; otherwise all of the model's, in one
            group.

    Attributes:
        names: As in ``named_parameters``; ``group0.1`` for one that the model does not hold.
        model, optimizer: As given.
        known: Cached facts about the gradients.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        named = {p: name for name, p in model.named_parameters()}
        groups = [list(named)] if optimizer is None else _groups(optimizer)
        self._all = [p for group in groups for p in group]
        self._group_of = [number for number, group in enumerate(groups) for _ in group]
        outside = {
            p: f"group{n}.{i}" for n, group in enumerate(groups) for i, p in enumerate(group)
        }
        self.names = tuple(named.get(p, outside[p]) for p in self._all)
        self.model, self.optimizer = model, optimizer
        self.known: dict[str, Any] = {}
        self._ids: dict[Scope, Tensor] = {}
        self._host_ids: dict[Scope, list[int]] = {}
        self._labels: dict[Scope, tuple[str, ...]] = {}

    @overload
    def __getitem__(self, index: int) -> nn.Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> list[nn.Parameter]: ...
    def __getitem__(self, index: int | slice) -> nn.Parameter | list[nn.Parameter]:
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def device(self) -> torch.device:
        """The device of norms and decisions: that of the first parameter."""
        return self._all[0].device if self._all else torch.device("cpu")

    def __iter__(self) -> Iterator[nn.Parameter]:
        return iter(self._all)

    def labels(self, scope: Scope) -> tuple[str, ...]:
        """Labels of the norms of ``scope``, in order."""
        if scope not in self._labels:
            self._labels[scope] = tuple(dict.fromkeys(self._keys(scope)))
        return self._labels[scope]

    def host_ids(self, scope: Scope) -> list[int]:
        """The index in `labels` for each parameter, on the host."""
        if scope not in self._host_ids:
            order = {label: number for number, label in enumerate(self.labels(scope))}
            self._host_ids[scope] = [order[key] for key in self._keys(scope)]
        return self._host_ids[scope]

    def ids(self, scope: Scope) -> Tensor:
        """The same as a tensor on `device`."""
        if scope not in self._ids or self._ids[scope].device != self.device:
            self._ids[scope] = torch.tensor(
                self.host_ids(scope), dtype=torch.long, device=self.device
            )
        return self._ids[scope]

    def _keys(self, scope: Scope) -> Iterable[str]:
        if scope == "parameter":
            return self.names
        if scope == "layer":
            return map(_layer, self.names)
        return (f"group{n}" for n in self._group_of) if scope == "group" else ["all"] * len(self)


def _layer(name: str) -> str:
    """``lstm.weight_hh_l0_reverse`` belongs to ``lstm.l0_reverse``, ``head.bias`` to ``head``."""
    path, _, own = name.rpartition(".")
    stem, mark, suffix = own.rpartition("_l")
    is_stacked = bool(stem and mark) and suffix[:1].isdigit()
    return ".".join(part for part in (path, f"l{suffix}" if is_stacked else "") if part) or "model"


def _groups(optimizer: torch.optim.Optimizer) -> list[list[nn.Parameter]]:
    return [list(group["params"]) for group in optimizer.param_groups]
