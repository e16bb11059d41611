"""Flip every single bit of a checkpoint, of a model and of a cached kernel.

    python -m benchmarks.reliability flips [--every 1]

Each flipped file is given to its reader, which must refuse it, or for the kernel not find it. With
``--every n`` only each n-th bit, from a start that changes with n.
"""

import contextlib
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from benchmarks.reliability.kills import SHORT, write_data
from steadygrad.cli import main as cli
from steadygrad.deploy.loading import load
from steadygrad.errors import InputError
from steadygrad.nn import Recurrent
from steadygrad.scan.backends.c import cache
from steadygrad.train import checkpoint

Noticed = Callable[[Path], bool]


def main(every: int) -> int:
    """Flip the bits; print a line for each file; 0 if all were noticed."""
    torch.set_num_threads(1)
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    missed = 0
    with tempfile.TemporaryDirectory(prefix="steadygrad-flips-", dir=in_memory) as name:
        folder = Path(name)
        write_data(folder)
        options = ["--window", "3", "--horizon", "1", "--max-steps", "1", "--lag", "none", *SHORT]
        out = folder / "out"
        with contextlib.redirect_stdout(io.StringIO()):
            cli(["train", str(folder / "wave.csv"), "--out", str(out), "--cell", "elman", *options])
        missed += _flip(
            "checkpoint", out / "checkpoint.safetensors", every, _refused(checkpoint.read)
        )
        missed += _flip("model", out / "model.safetensors", every, _refused(load))
        missed += _flip("cached kernel", _kernel(folder), every, _not_found)
    return int(missed > 0)


def _refused(read: Callable[[Path], object]) -> Noticed:
    def noticed(path: Path) -> bool:
        try:
            read(path)
        except InputError:
            return True
        return False

    return noticed


KEY = "0" * 64


def _kernel(folder: Path) -> Path:
    """A kernel as it is compiled, kept where no process has it loaded."""
    compiled, kept = folder / "compiled", folder / "kept"
    compiled.mkdir(mode=0o700)
    kept.mkdir(mode=0o700)
    with mock.patch.dict(os.environ, {cache.VARIABLE: str(compiled)}):
        Recurrent("irnn", 3, 4, backend="c")(torch.randn(5, 2, 3))[0].sum().backward()
    smallest = min(compiled.glob("*.so"), key=lambda path: path.stat().st_size)
    return cache.place(kept, KEY, smallest.read_bytes())


def _not_found(path: Path) -> bool:
    return not any(cache.find(path.parent, KEY))


def _flip(name: str, path: Path, every: int, noticed: Noticed) -> int:
    data = bytearray(path.read_bytes())
    bits = range(hashlib.sha256(name.encode()).digest()[0] % every, 8 * len(data), every)
    mode = path.stat().st_mode
    began, missed = time.process_time(), []
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        path.chmod(mode)
        if not noticed(path):
            missed.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    path.chmod(mode)
    if noticed(path):
        raise AssertionError(f"{name}: refused without a flipped bit")
    seconds = time.process_time() - began
    print(
        f"{name:14} {len(data):8} bytes, {len(bits):8} bits flipped, {len(missed)} not noticed,"
        f" {1e6 * seconds / len(bits):.0f} us each{f': {missed[:5]}' if missed else ''}",
        flush=True,
    )
    return len(missed)
