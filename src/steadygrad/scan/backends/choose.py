"""Choose the back end of a call: the one named, or the best one for ``auto``."""

import os
import warnings
from functools import lru_cache

from steadygrad.scan.backends import BACKENDS, Backend, forks
from steadygrad.scan.backends.base import BackendError as BackendError
from steadygrad.scan.backends.base import BackendWarning as BackendWarning
from steadygrad.scan.call import ScanCall

VARIABLE = "STEADYGRAD_BACKEND"
BY_RANK = tuple(reversed(BACKENDS.values()))

_values = getattr(os.environ, "_data", None)
_names = [os.environ.encodekey(name) for name in (VARIABLE, "STEADYGRAD_EXACT")]


def settings() -> tuple[object, ...]:
    """What the variables are set to that decide how a call is run.

    Compared at every call of a layer: not decoded, which would take ten times as long.
    """
    if _values is None:  # a Python whose os.environ is built otherwise
        return tuple(os.environ.get(name) for name in (VARIABLE, "STEADYGRAD_EXACT"))
    return tuple(map(_values.get, _names))


def choose(call: ScanCall) -> Backend:
    """The back end of one call.

    Raises:
        BackendError: The name is unknown, the named back end refuses the call, or, with ``auto``,
            all do; says why.
    """
    forks.settle()
    name = call.backend or os.environ.get(VARIABLE) or "auto"
    if name == "auto":
        return _best(call)
    asked = BACKENDS.get(name)
    if asked is None:
        known = ", ".join(["auto", *BACKENDS])
        raise BackendError(f"unknown back end {name!r}; there are: {known}")
    reason = asked.refuses(call)
    if reason is not None:
        raise BackendError(
            f"back end {name!r} cannot run {type(call.cell).__name__} here: {reason}"
        )
    return asked


def _best(call: ScanCall) -> Backend:
    """The back end of the highest rank that suits the call and does not refuse it."""
    reason = "there is none"
    passed_over: list[str] = []
    for backend in BY_RANK:
        if not backend.suits(call):
            continue
        reason = backend.refuses(call)
        if reason is None:
            for why in passed_over:
                _warn_once(type(call.cell).__name__, backend.name, why)
            return backend
        passed_over.append(reason)
    raise BackendError(f"no back end can run {type(call.cell).__name__} here: {reason}")


@lru_cache(maxsize=256)
def _warn_once(cell: str, backend: str, reason: str) -> None:
    warnings.warn(
        f"{cell} runs uncompiled (back end {backend!r}): {reason}", BackendWarning, stacklevel=2
    )
