"""Settings for all tests."""

import os
import random
import signal
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from steadygrad.scan.backends.c import build, kernel
from tests.helpers import builds


def _no_device_to_seed(seed: int) -> None:
    """Seed the devices of a kind of which there are none."""


# Many tests are many small operations; threads would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start

# A job that a script puts in the background begins with Ctrl-C ignored, and so would all that the
# tests start: how a training answers to it could not be tested there.
for _number, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

# The tests start about a hundred processes. Where this is set (in many containers), each of them
# compiles the package and pytest's plugins from their sources: a third of the time of a short one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# And so would pytest rewrite the assertions of every test in each process and at each run.
sys.dont_write_bytecode = False

# Where there is no such device, each `torch.manual_seed` would write a traceback of some eighty
# frames into its queue, in case the device is used later; tests seed ten thousand times.
for _device in (torch.cuda, torch.mtia, torch.xpu):
    if not _device.is_available():
        _device.manual_seed_all = _no_device_to_seed  # pyright: ignore[reportAttributeAccessIssue]

builds.quick()

# The same examples every time: what fails fails for everybody, and what passes stays passed. To
# look for new ones: pytest --hypothesis-profile default --hypothesis-seed random.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Begin every test from one seed: a network drawn anew each time fails once in a thousand."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def any_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No back end is asked for from outside, and the number of threads is put back."""
    monkeypatch.delenv("STEADYGRAD_BACKEND", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shipped_builds() -> Iterator[None]:
    """Kernels are built as they are for users, which takes five times as long."""
    cc = os.environ.get("CC")
    builds.shipped()
    _forget_kernels()
    yield
    if cc is not None:
        os.environ["CC"] = cc
    _forget_kernels()


def _forget_kernels() -> None:
    kernel.loaded.cache_clear()
    build.forget()
