"""Kill trainings at random moments, go on with --resume, and compare with one left alone.

    python -m benchmarks.reliability kills --count 1000

Each training is killed (SIGKILL) up to four times at random moments, each time in what --resume has
made of it, then finishes, and must equal one that nothing happened to: weights, checkpoint, losses,
events, scores, bit for bit. After each kill the checkpoint must be whole and the record readable
and not behind it. In a grid a worker may be hit instead of the parent, under torchrun any process.
"""

import contextlib
import io
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.reliability.forked import Ended, run
from steadygrad.bench.executors import local
from steadygrad.cli import main as cli
from steadygrad.record import EmptyRecordError, Results, read
from steadygrad.train import checkpoint

IN_A_ROW = 4  # most kills of one training
NOT_COMPARED = ("seconds", "cpu_seconds", "microseconds_per_step")


@dataclass(frozen=True)
class Setting:
    """One kind of command that is killed.

    Attributes:
        name: Its name in the table.
        share: Share of the kills.
        arguments: The command without its folder.
        processes: Processes that train together.
        is_grid: Whether it is a grid of runs.
    """

    name: str
    share: float
    arguments: tuple[str, ...]
    processes: int = 1
    is_grid: bool = False

    def command(self, folder: Path, out: Path) -> list[str]:
        """The command line for a folder of data and one for the results."""
        given = [text.format(data=folder) for text in self.arguments]
        return [*given, "--out", str(out), *([] if self.is_grid else ["--resume"])]


SHORT = ("--hidden", "4", "--threads", "1", "--checkpoint-every-seconds", "1e-9", "--budget", "0")
TABLE = ("train", "{data}/wave.csv", "--window", "6", "--horizon", "1", *SHORT)
TEXT = ("train", "{data}/book.txt", "--window", "8", "--batch-size", "4", *SHORT)
GRID = (
    *("bench", "adding:length=20", "--cells", "elman,gru", "--seeds", "3", "--hidden", "4"),
    *("--updates", "4", "--validate-every", "2", "--batch-size", "4", "--workers", "2"),
)
STEPS = ("--max-steps", "9", "--validate-every", "3")
WILD = ("--cell", "elman:nonlinearity=relu", "--learning-rate", "30", "--clip", "0")
SETTINGS = (
    Setting("plain", 0.3, (*TABLE, *STEPS, "--lag", "none")),
    Setting(
        "remedies with memory",
        0.1,
        (*TABLE, *STEPS, "--lag", "none", "--dropout", "0.2", "--remedies", "auto-clip", "z-clip"),
    ),
    Setting("rollbacks", 0.2, (*TABLE, *STEPS, "--lag", "none", *WILD, "--rollbacks", "3")),
    Setting("repair", 0.05, (*TABLE, *STEPS, "--lag", "5", *WILD, "--repair")),
    Setting(
        "text, state carried",
        0.2,
        (*TEXT, *STEPS, "--lag", "none"),
    ),
    Setting(
        "grid, workers",
        0.05,
        GRID,
        is_grid=True,
    ),
    Setting("torchrun, 2 processes", 0.1, (*TABLE, *STEPS, "--lag", "none"), processes=2),
)


@dataclass
class Tally:
    """What was counted for one setting."""

    kills: int = 0
    runs: int = 0
    early: int = 0  # ended before its time had come
    seconds: float = 0.0


class Lost(AssertionError):
    """A promise was broken."""


def main(count: int, seed: int, only: Sequence[str], keep_on: float) -> int:
    """Kill ``count`` times, in shares; print one line a setting; 0 if nothing was lost."""
    torch.set_num_threads(1)
    # Workers of a grid are forked, not spawned: their start would take seconds each.
    context = local.multiprocessing.get_context("fork")
    local.multiprocessing.get_context = lambda method=None: context  # type: ignore[assignment]
    end, lost, total = time.monotonic() + keep_on, 0, 0
    settings = [s for s in SETTINGS if not only or s.name.split(",")[0] in only]
    whole = sum(s.share for s in settings)
    with tempfile.TemporaryDirectory(prefix="steadygrad-kills-") as name:
        folder = Path(name)
        write_data(folder)
        _warm_up(folder)
        for setting in settings:
            wanted = round(count * setting.share / whole)
            tally = Tally()
            try:
                _kill_many(setting, wanted, folder, seed, tally, end)
            except (Lost, TimeoutError) as error:
                lost += 1
                print(f"{setting.name}: LOST: {error}", flush=True)
            total += tally.kills
            print(
                f"{setting.name:22} {tally.kills:5} kills of {tally.runs:4} trainings,"
                f" {tally.early:4} ended first, {tally.seconds:6.0f} s",
                flush=True,
            )
    print(f"{total} kills, seed {seed}: {lost} settings with a loss")
    return int(lost > 0)


def write_data(folder: Path) -> None:
    """A short series and a short text."""
    rows = np.sin(np.arange(120) / 3)
    (folder / "wave.csv").write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    text = "".join(np.random.default_rng(0).choice(list("abcde "), 1500))
    (folder / "book.txt").write_text(text)


def _warm_up(folder: Path) -> None:
    """Run each command once in this process, so that its forks have all that it imports."""
    for setting in SETTINGS:
        if setting.is_grid:  # its workers have threads, with which a process is not to be forked
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            cli(setting.command(folder, folder / "warm"))
        shutil.rmtree(folder / "warm")


