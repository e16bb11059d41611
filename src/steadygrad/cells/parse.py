"""A cell written as text, ``elman:nonlinearity=relu``, read into the cell."""

from steadygrad.cells import CELLS, Cell
from steadygrad.errors import InputError
from steadygrad.spec import read_spec


def parse_cell(text: str) -> Cell:
    """Read ``name`` or ``name:option=value,option=value`` into a cell.

    Raises:
        InputError: No such cell or option, or a value that the cell refuses.
    """
    kinds = CELLS | {"rnn": CELLS["elman"]}  # its name in torch
    if text.partition(":")[0].strip().replace("_", "-") not in kinds:
        raise InputError(f"--cell {text}: no such cell; there are: {', '.join(sorted(kinds))}")
    try:
        return read_spec(text, kinds, "cell")
    except (ValueError, TypeError) as error:
        raise InputError(f"--cell {text}: {error}") from None
