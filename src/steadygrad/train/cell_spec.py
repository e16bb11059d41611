"""A cell written as text, ``elman:nonlinearity=relu``, read into the cell."""

from dataclasses import fields
from typing import Any, get_type_hints

from steadygrad.cells import CELLS, Cell
from steadygrad.tasks import InputError

TRUTHS = {"true": True, "false": False}


def parse_cell(text: str) -> Cell:
    """Read ``name`` or ``name:option=value,option=value`` into a cell.

    Raises:
        InputError: No such cell or option, or a value that the cell refuses.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    if name not in CELLS:
        raise InputError(f"--cell {text}: no such cell; there are: rnn, {', '.join(sorted(CELLS))}")
    cell = CELLS[name]
    options: list[str] = [option.name for option in fields(cell)]  # pyright: ignore[reportArgumentType]
    kinds = get_type_hints(cell)
    values: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or option not in options:
            raise InputError(
                f"--cell {text}: expected option=value, got {pair!r}; options of {name}:"
                f" {', '.join(options) or 'none'}"
            )
        values[option] = value
    try:
        return cell(**{option: _convert(kinds[option], v) for option, v in values.items()})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"--cell {text}: {error}") from None


def _convert(kind: Any, value: str) -> Any:
    if kind is bool:
        return TRUTHS[value.lower()]
    return kind(value) if kind in (int, float) else value
