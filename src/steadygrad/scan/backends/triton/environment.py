"""Whether Triton is installed, and whether it compiles kernels or interprets them."""

import os
import sys
from functools import cache
from importlib.util import find_spec


@cache
def is_installed() -> bool:
    """Whether Triton can be imported; it is not imported for that."""
    return find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU, for tests: the variable ``TRITON_INTERPRET``.

    Triton reads it when its own functions are made, so that it has to be set before anything
    imports Triton, and cannot be changed afterwards.
    """
    if "triton" not in sys.modules:
        return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(tl.sum, InterpretedFunction)
