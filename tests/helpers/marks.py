"""Reasons to leave a test out."""

import pytest

from steadygrad.scan.backends.c import build
from steadygrad.scan.backends.triton import environment

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C compiler here")
needs_triton = pytest.mark.skipif(
    not environment.is_installed(),
    reason="Triton is not installed: pip install 'steadygrad[triton]'",
)
