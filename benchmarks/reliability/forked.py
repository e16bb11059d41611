"""Run a command in a fork of this process, which has everything imported, and kill it or not.

A fork takes some milliseconds, where a start with all imports takes seconds.
"""

import os
import random
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TRACEBACK = 99  # exit code of a command that ended with an exception that nobody caught
HANGS = 300.0  # seconds after which a command counts as hanging
AGENT = 10.0
"""Seconds after which the peers of a killed process are killed as well, as torchrun's agent does.

One that was still waiting for the killed process to join waits for torch's 30 minutes otherwise.
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        codes: Exit codes, one for each process; minus the number of the signal that ended it.
        said: Standard error of all processes.
        seconds: From the fork to the end of the last process.
        was_killed: Whether a process was still running when its time had come.
    """

    codes: tuple[int, ...]
    said: str
    seconds: float
    was_killed: bool


def run(
    arguments: Sequence[str],
    *,
    processes: int = 1,
    kill_after: float | None = None,
    whom: random.Random | None = None,
) -> Ended:
    """Run a command of steadygrad in forks, and wait for its end.

    Args:
        arguments: The command.
        processes: How many processes train together, as torchrun starts them.
        kill_after: Seconds after which a process is killed; None for never.
        whom: Draws which process, its workers included; the first one if None.
    """
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    environments: list[Mapping[str, str]] = [{}]
    if processes > 1:
        environments = [
            {**shared, "RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(processes)}
            for r in range(processes)
        ]
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        children = [_fork(arguments, environment, said.fileno()) for environment in environments]
        codes, was_killed = _waited(children, kill_after, whom)
        seconds = time.monotonic() - began
        said.seek(0)
        return Ended(codes, said.read().decode(errors="replace"), seconds, was_killed)


def _fork(arguments: Sequence[str], environment: Mapping[str, str], said: int) -> int:
    child = os.fork()
    if child:
        return child
    code = TRACEBACK
    try:
        os.setpgid(0, 0)  # so that workers can be ended with it
        os.environ.update(environment)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from steadygrad.cli import main

        code = main(list(arguments))
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _waited(
    children: Sequence[int], kill_after: float | None, whom: random.Random | None
) -> tuple[tuple[int, ...], bool]:
    codes: dict[int, int] = {}
    began, was_killed = time.monotonic(), False
    try:
        while len(codes) < len(children):
            for child in children:
                if child not in codes:
                    found, status = os.waitpid(child, os.WNOHANG)
                    if found:
                        codes[child] = os.waitstatus_to_exitcode(status)
            now = time.monotonic() - began
            if kill_after is not None and now >= kill_after and not was_killed:
                was_killed = _kill_one([c for c in children if c not in codes], whom)
                kill_after = kill_after if was_killed else None
            has_peers = len(children) > 1
            if has_peers and was_killed and kill_after and now >= kill_after + AGENT:
                _kill_all(children)
            if now > HANGS:
                raise TimeoutError(f"still running after {HANGS:.0f} seconds")
            time.sleep(0.0005 if kill_after and kill_after - now < 0.01 else 0.002)
    finally:
        _kill_all(children)  # workers that outlive their parent, and what hangs
        for child in children:
            if child not in codes:
                with suppress(ChildProcessError):
                    os.waitpid(child, 0)
    return tuple(codes[child] for child in children), was_killed


def _kill_all(children: Sequence[int]) -> None:
    for child in children:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)


def _kill_one(running: Sequence[int], whom: random.Random | None) -> bool:
    if not running:
        return False
    candidates = [*running, *(w for child in running for w in _children(child))]
    chosen = candidates[0] if whom is None else whom.choice(candidates)
    with suppress(ProcessLookupError):
        os.kill(chosen, signal.SIGKILL)
    return True


def _children(process: int) -> list[int]:
    try:
        told = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in told.split()]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
