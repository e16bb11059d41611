"""From a C file to a loaded library: compiled once, cached on disk by what is in it.

Many processes may want the same cell at once: each compiles into a folder of its own and moves the
library into place in one step, so that nobody ever loads half of one.
"""

import ctypes
import hashlib
import platform
import tempfile
from functools import lru_cache
from pathlib import Path

from steadygrad.scan.backends.c import cache
from steadygrad.scan.backends.c import compiler as tool
from steadygrad.scan.backends.c.compiler import BuildError, Command

compiler = tool.compiler

FLAGS = (
    "-O2", "-march=native", "-fPIC", "-shared", "-std=gnu11", "-fopenmp-simd",
    # Never -ffast-math: a NaN or an infinity has to come out where it went in. These three leave
    # values alone; they say that nobody looks at errno, traps or the sign of a rounded zero.
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip
GCC_FLAGS = ("-fvect-cost-model=dynamic", "-fpeel-loops")
"""With them gcc's -O2 is as fast as -O3, and done in two thirds of the time; clang refuses them."""
ENTRY = "steadygrad_forward"


def load(text: str) -> ctypes.CDLL:
    """Compile C source, or find it compiled, and load it.

    Raises:
        BuildError: No compiler, or it failed.
    """
    return _load(text, tool.compiler_or_raise())


@lru_cache(maxsize=256)
def _load(text: str, cc: Command) -> ctypes.CDLL:
    parts = [text, *flags(cc), *cc, tool.version(cc), _machine()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    where = cache.folder()
    if where is not None:
        for path in cache.find(where, key):
            if (library := _opened(path)) is not None:
                return library
    with _workplace(where) as folder:
        built = _build(text, cc, Path(folder))
        if where is not None and (library := _placed(where, key, built)) is not None:
            return library
        # This process keeps a copy of its own, which no longer needs its name once it is loaded.
        if (library := _opened(built)) is not None:
            return library
    raise BuildError(f"{tool.told(cc)} built a library that cannot be loaded here")


def flags(cc: Command) -> tuple[str, ...]:
    """What a compiler is called with; gcc is known by who it says has its copyright."""
    is_gcc = "Free Software Foundation" in tool.version(cc)
    return (*FLAGS, *GCC_FLAGS) if is_gcc else FLAGS


def _placed(where: Path, key: str, built: Path) -> ctypes.CDLL | None:
    """Load from the cache; None if it cannot be written, or libraries there cannot be run."""
    try:
        return _opened(cache.place(where, key, built.read_bytes()))
    except OSError:
        return None


def _opened(path: Path) -> ctypes.CDLL | None:
    """Load a library of ours; None if the system refuses, or it is none."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    return library if hasattr(library, ENTRY) else None


def _workplace(where: Path | None) -> "tempfile.TemporaryDirectory[str]":
    """A new folder of this user's alone, gone afterwards.

    Raises:
        BuildError: There is no place to make one in.
    """
    last: OSError | None = None
    for parent in (None, where):
        try:
            return tempfile.TemporaryDirectory(prefix="steadygrad-", dir=parent)
        except OSError as error:
            last = error
    raise BuildError(f"no place to compile in: {last}")


def _build(text: str, cc: Command, folder: Path) -> Path:
    source, target = folder / "cell.c", folder / "cell.so"
    halves = (1, 2) if "#if HALF" in text else (0,)
    objects = {folder / f"{half}.o": f"-DHALF={half}" for half in halves}
    try:
        source.write_text(text)
    except OSError as error:
        raise BuildError(f"{folder} cannot be written ({error.strerror})") from None
    given = flags(cc)
    calls = [[*given, "-c", half, "-o", str(to), str(source)] for to, half in objects.items()]
    tool.run(cc, calls, list(objects))
    tool.run(cc, [[*given, "-o", str(target), *map(str, objects), "-lm"]], [target])
    return target


@lru_cache(maxsize=1)
def _machine() -> str:
    """What -march=native depends on: a home folder may be shared by unlike machines."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine() + platform.processor()
    kept = ("flags", "model name", "Features", "CPU part")
    return "".join(sorted({line for line in text.splitlines() if line.startswith(kept)}))
