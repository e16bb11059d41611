"""The pages of the Python interface, one a room, from the names that each room shows."""

import importlib
import inspect
from types import ModuleType

TITLES = {
    "steadygrad": "sg",
    "nn": "sg.nn",
    "cells": "sg.cells",
    "flow": "sg.flow",
    "remedies": "sg.remedies",
    "faults": "sg.faults",
    "tasks": "sg.tasks",
    "init": "sg.init",
    "record": "steadygrad.record",
    "train": "steadygrad.train",
    "deploy": "sg.deploy",
    "learn": "sg.learn",
    "report": "sg.report",
}
"""Pages, by the room that each shows."""


def names_of(room: ModuleType) -> list[str]:
    """Full names of the functions and classes that a room shows, where they are defined."""
    found: dict[str, None] = {}
    for name in dir(room):
        value = getattr(room, name)
        home = getattr(value, "__module__", "") or ""
        is_ours = home == "steadygrad" or home.startswith("steadygrad.")
        if (inspect.isfunction(value) or inspect.isclass(value)) and is_ours:
            found[f"{home}.{value.__qualname__}"] = None
    return list(found)


def pages() -> dict[str, str]:
    """The Markdown of every page, for mkdocstrings, by the room's name."""
    made: dict[str, str] = {}
    shown: set[str] = set()  # each at the first room that shows it
    for name, title in TITLES.items():
        full = "steadygrad" if name == "steadygrad" else f"steadygrad.{name}"
        room = importlib.import_module(full)
        summary = inspect.getdoc(room) or ""
        parts = [f"# {title}", summary.partition("\n\n")[0]]
        own = [where for where in names_of(room) if where not in shown]
        shown.update(own)
        parts += [f"::: {where}\n    options: {{heading_level: 2}}" for where in own]
        made[name] = "\n\n".join(parts) + "\n"
    return made
