"""From a C file to a loaded library: compiled once, cached on disk by what is in it.

Many processes may want the same cell at once: each compiles into a folder of its own and moves the
library into place in one step, so that no process loads half of one.
"""

import contextlib
import ctypes
import hashlib
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Source:
    """What a library is compiled from.

    Attributes:
        text: C source, of which each library may take a half.
        shared: Source of an object that every library is linked with, compiled once for all; none
            if empty.
    """

    text: str
    shared: str = ""


WHOLE, FORWARD, BACKWARD = 0, 1, 2
"""Halves of a text: what HALF is defined as."""
ENTRY = {
    WHOLE: "steadygrad_forward",
    FORWARD: "steadygrad_forward",
    BACKWARD: "steadygrad_backward",
}


def load(source: Source, *halves: int) -> list[ctypes.CDLL]:
    """Compile halves of a C source side by side, or find them compiled, and load them.

    Raises:
        BuildError: No compiler, or it failed.
    """
    cc = tool.compiler_or_raise()
    keys = [(source, half, cc) for half in halves]
    missing = [half for half, key in zip(halves, keys, strict=True) if key not in _loaded]
    if missing:
        found = _built(source, missing, cc)
        _loaded.update({(source, half, cc): library for half, library in found.items()})
    return [_loaded[key] for key in keys]


_loaded: dict[tuple[Source, int, Command], ctypes.CDLL] = {}
_objects: dict[str, bytes] = {}
"""What is shared, by its key: for a process without a folder of its own."""


def forget() -> None:
    """Load everything anew that is asked for from now on."""
    _loaded.clear()
    _objects.clear()


def _built(source: Source, halves: Sequence[int], cc: Command) -> dict[int, ctypes.CDLL]:
    found: dict[int, ctypes.CDLL] = {}
    where = cache.folder()
    given = {half: _arguments(half) for half in halves}
    keys = {half: _key(cc, source.text, source.shared, *given[half]) for half in halves}
    for half in halves:
        for path in cache.find(where, keys[half]) if where is not None else ():
            if (library := _opened(path, half)) is not None:
                found[half] = library
                break
    missing = [half for half in halves if half not in found]
    if not missing:
        return found
    with _workplace(where) as name:
        folder = Path(name)
        for half, built in _compiled(source, missing, cc, folder, where).items():
            library = None
            if where is not None:
                library = _placed(where, keys[half], built, half)
            # Else this process keeps a copy of its own, which needs no name once it is loaded.
            library = library or _opened(built, half)
            if library is None:
                raise BuildError(f"{tool.told(cc)} built a library that cannot be loaded here")
            found[half] = library
    return found


def _arguments(half: int) -> list[str]:
    return [f"-DHALF={half}"] if half else []


def _key(cc: Command, *parts: str) -> str:
    parts = (*parts, *flags(cc), *cc, tool.version(cc), _machine())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def flags(cc: Command) -> tuple[str, ...]:
    """What a compiler is called with; gcc is known by who it says has its copyright."""
    is_gcc = "Free Software Foundation" in tool.version(cc)
    return (*FLAGS, *GCC_FLAGS) if is_gcc else FLAGS


def _placed(where: Path, key: str, built: Path, half: int) -> ctypes.CDLL | None:
    """Load from the cache; None if it cannot be written, or libraries there cannot be run."""
    try:
        return _opened(cache.place(where, key, built.read_bytes()), half)
    except OSError:
        return None


def _opened(path: Path, half: int) -> ctypes.CDLL | None:
    """Load a library of ours; None if the system refuses, or it is none."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    return library if hasattr(library, ENTRY[half]) else None


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


def _compiled(
    source: Source, halves: Sequence[int], cc: Command, folder: Path, where: Path | None
) -> dict[int, Path]:
    """A library of each half: everything that is missing compiled side by side, then linked."""
    given = flags(cc)
    text, shared = folder / "cell.c", folder / "shared.c"
    objects = {folder / f"{half}.o": half for half in halves}
    calls = [
        [*given, "-c", *_arguments(half), "-o", str(to), str(text)] for to, half in objects.items()
    ]
    made = list(objects)
    key = _key(cc, source.shared, "shared")
    known = _known_object(key, where) if source.shared else None
    linked: list[Path] = []
    try:
        text.write_text(source.text)
        if source.shared:
            linked = [folder / "shared.o"]
            if known is not None:
                linked[0].write_bytes(known)
            else:
                shared.write_text(source.shared)
                calls.append([*given, "-c", "-o", str(linked[0]), str(shared)])
                made += linked
    except OSError as error:
        raise BuildError(f"{folder} cannot be written ({error.strerror})") from None
    tool.run(cc, calls, made)
    if source.shared and known is None:
        _keep_object(key, linked[0].read_bytes(), where)
    libraries = {half: folder / f"{half}.so" for half in halves}
    calls = [
        [*given, "-o", str(libraries[half]), str(made), *map(str, linked), "-lm"]
        for made, half in objects.items()
    ]
    tool.run(cc, calls, list(libraries.values()))
    return libraries


def _known_object(key: str, where: Path | None) -> bytes | None:
    if key not in _objects and where is not None:
        for path in cache.find(where, key, "o"):
            with contextlib.suppress(OSError):
                _objects[key] = path.read_bytes()
    return _objects.get(key)


def _keep_object(key: str, data: bytes, where: Path | None) -> None:
    _objects[key] = data
    if where is not None:
        with contextlib.suppress(OSError):
            cache.place(where, key, data, "o")


@lru_cache(maxsize=1)
def _machine() -> str:
    """What -march=native depends on: a home folder may be shared by unlike machines."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine() + platform.processor()
    kept = ("flags", "model name", "Features", "CPU part")
    return "".join(sorted({line for line in text.splitlines() if line.startswith(kept)}))
