"""Training under torchrun, on the CPU: two processes that share each batch train as one.

The oracle is the same run in one process.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist

from steadygrad.record import read
from steadygrad.train import TrainConfig, checkpoint, train
from steadygrad.train.loop import Loop
from tests.helpers import forked

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")

STEPS = 6
# Trains, and keeps the weights after every step; it may end itself at a step, in one process.
SCRIPT = """
import json, os, pickle, signal, sys
from pathlib import Path
from steadygrad.train import TrainConfig, train
from steadygrad.train.loop import Loop

options, end_at = json.loads(sys.argv[1]), int(sys.argv[2])
for name in ("file", "out"):
    options[name] = Path(options[name])
rank, seen, step = os.environ["RANK"], [], Loop._step

def watched(self, *args):
    if self.progress.step == end_at and rank == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    done = step(self, *args)
    seen.append({n: t.clone() for n, t in self.model.state_dict().items()})
    return done

Loop._step = watched
outcome = train(TrainConfig(**options))
Path(options["out"]).with_suffix(f".{rank}").write_bytes(pickle.dumps((seen, outcome)))
"""


def wave(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    values = [f"{np.sin(i / 5) + 0.1 * rng.normal():.4f}" for i in range(200)]
    for i in range(40, 200, 17):
        values[i] = ""  # shares of a batch hold unequally many targets
    path = folder / "wave.csv"
    path.write_text("\n".join(["x,y", *(f"{np.cos(i / 5):.3f},{v}" for i, v in enumerate(values))]))
    return path


def book(folder: Path) -> Path:
    path = folder / "book.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("abcde "), 4000)))
    return path


def config(file: Path, out: Path, **options: Any) -> TrainConfig:
    plain: dict[str, Any] = {
        "hidden": 8,
        "layers": 2,
        "window": 10,
        "horizon": 2 if file.suffix == ".csv" else None,
        "batch_size": 7,  # odd: one process has a row more
        "max_steps": STEPS,
        "validate_every": 3,
        "budget": 1.0,
        "threads": 1,
    }
    return TrainConfig(file, out=out, **(plain | options))


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_NCCL_DUMP_ON_TIMEOUT": "0"}


def torchrun(*command: str) -> "subprocess.Popen[str]":
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*launcher, "--nproc-per-node=2", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def spread(options: TrainConfig, folder: Path, end_at: int = -1) -> "subprocess.Popen[str]":
    return torchrun(*script(options, folder, end_at))


def script(options: TrainConfig, folder: Path, end_at: int = -1) -> tuple[str, str, str]:
    """What Python is called with."""
    path = folder / "script.py"
    path.write_text(SCRIPT)
    plain = {n: v for n, v in vars(options).items() if n not in ("file", "out", "reading")}
    given = plain | {"file": str(options.file), "out": str(options.out)}
    return str(path), json.dumps(given), str(end_at)


def together(options: TrainConfig, folder: Path) -> None:
    """As `spread`, to the end, without the launcher, which tells each process its rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    command = script(options, folder)
    processes = [forked.Python(*command, env=environment() | shared | names) for names in own]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said


def finish(process: "subprocess.Popen[str]") -> tuple[str, str]:
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said[1]
    return said