def _kill_many(
    setting: Setting, wanted: int, folder: Path, seed: int, tally: Tally, end: float
) -> None:
    began = time.monotonic()
    slug = setting.name.split(",")[0].replace(" ", "-")
    whole, out = folder / f"{slug}-whole", folder / f"{slug}-out"
    times: list[float] = []
    for _ in range(3):
        shutil.rmtree(whole, ignore_errors=True)
        ended = run(setting.command(folder, whole), processes=setting.processes)
        _check_end(ended, "left alone")
        times.append(ended.seconds)
    usual = statistics.median(times[1:])
    compare = _same_grid if setting.is_grid else _same_run
    while tally.kills < wanted and time.monotonic() < end:
        rng = random.Random(f"{seed} {setting.name} {tally.runs}")
        told = f"training {tally.runs} of seed {seed}"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(min(IN_A_ROW, wanted - tally.kills)):
            after = rng.random() * 1.1 * usual
            ended = run(
                setting.command(folder, out),
                processes=setting.processes,
                kill_after=after,
                whom=rng,
            )
            tally.kills += ended.was_killed
            tally.early += not ended.was_killed
            _check_killed(ended, f"{told}, killed after {after:.3f} s")
            if not setting.is_grid:
                _nothing_lost(out, f"{told}, killed after {after:.3f} s")
        ended = run(setting.command(folder, out), processes=setting.processes)
        _check_end(ended, told)
        compare(out, whole, told)
        tally.runs += 1
        if tally.runs % 10 == 0:
            print(f"  {setting.name}: {tally.kills} kills", flush=True)
    tally.seconds = time.monotonic() - began


def _check_end(ended: Ended, told: str) -> None:
    if any(code not in (0, 1) for code in ended.codes):  # 1: it diverged, as it does left alone
        raise Lost(f"{told}: ended with {ended.codes}: {ended.said[-2000:]}")


def _check_killed(ended: Ended, told: str) -> None:
    """A process that was hit, one that ended first, or one that lost another and says so."""
    for code in ended.codes:
        if code not in (-signal.SIGKILL, 0, 1, 2) or "Traceback" in ended.said:
            raise Lost(f"{told}: ended with {ended.codes}: {ended.said[-2000:]}")
    if not ended.was_killed:
        _check_end(ended, told)


def _nothing_lost(out: Path, told: str) -> None:
    """The checkpoint is whole, and the record can be read and is not behind it."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return
    step = checkpoint.read(path).facts["progress"]["step"]
    try:
        with read(out / "run.db") as record:
            last = record.last_step()
            record.events()
    except EmptyRecordError:
        last = -1
    if last < step:
        raise Lost(f"{told}: the record ends at step {last}, the checkpoint at {step}")


def _same_run(out: Path, whole: Path, told: str) -> None:
    same = _Comparison(told)
    ours, theirs = (load_file(f / "model.safetensors") for f in (out, whole))
    same.tensors("weights", ours, theirs)
    saved, wanted = (checkpoint.read(f / "checkpoint.safetensors") for f in (out, whole))
    same.tensors("checkpoint", dict(saved.tensors), dict(wanted.tensors))
    for key in ("rescues", "losses", "config"):
        same.equal(key, saved.facts[key], wanted.facts[key])
    progress = [{**s.facts["progress"], "seconds": 0} for s in (saved, wanted)]
    same.equal("progress", *progress)
    same.equal("report", (out / "report.html").exists(), True)
    same.equal("left behind", sorted(p.name for p in out.glob(".*.tmp")), [])
    with read(out / "run.db") as a, read(whole / "run.db") as b:
        for name in ("loss", "val_loss", "grad_norm", "lr"):
            for x, y in zip(a.scalars(name), b.scalars(name), strict=True):
                same.equal(name, x.tobytes(), y.tobytes())
        kinds = [
            [(e["kind"], e["step"]) for e in run.events() if e["kind"] != "resumed"]
            for run in (a, b)
        ]
        same.equal("events", *kinds)
        same.equal("scores", a.notes.get("scores"), b.notes.get("scores"))
        same.equal("notes", sorted(a.notes), sorted(b.notes))


def _same_grid(out: Path, whole: Path, told: str) -> None:
    found: list[Any] = []
    for folder in (out, whole):
        with Results(folder / "results.db") as results:
            rows = [
                (t, {k: v for k, v in r.items() if k not in NOT_COMPARED})
                for t, r in results.rows()
            ]
        found.append(sorted(rows, key=str))
    same = _Comparison(told)
    same.equal("runs of the grid", *([str(task) for task, _ in rows] for rows in found))
    for (task, ours), (_, theirs) in zip(*found, strict=True):
        for key in sorted(ours.keys() | theirs.keys()):
            same.equal(f"{key} of {task}", str(ours.get(key)), str(theirs.get(key)))


@dataclass(frozen=True)
class _Comparison:
    told: str

    def equal(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise Lost(f"{self.told}: {what} differ: {found!r:.300} and {wanted!r:.300}")

    def tensors(self, what: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        names = [sorted(n for n in each if not n.startswith("watch/")) for each in (found, wanted)]
        self.equal(f"names of {what}", *names)
        for name in names[0]:
            try:
                torch.testing.assert_close(
                    found[name], wanted[name], rtol=0, atol=0, equal_nan=True
                )
            except AssertionError as error:
                raise Lost(f"{self.told}: {what} {name}: {error}") from None
