"""The public names of the package and its rooms, and what an import of it costs."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import steadygrad
from steadygrad.tasks import text
from steadygrad.train import config

# Reached by no user; and a room whose modules are what users import, each with its framework.
INTERNAL = {"cli", "scan", "integrations"}
ROOMS = sorted(
    m.name for m in pkgutil.iter_modules(steadygrad.__path__) if m.ispkg and m.name not in INTERNAL
)
HEAVY = ("torch", "numpy", "pandas", "rich")


def room_of(name: str) -> ModuleType:
    return importlib.import_module(f"steadygrad.{name}" if name else "steadygrad")


def seen_by_type_checkers(module: ModuleType) -> set[str]:
    """Names that the source re-exports by import lines, or defines."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {a.name for a in node.names if a.asname == a.name}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        if isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("name", ["", *ROOMS])
def test_a_room_shows_its_public_names_and_no_module(name: str) -> None:
    room = room_of(name)
    shown = dir(room)
    assert shown and set(shown) == set(room.__all__) == seen_by_type_checkers(room)
    modules = {n for n in shown if isinstance(getattr(room, n), ModuleType)}
    assert modules <= (set(ROOMS) if not name else set())  # a room is public, a file is not
    star: dict[str, object] = {}
    exec(f"from {room.__name__} import *", star)
    assert all(star[n] is getattr(room, n) for n in shown)


@pytest.mark.parametrize("name", ["", *ROOMS])
def test_no_submodule_hides_a_name_that_is_imported_on_first_use(name: str) -> None:
    """Python sets an imported submodule as an attribute, over which ``__getattr__`` has no say."""
    room = room_of(name)
    if not hasattr(room, "_HOMES"):
        return
    files = {m.name for m in pkgutil.iter_modules(room.__path__)}
    assert {n for n in room._HOMES if n in files and room._HOMES[n] != n} == set()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'steadygrad' has no attribute 'LSMT'"):
        _ = steadygrad.LSMT  # pyright: ignore[reportAttributeAccessIssue]


def test_the_options_of_training_know_the_symbols_of_a_text() -> None:
    assert config.Symbol == text.Symbol


def imported_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter holds after ``code``."""
    ask = f"{code}\nimport sys; print([n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import steadygrad", set()),
        ("from steadygrad.train.config import TrainConfig", set()),
        ("import steadygrad.report", {"numpy"}),
        ("import steadygrad; steadygrad.LSTM", {"numpy", "torch"}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(code: str, allowed: set[str]) -> None:
    assert imported_by(code) <= allowed
