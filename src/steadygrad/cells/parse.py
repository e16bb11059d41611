"""Read a cell from text: ``elman:nonlinearity=relu``, or a user's own by file or module."""

from collections.abc import Mapping
from dataclasses import is_dataclass

from steadygrad import _user_code
from steadygrad.cells.base import Cell
from steadygrad.errors import InputError, did_you_mean
from steadygrad.spec import read_options, read_spec, write_spec

ALIASES = {"rnn": "elman"}  # its name in torch
OWN = "your own are module:Class or file.py:Class"


def read_cell(text: str, known: Mapping[str, type[Cell]]) -> Cell:
    """Read a cell from text.

    Args:
        text: ``name`` or ``name:option=value,option=value``, the name one of ``known`` (``_`` and
            ``-`` are the same in it, and ``rnn`` is ``elman``); or ``module:Class`` or
            ``file.py:Class`` for a `Cell` of your own, its options behind another colon. The
            module or file is imported, that is, run.
        known: Cells by name.

    Raises:
        InputError: No such cell or option, or a value that the cell refuses.
    """
    kinds = dict(known) | {alias: known[name] for alias, name in ALIASES.items() if name in known}
    name = text.partition(":")[0].strip().replace("_", "-")
    if name in kinds:
        try:
            return read_spec(text, kinds, "cell")
        except (ValueError, TypeError) as error:
            raise InputError(f"cell {text}: {error}") from None
    if not _user_code.is_reference(text):
        raise InputError(
            f"cell {text!r}: no such cell{did_you_mean(name, kinds)}; there are: "
            f"{', '.join(sorted(kinds))}; {OWN}"
        )
    where, class_name, options = _user_code.split(text)
    kind = _user_code.named(where, class_name)
    if not (isinstance(kind, type) and issubclass(kind, Cell)):
        raise InputError(
            f"cell {text}: expected a subclass of steadygrad.cells.Cell, got "
            f"{kind.__name__ if isinstance(kind, type) else type(kind).__name__}"
        )
    if options and not is_dataclass(kind):
        raise InputError(f"cell {text}: {class_name} is not a dataclass, so it has no options")
    try:
        return read_options(class_name, options, kind) if options else kind()
    except (ValueError, TypeError) as error:
        raise InputError(f"cell {text}: {error}") from None


def write_cell(cell: Cell, known: Mapping[str, type[Cell]]) -> str | None:
    """Write a cell as `read_cell` reads it; None if the text would not give an equal cell."""
    kind = type(cell)
    named = getattr(kind, "name", None)
    if named is None or known.get(named) is not kind:
        named = f"{kind.__module__}:{kind.__qualname__}"
    try:
        text = write_spec(named, cell) if is_dataclass(cell) else named
        return text if read_cell(text, known) == cell else None
    except (InputError, ImportError, AttributeError):
        return None
