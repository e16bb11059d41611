"""Which way a scan is run: what is asked for by name is done or refused, only ``auto`` chooses."""

import os
import warnings
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import kernel
from steadygrad.scan.backends.c.build import BuildError, compiler, load
from steadygrad.scan.backends.parallel import is_linear
from steadygrad.scan.ir.operations import Unprintable
from steadygrad.scan.weights import Weights

BACKENDS = ("auto", "eager", "c", "parallel")
VARIABLE = "STEADYGRAD_BACKEND"


class BackendError(RuntimeError):
    """A back end was asked for by name and cannot do what is wanted."""


class BackendWarning(UserWarning):
    """``auto`` fell back to `eager` for a reason that the user may want to mend."""


def choose(
    asked: str | None, cell: Cell, x: Tensor, weights: Weights, clipped: bool = False
) -> str:
    """Name the back end of one call: ``"eager"``, ``"c"`` or ``"parallel"``.

    Args:
        asked: One of `BACKENDS`, or None for the variable ``STEADYGRAD_BACKEND`` and, without it,
            ``"auto"``.
        cell: The recurrence.
        x: The input.
        weights: The weights.
        clipped: Whether a clip has to act inside the backward loop.

    Raises:
        BackendError: An unknown name, or ``"c"`` where it cannot be had; says why.
    """
    name = asked or os.environ.get(VARIABLE) or "auto"
    if name not in BACKENDS:
        raise BackendError(f"unknown back end {name!r}; there are: {', '.join(BACKENDS)}")
    if name == "eager":
        return name
    unfit = _has_loop(cell, clipped)
    if name == "parallel" and unfit:
        raise BackendError(f"back end 'parallel' cannot run {type(cell).__name__} here: {unfit}")
    if not unfit and (name == "parallel" or (name == "auto" and x.device.type != "cpu")):
        return "parallel"
    quiet = _unfit(x)
    projects = weights.weight_hr is not None
    loud = None if quiet else _unbuilt(cell, x.dtype, compiler(), projects)
    if quiet is None and loud is None:
        return "c"
    if name == "c":
        raise BackendError(f"back end 'c' cannot run {type(cell).__name__} here: {quiet or loud}")
    if loud:
        _warn_once(type(cell).__name__, loud)
    return "eager"


def _has_loop(cell: Cell, clipped: bool) -> str | None:
    """Why there has to be a loop over time; None if there need not be one."""
    if not is_linear(cell):
        return "its step is not linear in its state (it states no Cell.linear)"
    return "a clip inside the backward loop needs the loop" if clipped else None


def _unfit(x: Tensor) -> str | None:
    """What the compiled kernels do not do, by design."""
    if x.device.type != "cpu":
        return f"it runs on the CPU, the input is on {x.device}"
    if x.dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 and float64, the input is {x.dtype}"
    return None


@lru_cache(maxsize=256)
def _unbuilt(cell: Cell, dtype: torch.dtype, cc: str | None, projects: bool) -> str | None:
    """Build the kernel; say why that did not work, or None. ``cc`` only keys the cache."""
    try:
        load(kernel.printed(cell, dtype, exact(), projects).text)
    except Unprintable as error:
        return f"its step uses {error}, which cannot be printed as C"
    except BuildError as error:
        return str(error)
    return None


def exact() -> bool:
    """Whether kernels call the system's exp, tanh, sin... (``STEADYGRAD_EXACT=1``), slower."""
    return os.environ.get("STEADYGRAD_EXACT", "") not in ("", "0")


@lru_cache(maxsize=256)
def _warn_once(cell: str, reason: str) -> None:
    warnings.warn(
        f"{cell} runs uncompiled (back end 'eager'): {reason}", BackendWarning, stacklevel=2
    )