def alone(options: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    seen: list[dict[str, torch.Tensor]] = []
    step = Loop._step

    def watched(self: Loop, *args: Any) -> bool:
        done = step(self, *args)
        seen.append({n: t.clone() for n, t in self.model.state_dict().items()})
        return done

    monkeypatch.setattr(Loop, "_step", watched)
    assert train(options).status == "finished"
    return seen


HARD = {
    "penalties": {"remedies": ("soft-orthogonal", "norm-stabiliser:beta=0.1", "recurrent-decay")},
    "omega": {"remedies": ("omega",), "cell": "elman"},
    "clips": {"remedies": ("auto-clip:percentile=50", "skip-spike:warmup=2"), "clip": 0.05},
    "epochs": {"epochs": 2, "batch_size": 51},  # the last batch has fewer rows
}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        pytest.param(wave, {}, id="forecast"),
        pytest.param(book, {}, id="text", marks=pytest.mark.slow),
        *(pytest.param(wave, o, id=n, marks=pytest.mark.slow) for n, o in HARD.items()),
    ],
)
def test_two_processes_take_the_steps_of_one(
    make: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = config(make(tmp_path), tmp_path / "two", **options)
    together(ours, tmp_path)
    wanted = alone(replace(ours, out=tmp_path / "one"), monkeypatch)
    outcomes = []
    for rank in range(2):
        weights, outcome = pickle.loads((tmp_path / f"two.{rank}").read_bytes())
        outcomes.append(outcome)
        torch.testing.assert_close(weights, wanted, rtol=1e-5, atol=1e-5)
    assert outcomes[0].scores == outcomes[1].scores
    assert outcomes[0].findings == outcomes[1].findings
    with read(tmp_path / "two" / "run.db") as run, read(tmp_path / "one" / "run.db") as plain:
        for name in ("loss", "val_loss", "grad_norm", "grad_norm_clipped"):
            steps, values = run.scalars(name)
            expected_steps, expected = plain.scalars(name)
            np.testing.assert_array_equal(steps, expected_steps)
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6, err_msg=name)
        assert len(run.scalars("loss")[0]) == len(wanted)
        layers = [layer["name"] for layer in plain.notes["layers"]]
        assert layers and [layer["name"] for layer in run.notes["layers"]] == layers
        for layer in layers:  # the gradient at every time step, at every step of the training
            found, expected_rows = (r.rows("log10_grad", layer) for r in (run, plain))
            np.testing.assert_array_equal(found[0], expected_rows[0])
            np.testing.assert_allclose(found[1], expected_rows[1], atol=0.01)
        assert run.notes["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_is_told_and_the_run_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = config(book(tmp_path), tmp_path / "two", checkpoint_every_seconds=1e-6)
    process = spread(options, tmp_path, end_at=4)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "another process of this training died" in errors
    assert "the last checkpoint is of step 4: the same command with --resume" in errors
    assert checkpoint.read(tmp_path / "two/checkpoint.safetensors").facts["progress"]["step"] == 4
    finish(spread(replace(options, resume=True), tmp_path))
    finish(spread(replace(options, out=tmp_path / "whole"), tmp_path))
    ends = [load_file(tmp_path / name / "checkpoint.safetensors") for name in ("two", "whole")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)  # bit for bit, state and random states too
    assert {"rng/cpu", "rng1/cpu"} <= ends[0].keys()


@pytest.mark.slow
def test_an_interrupt_stops_all_and_one_process_may_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = config(book(tmp_path), tmp_path / "two", max_steps=100_000, patience=10_000)
    options = replace(options, checkpoint_every_seconds=1e-6)
    process = spread(options, tmp_path)
    path = tmp_path / "two/checkpoint.safetensors"
    deadline = time.monotonic() + 200
    while not (path.exists() and checkpoint.read(path).facts["progress"]["step"] > 3):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # torchrun hands it on
    _, errors = process.communicate(timeout=120)
    # torchrun waits 30 s for what does not end by itself, and kills it then.
    assert "closing signal SIGINT" in errors and "forcefully" not in errors, errors
    saved = checkpoint.read(path).facts["progress"]["step"]
    with read(tmp_path / "two/run.db") as run:
        assert [e["step"] for e in run.events() if e["kind"] == "interrupted"] == [saved]
    last = train(replace(options, resume=True, max_steps=saved + 3))
    assert last.status == "finished" and last.step == saved + 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere.csv",), "steadygrad: nowhere.csv: "),
        (("{file}", "--remedies", "flossing"), "it needs the full batch, which"),
        (("{file}", "--no-such-option"), "no-such-option"),
        (("{file}", "--batch-size", "1", "--out", "/proc/none"), "nothing can be written there"),
    ],
)
def test_bad_input_is_said_once(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    file = str(wave(tmp_path))
    given = [o.format(file=file) for o in options]
    given += [] if "--out" in given else ["--out", str(tmp_path / "run")]
    process = torchrun("-m", "steadygrad.cli", "train", *given)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    said = " ".join((output + errors).replace("│", " ").split())
    assert said.count(message) == 1, said


@pytest.mark.slow
def test_the_command_line_prints_once(tmp_path: Path) -> None:
    given = [str(wave(tmp_path)), "--max-steps", "3", "--out", str(tmp_path / "run"), "--json"]
    output, _ = finish(torchrun("-m", "steadygrad.cli", "train", *given, "--repair"))
    assert json.loads(output)["status"] == "finished"


EVERY_CELL = """
import os, sys
from pathlib import Path
from steadygrad.cells import CELLS
from steadygrad.train import TrainConfig, train
file, out = map(Path, sys.argv[1:])
for cell in CELLS:
    train(TrainConfig(file, cell=cell, window=6, horizon=1, hidden=8, batch_size=4, max_steps=2,
                      out=out / cell, threads=1))
print("done", len(CELLS))
"""


@pytest.mark.slow
def test_every_cell_trains_in_two_processes(tmp_path: Path) -> None:
    """Each parameter of a cell has a gradient at every step, as DDP asks."""
    script = tmp_path / "cells.py"
    script.write_text(EVERY_CELL)
    output, _ = finish(torchrun(str(script), str(wave(tmp_path)), str(tmp_path / "runs")))
    assert output.count("done") == 2
