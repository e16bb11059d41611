"""Initialisers: in place, ending in an underscore, returning their argument.

They know tensors and row blocks, not layers: the weight of a gated layer stacks one block of
rows per gate, and each block is a matrix of its own.
"""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.init.chrono import chrono_ as chrono_
from steadygrad.init.gate_bias import gate_bias_ as gate_bias_
from steadygrad.init.glorot import glorot_ as glorot_
from steadygrad.init.he import he_ as he_
from steadygrad.init.identity import identity_ as identity_
from steadygrad.init.orthogonal import orthogonal_ as orthogonal_
from steadygrad.init.rotation import rotation_ as rotation_

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
