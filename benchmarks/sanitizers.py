"""Run the printed code of every cell under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m benchmarks.sanitizers              # all cells, both dtypes
    python -m benchmarks.sanitizers lstm gru     # some
    python -m benchmarks.sanitizers --races      # eight Python threads under ThreadSanitizer

Needs gcc with libasan, libubsan and libtsan. The first error stops the run, and is printed. Races
are looked for between Python threads whose kernels run on one thread each: how OpenMP's own threads
wait for each other, ThreadSanitizer cannot see.
"""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import steadygrad as sg
from steadygrad.cells import CELLS
from steadygrad.nn import Recurrent
from steadygrad.scan import BackendError, LoopClip
from steadygrad.scan.backends.c import build, threads

SHAPES = [(7, 3, 4, 5), (1, 3, 4, 5), (7, 1, 6, 5), (3, 2, 1, 1), (4, 5, 2, 33), (9, 14, 40, 17)]
"""T, B, I, H: one step, one row, one unit, and sizes that no vector divides."""

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
RACES = ("-fsanitize=thread", "-O1", "-g")
NOT_OURS = ("race:libtorch", "race:libc10", "race:ld-linux")
"""What the libraries around do with the memory of threads that end is no matter of the kernels."""
RACING = ("lstm", "gru", "elman", "lstm-peephole", "ind-rnn", "lru", "gru-layer-norm", "mgu")
ROUNDS = 20


def main(names: list[str]) -> int:
    """Start the checks in a process that has the sanitizer's library loaded first."""
    is_race = names == ["--races"]
    needed = ("libtsan.so",) if is_race else ("libasan.so", "libubsan.so")
    library = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in needed
    ]
    with tempfile.TemporaryDirectory() as cache:
        variables = {
            "LD_PRELOAD": " ".join(library),
            "ASAN_OPTIONS": "detect_leaks=0",  # what Python itself never frees
            "TSAN_OPTIONS": f"halt_on_error=1:exitcode=66:suppressions={cache}/not-ours",
            "STEADYGRAD_CACHE": cache,
            "CC": "gcc",
        }
        if is_race:
            Path(cache, "not-ours").write_text("\n".join(NOT_OURS) + "\n")
            variables["OMP_NUM_THREADS"] = "1"  # in every thread, where torch's own call counts one
        command = [sys.executable, "-m", "benchmarks.sanitizers", "--inside", *names]
        return subprocess.run(command, env=os.environ | variables, check=False).returncode


def inside(names: list[str]) -> None:
    """Build each cell with the sanitizers and run it."""
    _build_with(SANITIZE)
    for name in names or sorted(CELLS):
        for dtype in (torch.float32, torch.float64):
            ran = _cell(name, dtype)
            print(f"{name} {dtype}: {'clean' if ran else 'is not compiled'}", flush=True)


def races() -> None:
    """Let eight threads call one layer and one of their own each, forward and backward."""
    _build_with(RACES)
    torch.set_num_threads(1)
    shared = Recurrent("lstm", 5, 24, 2)
    layers = [Recurrent(name, 5, 24) for name in RACING]

    def work(index: int) -> None:
        x = torch.randn(40 + index, 16 + index, 5)
        for layer in (shared, layers[index]) * ROUNDS:
            given = x.clone().requires_grad_()
            loss = layer(given)[0].square().sum()
            torch.autograd.grad(loss, [given, *layer.parameters()], allow_unused=True)
            with torch.no_grad():
                layer(x)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(RACING))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(RACING)} Python threads, {2 * ROUNDS} calls each: no race", flush=True)


def _build_with(flags: tuple[str, ...]) -> None:
    build.FLAGS = tuple(flag for flag in build.FLAGS if not flag.startswith("-O")) + flags


def _cell(name: str, dtype: torch.dtype) -> bool:
    ways = ((1, 0), (2, 0), (2, 1))  # one thread, rows split, columns split, however small
    try:
        return all(_shapes(name, dtype, *way) for way in ways)
    except BackendError:  # its step cannot be printed
        return False


def _shapes(name: str, dtype: torch.dtype, count: int, columns: int) -> bool:
    torch.set_num_threads(count)
    cores = count * columns
    with mock.patch.multiple(threads, cores=lambda: cores, SMALL=0, MEETING=0, LARGE=0, ROWS=1000):
        for steps, batch, inputs, hidden in SHAPES:
            try:
                layer = Recurrent(
                    name, inputs, hidden, bidirectional=True, dtype=dtype, backend="c"
                )
            except ValueError:  # a cell may not take every number of units
                continue
            layer.on_tap = lambda *_: None
            x = torch.randn(steps, batch, inputs, dtype=dtype, requires_grad=True)
            rows = [torch.randn(1 + i % steps, inputs, dtype=dtype) for i in range(batch)]
            for given in (x, pack_sequence(rows, enforce_sorted=False)):
                for clip in (None, LoopClip(0.1, "norm", "preactivation"), LoopClip(0.1, "value")):
                    layer.loop_clip = clip
                    output = layer(given)[0]
                    output = output.data if isinstance(output, PackedSequence) else output
                    output.square().sum().backward()
                with torch.no_grad():
                    layer(given)
            layer(torch.randint(inputs, (steps, batch)))[0].sum().backward()
            stream = sg.Stream(Recurrent(name, inputs, hidden, dtype=dtype))
            for sample in x.detach():
                stream.push(sample)
    return True


if __name__ == "__main__":
    if sys.argv[1:] == ["--inside", "--races"]:
        races()
    elif sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
