"""Gradients through time in recurrent networks: measured, named, repaired."""

from steadygrad._version import __version__ as __version__
