"""Public names of a package, for ``dir`` and ``import *``, and lazy imports.

A room re-exports its names by plain import lines (``from ... import X as X``), which type checkers
read; its submodules, which Python also sets as attributes, are not for users and are left out.
"""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

HELPERS = frozenset({"TYPE_CHECKING", "public", "on_first_use"})
Listing = Callable[[], list[str]]


def public(names: Mapping[str, object]) -> tuple[list[str], Listing]:
    """Return ``__all__`` and ``__dir__`` of a room from its ``globals()``.

    Modules, classes of other packages, and names with a leading underscore are not public.
    """
    listed = sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and name not in HELPERS and not _is_foreign(value)
    )
    return listed, lambda: list(listed)


def _is_foreign(value: object) -> bool:
    if isinstance(value, type):
        return not value.__module__.startswith("steadygrad.")
    return isinstance(value, ModuleType) or value is Any or value is Callable


def on_first_use(
    room: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], list[str], Listing]:
    """Return ``__getattr__``, ``__all__`` and ``__dir__`` of a room that imports lazily (PEP 562).

    Args:
        room: Full name of the package.
        homes: Each public name and the module, relative to the package, that defines it; a
            submodule that is public itself is its own home.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}", name=name)
        home = importlib.import_module(f"{room}.{homes[name]}")
        value = home if homes[name] == name else getattr(home, name)
        setattr(importlib.import_module(room), name, value)  # later look-ups bypass this
        return value

    # with `name`, Python can suggest similar names; it fills in `obj` itself
    return load, sorted(homes), lambda: sorted(homes)
