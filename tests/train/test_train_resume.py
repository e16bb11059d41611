"""A run that is stopped or killed at any moment ends as one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steadygrad.errors import InputError
from steadygrad.record import Record, read
from steadygrad.train import Outcome, TrainConfig, checkpoint, train
from steadygrad.train.events import Event, Saved, Stepped
from steadygrad.train.model_file import read_model

STEPS = 60
SCRIPT = """
import sys
from pathlib import Path
import torch
from steadygrad.train import TrainConfig, train
file, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
train(TrainConfig(file, kind=file.stem, hidden=8, batch_size=4, max_steps=60, validate_every=10,
                  patience=99, layers=2, dropout=0.3, window=8,
                  remedies=("auto-clip:percentile=50",), threads=1, out=out, resume=True,
                  checkpoint_every_seconds=1e-6))
print("done")
"""


def config(file: Path, out: Path, *, resume: bool = False, overwrite: bool = False) -> TrainConfig:
    return TrainConfig(
        file,
        kind="forecast" if file.stem == "forecast" else "text",
        hidden=8,
        batch_size=4,
        max_steps=STEPS,
        validate_every=10,
        patience=99,
        layers=2,
        dropout=0.3,  # so that the random state is part of what must be kept
        remedies=("auto-clip:percentile=50",),  # and so is what a remedy has learned
        window=8,
        threads=1,
        out=out,
        resume=resume,
        overwrite=overwrite,
        checkpoint_every_seconds=1e9,
    )


@pytest.fixture(scope="module", params=["forecast", pytest.param("text", marks=pytest.mark.slow)])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    if request.param == "forecast":
        path = folder / "forecast"
        rows = np.sin(np.arange(200) / 5) + 0.1 * rng.normal(size=200)
        path.write_text("y\n" + "\n".join(f"{y:.4f}" for y in rows) + "\n")
    else:
        path = folder / "text"
        path.write_text("".join(rng.choice(list("abcde "), 3000)))
    return path


@pytest.fixture(scope="module")
def whole(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert train(config(file, out)).status == "finished"
    return out


def assert_same_run(out: Path, whole: Path) -> None:
    ours, theirs = load_file(out / "model.safetensors"), load_file(whole / "model.safetensors")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    ends = [load_file(folder / "checkpoint.safetensors") for folder in (out, whole)]
    # When the watch measures depends on the clock; it changes nothing in the training.
    ends = [{n: t for n, t in e.items() if not n.startswith("watch/")} for e in ends]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    counters = [
        checkpoint.read(folder / "checkpoint.safetensors").facts["progress"] | {"seconds": 0}
        for folder in (out, whole)
    ]
    assert counters[0] == counters[1]
    run, plain = read(out / "run.db"), read(whole / "run.db")
    for name in ("loss", "val_loss", "grad_norm", "lr"):
        steps, values = run.scalars(name)
        expected_steps, expected = plain.scalars(name)
        np.testing.assert_array_equal(steps, expected_steps)
        np.testing.assert_array_equal(values, expected)
    assert run.notes["scores"] == plain.notes["scores"]
    once = ("finished", "diverged", "rollback")
    events = [
        [(e["kind"], e["step"]) for e in r.events() if e["kind"] in once] for r in (run, plain)
    ]
    assert events[0] == events[1]
    run.close()
    plain.close()


class StopAt:
    """Sends this process a signal after some step, as Ctrl-C does."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("file", "number"),
    [
        ("forecast", signal.SIGINT),
        ("forecast", signal.SIGTERM),
        pytest.param("text", signal.SIGINT, marks=pytest.mark.slow),
    ],
    indirect=["file"],
)
def test_a_signal_stops_between_steps_and_resuming_changes_nothing(
    file: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out, handler = tmp_path / "run", signal.getsignal(number)
    first = train(config(file, out), StopAt(13, number))
    assert first.status == "interrupted" and first.step == 13 and not first.scores
    assert read_model(out)[1].status == "interrupted"  # the best so far can be used already
    second = train(config(file, out, resume=True), StopAt(37, number))
    assert second.step == 37
    last = train(config(file, out, resume=True))
    assert last.status == "finished"
    assert_same_run(out, whole)
    assert signal.getsignal(number) is handler
    run = read(out / "run.db")
    assert [e["step"] for e in run.events() if e["kind"] == "resumed"] == [13, 37]
    run.close()


def kill_until_done(file: Path, out: Path, moments: list[tuple[str, int, float]]) -> list[int]:
    """Start the run again and again, killing it each time; then let it end.

    Args:
        file: The data.
        out: The folder of the run.
        moments: When to kill: after so many writes to the named file, and then so many seconds.

    Returns:
        The step of the checkpoint at each kill; -1 where there was none yet.
    """
    steps: list[int] = []
    for number in range(len(moments) + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(file), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if number < len(moments):
            name, writes, pause = moments[number]
            for _ in range(writes):
                wait_for_write(process, out / name)
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            assert "done" in output
            return steps
        assert process.returncode == -signal.SIGKILL, errors
        path = out / "checkpoint.safetensors"
        steps.append(checkpoint.read(path).facts["progress"]["step"] if path.exists() else -1)
    raise AssertionError("the last run was not killed and did not end")


def wait_for_write(process: "subprocess.Popen[str]", path: Path) -> None:
    # The clock starts when the run writes, or the time that imports take would hide every kill.
    def written() -> float:
        return path.stat().st_mtime if path.exists() else 0.0

    before, deadline = written(), time.monotonic() + 60
    while process.poll() is None and written() == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


CHECKPOINT = "checkpoint.safetensors"


@pytest.mark.slow
def test_killed_while_it_writes_a_checkpoint(file: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    steps = kill_until_done(file, out, [(CHECKPOINT, 4, 0.0)])  # each kill starts a process
    assert any(0 < step < STEPS for step in steps), steps  # or the test has tested nothing
    assert_same_run(out, whole)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(file: Path, whole: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    steps: list[int] = []
    for attempt in range(20):
        out = tmp_path / str(attempt)
        moments = [("run.db", 1, rng.uniform(0, 0.5))]
        moments += [(CHECKPOINT, rng.randint(1, 20), rng.uniform(0, 0.02)) for _ in range(2)]
        steps += kill_until_done(file, out, moments)
        assert_same_run(out, whole)
        if len(steps) >= 20:
            break
    assert len(steps) >= 20 and sum(0 < step < STEPS for step in steps) >= 8, steps


def test_what_came_after_the_checkpoint_is_forgotten(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    train(config(file, tmp_path), StopAt(13, signal.SIGINT))
    with Record.open(tmp_path / "run.db") as record:  # as a run killed at step 70 leaves it
        record.scalars(70, {"loss": 1.0})
        record.event(14, "remedy", "to be forgotten")
    train(config(file, tmp_path, resume=True))
    assert_same_run(tmp_path, whole)
    run = read(tmp_path / "run.db")
    assert not any(e["kind"] == "remedy" for e in run.events())
    run.close()


def test_a_run_killed_right_after_its_first_checkpoint(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, Saved):
            raise Killed

    with pytest.raises(Killed):
        train(config(file, tmp_path), kill)
    assert checkpoint.read(tmp_path / CHECKPOINT).facts["progress"]["step"] == 0
    train(config(file, tmp_path, resume=True), StopAt(1, signal.SIGINT))
    # Validated once, not again: a second look at the same weights is no failure to improve.
    assert checkpoint.read(tmp_path / CHECKPOINT).facts["progress"]["stale"] == 0
    train(config(file, tmp_path, resume=True))
    assert_same_run(tmp_path, whole)


def test_the_best_weights_are_kept_apart(file: Path, tmp_path: Path) -> None:
    train(config(file, tmp_path), StopAt(13, signal.SIGINT))
    best = checkpoint.read(tmp_path / CHECKPOINT).group("best")
    train(config(file, tmp_path, resume=True), StopAt(14, signal.SIGINT))
    saved = checkpoint.read(tmp_path / CHECKPOINT)
    torch.testing.assert_close(saved.group("best"), best, rtol=0, atol=0)
    name = "recurrent.weight_hh_l0"
    assert not torch.equal(saved.group("best")[name], saved.group("model")[name])


def test_a_killed_run_leaves_no_half_checkpoint(file: Path, whole: Path, tmp_path: Path) -> None:
    # What a kill between writing and moving leaves behind: a torn file beside the good one.
    out = tmp_path / "run"
    train(config(file, out), StopAt(20, signal.SIGINT))
    (out / "checkpoint.safetensors.tmp").write_bytes(b"torn")
    train(config(file, out, resume=True))
    assert_same_run(out, whole)


def test_a_finished_run_is_not_run_again(file: Path, tmp_path: Path) -> None:
    first = train(config(file, tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    longer = replace(config(file, tmp_path, resume=True), max_steps=STEPS + 1)
    for again in (config(file, tmp_path), longer):
        with pytest.raises(InputError, match=r"finished .*--overwrite"):
            train(again)
    second = train(config(file, tmp_path, resume=True))
    assert second == first
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_interrupted_run_asks_for_resume(file: Path, tmp_path: Path) -> None:
    train(config(file, tmp_path), StopAt(5, signal.SIGINT))
    with pytest.raises(InputError, match=r"interrupted at step 5; resume it with --resume"):
        train(config(file, tmp_path))


def test_overwrite_starts_again(file: Path, whole: Path, tmp_path: Path) -> None:
    train(config(file, tmp_path), StopAt(5, signal.SIGINT))
    train(config(file, tmp_path, overwrite=True))
    assert_same_run(tmp_path, whole)


def test_changed_data_is_noticed(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    train(config(copy, tmp_path / "run"), StopAt(5, signal.SIGINT))
    copy.write_bytes(file.read_bytes().replace(b"1", b"2").replace(b"a", b"b"))
    with pytest.raises(InputError, match="content differs"):
        train(config(copy, tmp_path / "run", resume=True))


def test_resume_with_nothing_there_begins(file: Path, whole: Path, tmp_path: Path) -> None:
    outcome: Outcome = train(config(file, tmp_path / "new", resume=True))
    assert outcome.status == "finished"
    assert_same_run(tmp_path / "new", whole)
