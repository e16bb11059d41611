"""What the reader calls the model and the optimiser: read from the frame that called us."""

import sys
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any

import torch

from steadygrad.remedies import Names

OURS, THEIRS = "steadygrad", "torch"  # an optimiser's hook is called from torch
_DEEPEST = 50  # frames


def names_of(model: object, optimizer: object = None) -> Names:
    """The names by which the calling program knows a model and its optimiser.

    A variable of the nearest frame outside of this library, or an attribute of its ``self``; the
    usual names where there is none.
    """
    frame = _outside()
    if frame is None:
        return Names()
    scopes = (frame.f_locals, frame.f_globals)
    plain = Names()
    return Names(
        _name(model, scopes) or plain.model,
        _name(optimizer, scopes) or plain.optimizer,
        plain.loss,
        {
            short: name
            for short, module in (("sg", sys.modules[OURS]), ("torch", torch))
            if (name := _name(module, scopes)) is not None
        },
    )


def _outside() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEEPEST):
        if frame is None:
            return None
        home = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if home not in (OURS, THEIRS):
            return frame
        frame = frame.f_back
    return None


def _name(thing: object, scopes: tuple[Mapping[str, Any], ...]) -> str | None:
    if thing is None:
        return None
    for scope in scopes:
        for name, value in list(scope.items()):
            if value is thing and name.isidentifier() and not name.startswith("_"):
                return name
    owner = scopes[0].get("self")
    if owner is None or isinstance(thing, ModuleType):
        return None
    kept = [getattr(owner, "__dict__", {}), getattr(owner, "_modules", None) or {}]
    for attributes in kept:
        for name, value in attributes.items():
            if value is thing and str(name).isidentifier():
                return f"self.{name}"
    return None
