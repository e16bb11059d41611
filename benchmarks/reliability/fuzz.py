"""Draw spoiled inputs for every reader, by number, and count what they must not do.

    python -m benchmarks.reliability fuzz --count 200000 [--start 0] [--only spec table]

Number n of a reader is always the same input, so that a defect can be drawn again alone. Draws run
in forks of this process, a few hundred each: a crash ends a fork, is counted with its number, and
the draws go on behind it.
"""

import collections
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tests.reliability.readers import Reader, Readers, limited

PER_FORK = 400
MEMORY = 12 << 30  # bytes of address space: more is a defect (MemoryError)


def main(count: int, start: int, only: Sequence[str], keep_on: float, show: int) -> int:
    """Make ``count`` draws over all readers; print a line each; 0 if there was no defect."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    end = time.monotonic() + keep_on
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # no fsync to wait for
    total = defects = 0
    with tempfile.TemporaryDirectory(prefix="steadygrad-fuzz-", dir=in_memory) as name:
        readers = [r for r in Readers(Path(name)).all() if not only or r.name in only]
        whole = sum(r.share for r in readers)
        for reader in readers:
            wanted = max(1, round(count * reader.share / whole))
            began, done = time.process_time(), 0
            waited = _children_time()
            found: collections.Counter[str] = collections.Counter()
            while done < wanted and time.monotonic() < end:
                more = min(PER_FORK, wanted - done)
                done += _forked(reader, start + done, more, found)
            seconds = time.process_time() - began + _children_time() - waited
            total, defects = total + done, defects + sum(found.values())
            print(
                f"{reader.name:30} {done:7} drawn, {sum(found.values()):5} defects,"
                f" {1e3 * seconds / max(done, 1):7.2f} ms each",
                flush=True,
            )
            for text, times in found.most_common(show):
                print(f"    {times} x {text}", flush=True)
    print(f"{total} inputs from number {start} on: {defects} defects")
    return int(defects > 0)


def _children_time() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _forked(reader: Reader, first: int, count: int, found: "collections.Counter[str]") -> int:
    """Draw in a fork; how many were drawn, the one that ended the fork included."""
    place = mmap.mmap(-1, 8)
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inside)
        _draw(reader, range(first, first + count), place, lambda text: _tell(outside, text))
        os._exit(0)
    os.close(outside)
    with os.fdopen(inside, "rb") as told:
        for line in told:
            found[line.decode(errors="replace").rstrip()] += 1
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    done = int.from_bytes(place[:8], "little")
    if code:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        found[f"{name} at number {first + done}"] += 1
        return done + 1
    return count


def _tell(to: int, text: str) -> None:
    os.write(to, text.replace("\n", " ").encode(errors="replace") + b"\n")


def _draw(reader: Reader, numbers: range, place: mmap.mmap, tell: Callable[[str], None]) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for done, number in enumerate(numbers):
        place[:8] = done.to_bytes(8, "little")
        try:
            with limited():
                reader.draw(random.Random(f"{reader.name} {number}"))
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "/steadygrad/" in f.filename] or frames
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            tell(
                f"{type(error).__name__} in {where}: {str(error)[:150]} (such as {number})"
                if os.environ.get("FUZZ_NUMBERS")
                else f"{type(error).__name__} in {where}"
            )
