"""Import objects from users' code, by ``module:Name`` or ``file.py:Name``."""

import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from steadygrad.errors import InputError, did_you_mean

# The path of a file may contain a colon, as on Windows.
REFERENCE = re.compile(
    r"(?P<where>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)(?::(?P<rest>.*))?"
)


def is_reference(text: str) -> bool:
    """Whether ``text`` is ``module:Name`` or ``file.py:Name``, with or without options.

    ``name:option=value`` is not.
    """
    return REFERENCE.fullmatch(text.strip()) is not None


def split(text: str) -> tuple[str, str, str]:
    """Return module or file, name, and the options after a second colon."""
    match = REFERENCE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text}: expected module:Name or file.py:Name")
    return match["where"], match["name"], match["rest"] or ""


def named(where: str, name: str) -> Any:
    """Import a module or run a file, and return an object that it defines.

    Raises:
        InputError: There is no such module or file, or it defines no such name.
    """
    module = _module(where)
    if not hasattr(module, name):
        there = sorted(
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", None) == module.__name__ and n[0] != "_"
        )
        raise InputError(
            f"{where}:{name}: {where} defines no {name!r}{did_you_mean(name, there)}; "
            f"there are: {', '.join(there) or 'none'}"
        )
    return getattr(module, name)


def fingerprint(text: str) -> str | None:
    """Return a hash of the source of a reference; None for a built-in name."""
    if not is_reference(text):
        return None
    where, _, _ = split(text)
    file = Path(where) if where.endswith(".py") else Path(_module(where).__file__ or "")
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _module(where: str) -> ModuleType:
    if where.endswith(".py"):
        return _run_file(Path(where))
    folder = str(Path.cwd())
    if folder not in sys.path:  # the current folder first, as with `python -m`
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise  # the module exists, but one of its imports does not
        raise InputError(f"{where}: no such module (searched {folder} and sys.path)") from None


def _run_file(path: Path) -> ModuleType:
    """Run a file once as a module; again only if it has changed.

    Repeated references must give the same class. The module's name contains a hash, so that a file
    ``random.py`` does not replace a module that others import.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file (searched in {Path.cwd()})")
    path = path.resolve()
    digest = hashlib.sha256(bytes(path) + path.read_bytes()).hexdigest()[:12]
    name = f"steadygrad_user_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
