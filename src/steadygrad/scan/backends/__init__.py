"""Back ends that run a scan: a module each, registered by one import line here."""

from steadygrad.scan.backends.base import Backend as Backend
from steadygrad.scan.backends.c.backend import Compiled as Compiled
from steadygrad.scan.backends.eager import Eager as Eager
from steadygrad.scan.backends.parallel import Parallel as Parallel
from steadygrad.scan.backends.triton.backend import Triton as Triton

BACKENDS: dict[str, Backend] = {
    found.name: found()
    for found in sorted(
        (v for v in list(globals().values()) if isinstance(v, type) and issubclass(v, Backend)),
        key=lambda v: v.rank,
    )
    if found is not Backend
}
"""Every back end by name, in order of increasing rank for ``auto``."""
