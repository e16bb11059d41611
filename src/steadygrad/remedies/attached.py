"""Attach a remedy to a running training without changing its loop, and detach it again."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from steadygrad.remedies.patch import Names

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

Group = dict[str, Any]


@final
class Attached:
    """A remedy attached to a live model and its optimiser; the training loop is not changed.

    Values are set in place and layers replaced. The optimiser trains new parameters in the group of
    those they replace, and loses its state (such as Adam's moments) of parameters whose values
    changed. A remedy on gradients acts when ``optimizer.step()`` begins, and after each evaluation
    of a closure.

    Args:
        remedy: The remedy.
        model: Changed in place.
        optimizer: Its optimiser, if it exists already.
        scaler: The gradient scaler, if one is used.
        names: Names for the lines in an error message.

    Attributes:
        remedy: As given.
        changed: The changes in plain words.
        is_undone: Whether it was undone.

    Raises:
        ValueError: The remedy does not suit the model or the optimiser, or needs a line in the
            loop itself, which the message gives. Nothing was changed.
    """

    def __init__(
        self,
        remedy: "Remedy",
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
        names: Names | None = None,
    ) -> None:
        self.remedy = remedy
        self.is_undone = False
        self._undo: list[Callable[[], None]] = []
        refused = _refused(remedy, optimizer, scaler)
        if refused is not None:
            lines = remedy.patch(model, names).text(names or Names())
            raise ValueError(f"{remedy.spec} {refused}. The lines to paste:\n{lines}")
        before = dict(model.named_parameters())
        applied = remedy.apply(model)
        self._undo.append(applied.undo)
        self.changed = applied.changed
        try:
            if optimizer is not None:
                self._take(optimizer, model, before, applied.kept)
                self._begin(optimizer, model, scaler)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Restore model and optimiser; idempotent.

        Later training of parameters that the remedy set or added is lost.
        """
        while self._undo:
            self._undo.pop()()
        self.is_undone = True

    def on_undo(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after everything is undone."""
        self._undo.insert(0, callback)

    def __str__(self) -> str:
        return f"{self.remedy.spec}: {self.changed}; undo() takes it out"

    def __repr__(self) -> str:
        return f"<Attached {self}>"

    def _begin(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        if not self.remedy.acts_on_gradients:
            return
        treatment = self.remedy.begin(model, optimizer, scaler)
        self._undo.append(treatment.close)
        self._undo.append(at_gradients(optimizer, treatment).remove)
        is_alone = self.changed == "nothing before training"
        acts = "acts at every step of the optimiser"
        self.changed = acts if is_alone else f"{self.changed}; {acts}"

    def _take(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        before: Mapping[str, nn.Parameter],
        kept: list[torch.Tensor],
    ) -> None:
        """Let the optimiser train the current parameters of the model."""
        groups: list[Group] = optimizer.param_groups
        now = dict(model.named_parameters())
        held = {id(p) for group in groups for p in group["params"]}
        old, left = {id(p) for p in before.values()}, {id(p) for p in now.values()}
        lost = {n: p for n, p in before.items() if id(p) in held and id(p) not in left}
        new = {n: p for n, p in now.items() if id(p) not in old and p.requires_grad}
        # Adam's moments belong to the old values: dropped now, put back by undo
        states = {p: optimizer.state[p] for p in (*lost.values(), *kept) if p in optimizer.state}
        is_flat = isinstance(optimizer, torch.optim.LBFGS)  # one history over all parameters
        if is_flat and (lost or new):
            raise ValueError(
                f"{self.remedy.spec} replaces parameters, and LBFGS keeps one history over all of "
                "them: apply the remedy first, then make the optimiser"
            )
        if is_flat and kept:
            states = dict(optimizer.state)
        places = [(g, list(g["params"]), list(g.get("param_names", ()))) for g in groups]

        def restore() -> None:
            for group, parameters, names in places:
                group["params"] = parameters
                if names:
                    group["param_names"] = names
            for parameter in (*new.values(), *states):
                optimizer.state.pop(parameter, None)
            optimizer.state.update(states)

        self._undo.append(restore)
        for parameter in states:
            del optimizer.state[parameter]
        # new parameters train in the group of those they replace, with its rate and decay
        homes = {name: _home(name, lost or before, groups) for name in new}
        gone = {id(p) for p in lost.values()}
        for group in groups:
            stay = [i for i, p in enumerate(group["params"]) if id(p) not in gone]
            names = group.get("param_names")
            coming = [name for name, home in homes.items() if home is group]
            group["params"] = [group["params"][i] for i in stay] + [new[n] for n in coming]
            if names is not None:
                group["param_names"] = [names[i] for i in stay] + coming


def _refused(
    remedy: "Remedy",
    optimizer: torch.optim.Optimizer | None,
    scaler: torch.amp.GradScaler | None,
) -> str | None:
    """Why a remedy cannot be attached from outside the loop, or None."""
    if remedy.has_penalty:
        return "adds a term to the loss, which only your loop can do"
    if not remedy.acts_on_gradients:
        return None
    if optimizer is None:
        return "acts on the gradients of every step: give the optimizer too, or paste it"
    is_scaled = scaler is not None and scaler.is_enabled()
    if is_scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
        return (
            "acts on gradients that are not scaled, and this optimiser unscales them inside of "
            "its step"
        )
    return None


def _home(name: str, old: Mapping[str, nn.Parameter], groups: list[Group]) -> Group:
    """The group of the old parameter whose name has most parts in common with a new one."""
    homes = {id(p): group for group in groups for p in group["params"]}
    ranked = sorted(old, key=lambda n: -_common(n, name))
    return next((homes[id(old[n])] for n in ranked if id(old[n]) in homes), groups[0])


def _common(one: str, other: str) -> float:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), math.inf)


def at_gradients(optimizer: torch.optim.Optimizer, act: Callable[[], object]) -> RemovableHandle:
    """Call ``act`` whenever the optimiser is about to use the gradients."""

    def hook(
        _: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        # args[0] is the optimiser itself, as torch passes on the arguments of the unbound method
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            act()
            return None

        def evaluated() -> Any:
            loss = closure()
            act()
            return loss

        if len(args) > 1:
            return (args[0], evaluated, *args[2:]), kwargs
        return args, {**kwargs, "closure": evaluated}

    return optimizer.register_step_pre_hook(hook)
