"""Reasons to leave a test out."""

import pytest

from steadygrad.scan.backends.c import build

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C compiler here")
