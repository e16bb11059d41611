"""The system's C compiler: found, asked for its version, and run within a limit of time."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

LIMIT = 300.0  # seconds that a kernel may take to compile; the largest takes a few
LIMIT_VARIABLE = "STEADYGRAD_CC_SECONDS"
_ANSWER = 30.0  # seconds within which a compiler says what it is
_LONGEST = 300  # characters of what it says that are shown

Command = tuple[str, ...]


class BuildError(Exception):
    """The system's C compiler is missing or refused; the message is one line."""


def compiler() -> Command | None:
    """The C compiler: ``$CC``, or the first of cc, gcc, clang on the PATH; None without one.

    ``$CC`` may hold several words, split as a shell does: ``ccache gcc``.
    """
    try:
        return _found(os.environ.get("CC"), os.environ.get("PATH"))
    except BuildError:
        return None


def compiler_or_raise() -> Command:
    """As `compiler`.

    Raises:
        BuildError: There is none; the message says what was looked for.
    """
    found = _found(os.environ.get("CC"), os.environ.get("PATH"))
    if found is None:
        raise BuildError("no C compiler (cc, gcc or clang) on the PATH, and none in $CC")
    return found


@lru_cache(maxsize=8)
def _found(given: str | None, path: str | None) -> Command | None:
    if not given or not given.strip():
        names = (shutil.which(name, path=path) for name in ("cc", "gcc", "clang"))
        return next(((name,) for name in names if name), None)
    try:
        first, *rest = shlex.split(given)
    except ValueError as error:
        raise BuildError(f"$CC is {given!r:.80}: {error}") from None
    program = shutil.which(first, path=path)
    if program is None:
        raise BuildError(f"$CC is {given!r:.80}: no program {first!r:.80} on the PATH")
    return (program, *rest)


@lru_cache(maxsize=8)
def version(cc: Command) -> str:
    """What the compiler says of itself.

    Raises:
        BuildError: It cannot be started, or does not answer.
    """
    try:
        return subprocess.run(
            [*cc, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_ANSWER,
        ).stdout
    except subprocess.TimeoutExpired:
        raise BuildError(f"{told(cc)} --version did not answer in {_ANSWER:.0f} s") from None
    except OSError as error:
        raise BuildError(f"{told(cc)} cannot be started ({error.strerror})") from None


def told(cc: Command) -> str:
    """The compiler as a message names it."""
    return shlex.join(cc)[:_LONGEST]


def run(cc: Command, calls: Sequence[Sequence[str]], made: Sequence[Path]) -> None:
    """Call the compiler side by side, once with each list of arguments.

    Args:
        cc: The compiler.
        calls: Arguments of each call.
        made: Files that must be there afterwards.

    Raises:
        BuildError: What the compiler says of the first that fails; that it took too long, and was
            ended with all that it had started; or that it wrote nothing.
    """
    until = time.monotonic() + _limit()
    running: list[subprocess.Popen[str]] = []
    try:
        for call in calls:
            running.append(_started([*cc, *call]))
        said = [p.communicate(timeout=max(0.0, until - time.monotonic()))[1] for p in running]
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"{told(cc)} was still compiling after {_limit():.0f} s ({LIMIT_VARIABLE})"
        ) from None
    except OSError as error:
        raise BuildError(f"{told(cc)} cannot be started ({error.strerror})") from None
    finally:
        for process in running:
            _end(process)
    for process, errors in zip(running, said, strict=True):
        if process.returncode:
            first = next((s for s in errors.splitlines() if "error" in s), errors)
            why = first.strip()[:_LONGEST] or f"exit code {process.returncode}"
            raise BuildError(f"{told(cc)} failed: {why}")
    if not all(path.is_file() for path in made):
        raise BuildError(f"{told(cc)} wrote no file: it is no C compiler")


def _limit() -> float:
    try:
        given = float(os.environ.get(LIMIT_VARIABLE, LIMIT))
    except ValueError:
        return LIMIT
    return given if 0 < given < 1e6 else LIMIT


def _started(command: list[str]) -> "subprocess.Popen[str]":
    # A group of its own, so that what a wrapper has started can be ended with it.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=os.name == "posix",
    )


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
