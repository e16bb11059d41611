"""Processes that begin with torch imported: forks of one process that has done nothing else.

A new Python takes four seconds of a core to import torch and what its optimisers import; a fork of
one that has them, a twentieth. Nothing of this package is imported before the fork, so a child may
take it from elsewhere, and all that the package does at its first import is done in the child.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

FIRST = ("numpy", "pandas", "torch", "torch._dynamo", "torch.distributed")
"""Imported before the fork; one that is not installed is left out."""


_CONTEXT = multiprocessing.get_context("forkserver")


def context() -> ForkServerContext:
    """Of multiprocessing: its processes are forks of one that has imported `FIRST`."""
    _CONTEXT.set_forkserver_preload(list(FIRST))
    return _CONTEXT


class Python:
    """A process that runs Python, as `subprocess.Popen` has it.

    Args:
        command: ``-c CODE``, ``-m MODULE`` or a file, and what it is given.
        cwd: Its folder; this one's if None.
        env: Its environment; this one's if None.
    """

    def __init__(
        self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.args = command
        given = dict(os.environ if env is None else env), str(cwd or Path.cwd())
        ends = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self._process = context().Process(
            target=_run, args=(command, *given, *(writer for _, writer in ends))
        )
        self._process.start()
        for _, writer in ends:
            writer.close()
        self.stdout, self.stderr = (_text(reader) for reader, _ in ends)
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = 300) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = 300) -> tuple[str, str]:
        """What it still writes, errors after output: no more than a pipe holds of them."""
        with self.stdout, self.stderr:
            said = self.stdout.read(), self.stderr.read()
        self.wait(timeout)
        return said


def python(
    *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python to its end, as `subprocess.run` does with both outputs captured."""
    process = Python(*command, cwd=cwd, env=env)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.wait(), output, errors)


def spread(count: int, work: Callable[..., object], *args: object) -> None:
    """Run ``work(rank, *args)`` in so many processes at once; all have to end well."""
    processes = [context().Process(target=work, args=(rank, *args)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _text(reader: Connection) -> IO[str]:
    file = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
    reader.close()
    return file


def _run(
    command: tuple[str, ...], env: dict[str, str], cwd: str, out: Connection, err: Connection
) -> None:
    """Become what a new Python with ``command`` is, but for what is imported."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, end in ((1, out), (2, err)):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)
    if "OMP_NUM_THREADS" in env and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(env["OMP_NUM_THREADS"]))
    # That of pytest may hold the sources that a child is meant to take from elsewhere.
    sys.path[:0] = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    kind, *rest = command
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    try:
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.path.insert(0, "")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        elif kind == "-m":
            sys.argv = rest
            sys.path.insert(0, "")
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            sys.path.insert(0, str(Path(kind).parent))
            runpy.run_path(kind, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
