"""A cell written as text, ``elman:nonlinearity=relu``, read into the cell."""

from steadygrad.cells import CELLS, Cell
from steadygrad.spec import read_spec
from steadygrad.tasks import InputError


def parse_cell(text: str) -> Cell:
    """Read ``name`` or ``name:option=value,option=value`` into a cell.

    Raises:
        InputError: No such cell or option, or a value that the cell refuses.
    """
    if text.partition(":")[0].strip() not in CELLS:
        raise InputError(f"--cell {text}: no such cell; there are: rnn, {', '.join(sorted(CELLS))}")
    try:
        return read_spec(text, CELLS, "cell")
    except (ValueError, TypeError) as error:
        raise InputError(f"--cell {text}: {error}") from None
