"""What needs a process of its own: peak memory, and the first call with a cold cache."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import steadygrad as sg
from benchmarks.layers.custom_cells import cells

LONG = (10_000, 8, 8, 128)


def run(what: str, *words: str, env: dict[str, str] | None = None) -> Any:
    """Measure in a new process."""
    command = [sys.executable, "-m", "benchmarks.layers.apart", what, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | (env or {})
    )
    return json.loads(done.stdout.splitlines()[-1])


def first_calls() -> list[float]:
    """Seconds of the first training step of each cell, nothing compiled before."""
    with tempfile.TemporaryDirectory() as folder:
        return run("first", env={"STEADYGRAD_CACHE": folder})


def _peak() -> float:
    """MB of the process at most so far; the system's, not of a parent before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(s.split()[1]) for s in lines if s.startswith("VmHWM")) / 1024


def _memory(where: str, shape: tuple[int, ...], checkpoint: bool) -> dict[str, float]:
    """MB by which the peak of the process grows in a training step, and what the step keeps.

    ``own_mb`` is the growth without the output and its gradient, which any layer has.
    """
    steps, batch, inputs, hidden = shape
    options: dict[str, Any] = {"checkpoint": True} if checkpoint else {}
    layer = (sg if where == "ours" else nn).LSTM(inputs, hidden, **options)
    layer(torch.randn(2, 1, inputs))[0].sum().backward()
    x = torch.randn(steps, batch, inputs)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    before = _peak()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = layer(x)[0]
    for given in (x, output, *layer.parameters()):  # there anyway
        kept.pop(given.untyped_storage().data_ptr(), None)
    output[-1].sum().backward()
    grown, around = _peak() - before, 2 * output.untyped_storage().nbytes() / 2**20
    return {
        "peak_mb": grown,
        "own_mb": grown - around,
        "kept_mb": sum(kept.values()) / 2**20,
    }


def _first() -> list[float]:
    found = []
    for cell in cells():
        began = time.perf_counter()
        sg.Recurrent(cell, 128, 128)(torch.randn(100, 16, 128))[0].sum().backward()
        found.append(time.perf_counter() - began)
    return found


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    if sys.argv[1] == "first":
        print(json.dumps(_first()))
    else:
        shape = tuple(map(int, sys.argv[3].split(",")))
        print(json.dumps(_memory(sys.argv[2], shape, "checkpoint" in sys.argv)))
