"""Recurrent cells: one file per recurrence."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.cells.antisymmetric import Antisymmetric as Antisymmetric
from steadygrad.cells.antisymmetric import GatedAntisymmetric as GatedAntisymmetric
from steadygrad.cells.base import Cell as Cell
from steadygrad.cells.base import Gates as Gates
from steadygrad.cells.base import Named as Named
from steadygrad.cells.base import Noise as Noise
from steadygrad.cells.base import PerUnit as PerUnit
from steadygrad.cells.base import Recur as Recur
from steadygrad.cells.base import State as State
from steadygrad.cells.cfc import CfC as CfC
from steadygrad.cells.clockwork import Clockwork as Clockwork
from steadygrad.cells.cornn import CoRNN as CoRNN
from steadygrad.cells.elman import Elman as Elman
from steadygrad.cells.elman_layer_norm import ElmanLayerNorm as ElmanLayerNorm
from steadygrad.cells.exprnn import ExpRNN as ExpRNN
from steadygrad.cells.fuzzy_lstm import FuzzyLSTM as FuzzyLSTM
from steadygrad.cells.gru import GRU as GRU
from steadygrad.cells.gru_layer_norm import GRULayerNorm as GRULayerNorm
from steadygrad.cells.gru_original import GRUOriginal as GRUOriginal
from steadygrad.cells.gru_zoneout import GRUZoneout as GRUZoneout
from steadygrad.cells.ind_rnn import IndRNN as IndRNN
from steadygrad.cells.irnn import IRNN as IRNN
from steadygrad.cells.lem import LEM as LEM
from steadygrad.cells.linear_transition import LinearTransition as LinearTransition
from steadygrad.cells.lru import LRU as LRU
from steadygrad.cells.lstm import LSTM as LSTM
from steadygrad.cells.lstm_1997 import LSTM1997 as LSTM1997
from steadygrad.cells.lstm_chrono import ChronoLSTM as ChronoLSTM
from steadygrad.cells.lstm_coupled import LSTMCoupled as LSTMCoupled
from steadygrad.cells.lstm_dropout import LSTMDropout as LSTMDropout
from steadygrad.cells.lstm_greff import LSTMGreff as LSTMGreff
from steadygrad.cells.lstm_layer_norm import LSTMLayerNorm as LSTMLayerNorm
from steadygrad.cells.lstm_peephole import LSTMPeephole as LSTMPeephole
from steadygrad.cells.lstm_zoneout import LSTMZoneout as LSTMZoneout
from steadygrad.cells.mgu import MGU as MGU
from steadygrad.cells.min_gru import MinGRU as MinGRU
from steadygrad.cells.min_lstm import MinLSTM as MinLSTM
from steadygrad.cells.mod_relu import ModReLU as ModReLU
from steadygrad.cells.mut1 import MUT1 as MUT1
from steadygrad.cells.mut2 import MUT2 as MUT2
from steadygrad.cells.mut3 import MUT3 as MUT3
from steadygrad.cells.para_gru import ParaGRU as ParaGRU
from steadygrad.cells.para_lstm import ParaLSTM as ParaLSTM
from steadygrad.cells.parse import read_cell as _read_cell
from steadygrad.cells.parse import write_cell as _write_cell
from steadygrad.cells.rg_lru import RGLRU as RGLRU
from steadygrad.cells.s4d import S4D as S4D
from steadygrad.cells.s6 import S6 as S6
from steadygrad.cells.scornn import ScoRNN as ScoRNN
from steadygrad.cells.slstm import SLSTM as SLSTM
from steadygrad.cells.unicornn import UnICORNN as UnICORNN
from steadygrad.cells.unitary import Unitary as Unitary

CELLS: dict[str, type[Cell]] = {
    value.name: value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Cell) and value is not Cell
}
"""Every cell by its name."""


def parse(text: str) -> Cell:
    """Read a cell from text, as `steadygrad.Recurrent` and the command line write it.

    Args:
        text: ``name`` or ``name:option=value,option=value``; or ``module:Class`` or
            ``file.py:Class`` for a cell of your own, its options behind another colon. That
            module or file is imported, that is, run.

    Raises:
        InputError: No such cell or option, or a value that the cell refuses; a ValueError.

    Example:
        >>> parse("elman:nonlinearity=relu")
        Elman(nonlinearity='relu')
    """
    return _read_cell(text, CELLS)


def write(cell: Cell) -> str | None:
    """Write a cell as `parse` reads it; None if the text would not give an equal cell.

    That is so for a class defined in a function, and for options that are not plain values.

    Example:
        >>> from steadygrad.cells import LEM
        >>> write(LEM(dt=0.5))
        'lem:dt=0.5'
    """
    return _write_cell(cell, CELLS)


if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
