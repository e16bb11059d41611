"""The live page: draws records while they grow, on this machine alone, and changes nothing."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.board.server import Board as Board

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
