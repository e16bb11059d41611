"""A pytest plugin, ``-p tests.portable.arithmetic``: other arithmetic than this machine's.

It reads two variables, which reach the workers of pytest-xdist as well:

- STEADYGRAD_TEST_MARCH: what kernels are built for, in place of ``native``.
- STEADYGRAD_TEST_THREADS: threads of torch and of kernels. Above 1, small calls are split too.

What torch's own operations use is up to variables of theirs, read when torch is loaded.
"""

import os

import pytest
import torch

from steadygrad.scan.backends.c import build, threads
from tests.helpers import builds

MARCH, THREADS = "STEADYGRAD_TEST_MARCH", "STEADYGRAD_TEST_THREADS"


@pytest.hookimpl(trylast=True)  # after tests/conftest.py has set one thread
def pytest_sessionstart() -> None:
    march = os.environ.get(MARCH, "native")
    build.FLAGS = tuple(f"-march={march}" if f == "-march=native" else f for f in build.FLAGS)
    builds.shipped()
    count = int(os.environ.get(THREADS, "1"))
    torch.set_num_threads(count)
    if count > 1:
        threads.SMALL = 0


def pytest_report_header() -> str:
    """What it has come to."""
    march = next(f for f in build.FLAGS if f.startswith("-march="))
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"arithmetic: torch {vectors}, kernels {march}, {torch.get_num_threads()} threads"
