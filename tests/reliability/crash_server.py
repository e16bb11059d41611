"""A process that has everything loaded, and forks off one training after the other.

Each is armed: at the n-th thing that it does to a file of its run it is killed, or the disk
refuses. A fork costs some milliseconds where a start with all imports costs seconds.
"""

import contextlib
import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODES = {"none": 1, "kill": 2, "full": 3, "broken": 4}
TRACEBACK = 99  # exit code of a training that ended with an exception that nobody caught
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Args:
        code: Its exit code; minus the number of the signal that ended it.
        done: What it did to files of its run.
        said: Its standard error.
    """

    code: int
    done: int
    said: str


class CrashServer:
    """The process, for as long as the context is open.

    Args:
        folder: Where the shim is built.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shim = folder / "shim.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", shim, HERE / "shim.c", "-ldl"], check=True
        )
        env = os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(shim)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def __enter__(self) -> "CrashServer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def warm_up(self, arguments: Sequence[str]) -> None:
        """Run a command in the process itself, so that each fork has all of it loaded."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps({"warm": list(arguments)}), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "0\n"

    def run(
        self,
        arguments: Sequence[str],
        root: Path,
        mode: str = "none",
        at: int = -1,
        log: Path | None = None,
    ) -> Ended:
        """Run a command of steadygrad in a fork; ``root`` is the folder whose files count."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"arguments": list(arguments), "root": str(root), "mode": MODES[mode], "at": at}
        order["log"] = None if log is None else str(log)
        order["said"] = str(self.folder / "said")
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the server itself has ended"
        found = json.loads(answer)
        return Ended(found["code"], found["done"], (self.folder / "said").read_text())


def serve(shim: str) -> None:
    """Take orders, a line of JSON each, until there are no more."""
    import torch

    from steadygrad.cli import main

    library = ctypes.CDLL(shim)
    library.shim_done.restype = ctypes.c_long
    library.shim_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int)
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        if "warm" in order:
            with contextlib.redirect_stdout(io.StringIO()):
                answer: object = main(order["warm"])
        else:
            answer = _forked(order, library, main)
        print(json.dumps(answer), flush=True)


def _forked(order: dict[str, Any], library: ctypes.CDLL, main: Any) -> dict[str, int]:
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        code = TRACEBACK
        said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(said, 2)
        os.dup2(nowhere, 1)
        try:
            log = -1
            if order["log"]:
                log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            library.shim_arm(order["root"].encode(), order["mode"], order["at"], log)
            code = main(order["arguments"])
        except BaseException:
            traceback.print_exc()
        finally:
            done = library.shim_done()
            library.shim_arm(b"/nowhere", 0, -1, -1)
            sys.stderr.flush()
            os.write(outside, str(done).encode())
            os._exit(code)
    os.close(outside)
    _, status = os.waitpid(child, 0)
    done = os.read(inside, 32)
    os.close(inside)
    return {"code": os.waitstatus_to_exitcode(status), "done": int(done or b"-1")}


@dataclass(frozen=True)
class Operation:
    """One operation of a log: create, write, truncate, sync, rename or unlink."""

    what: str
    path: str
    to: str
    at: int
    data: bytes


def read_log(path: Path) -> list[Operation]:
    """The operations that a training was seen to do."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        end = data.index(b"\n", place)
        what, name, to, at, size = data[place:end].decode().split("\t")
        place = end + 1 + int(size)
        found.append(Operation(what, name, to, int(at), data[end + 1 : place]))
    return found


def after_power_cut(operations: Sequence[Operation], root: Path, *, moves: bool) -> None:
    """Make below ``root`` what the disk holds if the power fails after these operations.

    What was written and not synced is lost. Of names (made, moved, removed) either those that were
    synced with their folder are there, or all of them, as a file system may write them first.

    Args:
        operations: Everything until the power failed.
        root: A folder; what is in it is replaced.
        moves: Whether names count that were not synced.
    """
    content: list[bytearray] = []  # by number of the file
    synced: list[bytes] = []
    names: dict[str, int] = {}
    kept: dict[str, int] = {}
    for each in operations:
        if each.what == "create":
            names[each.path] = len(content)
            content.append(bytearray())
            synced.append(b"")
        elif each.what == "rename":
            names[each.to] = names.pop(each.path)
        elif each.what == "unlink":
            names.pop(each.path, None)
        elif each.what == "sync" and each.path in names:
            synced[names[each.path]] = bytes(content[names[each.path]])
        elif each.what == "sync":  # of the folder
            kept = dict(names)
        elif each.path in names:
            file = content[names[each.path]]
            if each.what == "truncate":
                del file[each.at :]
                file.extend(bytes(each.at - len(file)))
            else:
                file.extend(bytes(max(0, each.at - len(file))))
                file[each.at : each.at + len(each.data)] = each.data
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name, number in (names if moves else kept).items():
        if not name.endswith("-shm"):  # shared memory alone
            Path(name).write_bytes(synced[number])


if __name__ == "__main__":
    serve(sys.argv[1])
