"""How kernels are built in tests: without optimising, in a fifth of the time.

How a step is printed does not depend on how well gcc makes it fast. What is shipped is built where
a test asks for the fixture ``shipped_builds``, and by `make test-portable`.
"""

import os
import shlex
from pathlib import Path

from steadygrad.scan.backends.c import build

_QUICK = Path(__file__).with_name("quick_cc")


def quick() -> None:
    """Build without optimising, here and in all processes that are started; not if $CC is set."""
    if os.name == "posix" and "CC" not in os.environ and (cc := build.compiler()) is not None:
        os.environ["CC"] = shlex.join([str(_QUICK), *cc])


def shipped() -> None:
    """Build as users do, from now on."""
    if shlex.split(os.environ.get("CC", ""))[:1] == [str(_QUICK)]:
        del os.environ["CC"]
