"""What the reader calls the model and the optimiser: read from the frames that called us."""

import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType, ModuleType

import torch

from steadygrad.remedies import Names

OURS, THEIRS = "steadygrad", "torch"  # an optimiser's hook is called from torch
INSTALLED = ("/site-packages/", "/dist-packages/")
_DEEPEST = 100  # frames: between a program and a callback lies all of its framework


def names_of(model: object, optimizer: object = None) -> Names:
    """The names by which the calling program knows a model and its optimiser.

    A variable of the nearest frame of the program that has the model, or an attribute of one; the
    usual names where there is none. Frames of this library and of installed packages are passed
    over: what a training framework calls a model is nothing that its user can write.
    """
    frames = list(_programs())
    if not frames:
        return Names()
    plain = Names()
    found, frame = next(
        ((name, frame) for frame in frames if (name := _name(model, frame)) is not None),
        (plain.model, frames[0]),
    )
    return Names(
        found,
        _name(optimizer, frame) or plain.optimizer,
        plain.loss,
        {
            short: name
            for short, module in (("sg", sys.modules[OURS]), ("torch", torch))
            if (name := _variable(module, frame)) is not None
        },
    )


def _programs() -> Iterator[FrameType]:
    """The frames of the calling program, nearest first."""
    library = sysconfig.get_path("stdlib").replace("\\", "/") + "/"
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEEPEST):
        if frame is None:
            return
        home = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        place = frame.f_code.co_filename.replace("\\", "/")
        is_installed = place.startswith(library) or any(part in place for part in INSTALLED)
        if home not in (OURS, THEIRS) and not is_installed:
            yield frame
        frame = frame.f_back


def _name(thing: object, frame: FrameType) -> str | None:
    """A variable, or an attribute of one: ``model``, ``self.model``, ``agent.policy``."""
    if thing is None:
        return None
    if (name := _variable(thing, frame)) is not None:
        return name
    for scope in (frame.f_locals, frame.f_globals):
        # The method's own object before others that hold the same.
        for owner, value in sorted(scope.items(), key=lambda item: item[0] != "self"):
            if not _is_shown(owner) or isinstance(value, ModuleType | type):
                continue
            if type(value).__module__.partition(".")[0] == OURS:  # a watch is not its owner
                continue
            if (name := _attribute(thing, value)) is not None:
                return f"{owner}.{name}"
    return None


def _variable(thing: object, frame: FrameType) -> str | None:
    for scope in (frame.f_locals, frame.f_globals):
        for name, value in list(scope.items()):
            if value is thing and _is_shown(name):
                return name
    return None


def _attribute(thing: object, owner: object) -> str | None:
    """The attribute of ``owner`` that holds ``thing``; no property and no method is run."""
    try:
        held = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None
    for attributes in (held, held.get("_modules") or {}):
        for name, value in list(attributes.items()):
            if value is thing and isinstance(name, str) and _is_shown(name):
                return name
    return None


def _is_shown(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")
