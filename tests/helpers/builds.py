"""How the kernels of tests with ``quick_builds`` are built."""

QUICK = "-O0"
"""In place of -O2; `tests.portable.arithmetic`, which is about what is shipped, puts -O2 back."""
