"""From a C file to a loaded library: compiled once, cached on disk by what is in it.

Many processes may want the same cell at once: each compiles into a file of its own and moves it
into place in one step, so that nobody ever loads half a library.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

FLAGS = (
    # As fast as -O3 here, and built in two thirds of the time.
    "-O2", "-fvect-cost-model=dynamic", "-fpeel-loops",
    "-march=native", "-fPIC", "-shared", "-std=gnu11", "-fopenmp-simd",
    # Never -ffast-math: a NaN or an infinity has to come out where it went in. These three leave
    # values alone; they say that nobody looks at errno, traps or the sign of a rounded zero.
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip


class BuildError(Exception):
    """The system's C compiler is missing or refused; the message is one line."""


def compiler() -> str | None:
    """The C compiler: ``$CC``, or the first of cc, gcc, clang on the PATH."""
    return _compiler(os.environ.get("CC"), os.environ.get("PATH"))


@lru_cache(maxsize=8)
def _compiler(given: str | None, path: str | None) -> str | None:
    names = [given] if given else ["cc", "gcc", "clang"]
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def load(text: str) -> ctypes.CDLL:
    """Compile C source, or find it compiled, and load it.

    Raises:
        BuildError: No compiler, or it failed.
    """
    return _load(text, _compiler_or_raise())


def _compiler_or_raise() -> str:
    found = compiler()
    if found is None:
        raise BuildError("no C compiler (cc, gcc or clang) on the PATH, and none in $CC")
    return found


@lru_cache(maxsize=256)
def _load(text: str, cc: str) -> ctypes.CDLL:
    key = hashlib.sha256("\0".join([text, *FLAGS, _version(cc), _machine()]).encode()).hexdigest()
    path = _folder() / f"{key[:32]}.so"
    if path.exists():
        try:
            return _open(path)
        except OSError:  # damaged: built again below
            pass
    return _open(_build(text, cc, path))


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "steadygrad_forward"):
        raise OSError(f"{path} is no kernel of ours")
    return library


def _build(text: str, cc: str, path: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "cell.c", Path(folder) / "cell.so"
        source.write_text(text)
        halves = (1, 2) if "#if HALF" in text else (0,)
        objects = {str(Path(folder) / f"{half}.o"): f"-DHALF={half}" for half in halves}
        _run([[cc, *FLAGS, "-c", half, "-o", to, str(source)] for to, half in objects.items()])
        _run([[cc, *FLAGS, "-o", str(target), *objects, "-lm"]])
        try:
            return _place(target, path)
        except OSError:  # a cache that cannot be written: this process keeps its own copy
            own = Path(tempfile.mkdtemp(prefix="steadygrad-")) / path.name
            return Path(shutil.copy(target, own))


def _run(commands: list[list[str]]) -> None:
    """Run commands side by side; raise what the compiler says of the first that fails."""
    running = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
    said = [process.communicate()[1] for process in running]
    for process, command, errors in zip(running, commands, said, strict=True):
        if process.returncode:
            first = next((s for s in errors.splitlines() if "error" in s), errors)
            raise BuildError(f"{command[0]} failed: {first.strip()[:300]}")


def _place(built: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(built.read_bytes())
        Path(name).chmod(0o755)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _folder() -> Path:
    given = os.environ.get("STEADYGRAD_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(base) / "steadygrad" / "kernels"


@lru_cache(maxsize=8)
def _version(cc: str) -> str:
    return subprocess.run([cc, "--version"], capture_output=True, text=True, check=False).stdout


@lru_cache(maxsize=1)
def _machine() -> str:
    """What -march=native depends on: a home folder may be shared by unlike machines."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine() + platform.processor()
    kept = ("flags", "model name", "Features", "CPU part")
    return "".join(sorted({line for line in text.splitlines() if line.startswith(kept)}))
