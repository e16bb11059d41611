"""Try the cure: fork a run under each suggested remedy, one after the other, within a budget.

The page asks for a run by its name; which remedies are tried, and what is started, is decided here,
from the record. At most one such trial is under way at a time.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

from steadygrad.record import RecordError, read
from steadygrad.record.places import CHECKPOINT, RUN

UNTREATED = "untreated"
FOLDER = "cures"
"""Folder beside a record that receives its forks."""
MOST = 4
"""Remedies that are tried at most, besides none."""
SECONDS = 300.0
"""Time that one trial may take in all; each fork has an equal share of what is left."""
PATIENCE = 10.0
"""Seconds that a fork has to end by itself, once it is asked to."""
State = Literal["waiting", "running", "ended", "stopped", "failed", "cancelled"]


class Refused(Exception):
    """A trial cannot begin; the text says why, ``status`` is that of the answer.

    Args:
        status: Of HTTP.
        text: For the reader.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Attempt:
    """One fork.

    Attributes:
        remedy: As `steadygrad.remedies.parse` reads it, or ``untreated``.
        folder: Where its record is written.
        state: How far it is.
        text: How it ended, for the reader.
    """

    remedy: str
    folder: Path
    state: State = "waiting"
    text: str = ""

    @property
    def command(self) -> list[str]:
        """What tells a fork its remedy and its folder."""
        remedy = [] if self.remedy == UNTREATED else [f"--remedy={self.remedy}"]
        return [*remedy, f"--out={self.folder}"]


@final
class Cures:
    """Runs forks in processes of their own.

    Args:
        command: Begins a fork; the record, the remedy, the folder and the checkpoint are appended,
            as ``steadygrad fork`` takes them.
        seconds: Time that one trial may take in all.
    """

    def __init__(self, command: Sequence[str], seconds: float = SECONDS) -> None:
        self._command, self._seconds = list(command), seconds
        self._lock = threading.Lock()
        self._run = ""
        self._attempts: list[Attempt] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._is_busy = False
        self.version = 0
        """Counts what has changed."""

    def start(self, run: str, record: Path) -> Path:
        """Begin to try what the findings of a record suggest; returns the folder of the forks.

        Raises:
            Refused: A trial is under way, or the record suggests nothing.
        """
        with self._lock:
            if self._is_busy:
                raise Refused(409, f"the cures for {self._run} are being tried; cancel that first")
            remedies = suggested(record)
            if not remedies:
                raise Refused(422, f"{run}: its findings suggest no remedy")
            folder = record.parent / FOLDER
            self._run = run
            self._attempts = [
                Attempt(remedy, folder / _slug(remedy)) for remedy in (UNTREATED, *remedies)
            ]
            self._stop.clear()
            self._is_busy = True
            self.version += 1
            self._thread = threading.Thread(
                target=self._try, args=(record,), name="steadygrad-cures", daemon=True
            )
            self._thread.start()
            return folder

    def cancel(self) -> None:
        """End the trial under way; there need not be one."""
        self._stop.set()

    def close(self) -> None:
        """End the trial under way, and wait until its process is gone."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(2 * PATIENCE)

    def plain(self) -> dict[str, Any]:
        """The latest trial, as JSON-able values."""
        attempts = [asdict(each) | {"folder": None} for each in list(self._attempts)]
        return {
            "run": self._run,
            "busy": self._is_busy,
            "attempts": attempts,
            "seconds": self._seconds,
        }

    def _try(self, record: Path) -> None:
        end = time.monotonic() + self._seconds
        count = len(self._attempts)
        kept = tempfile.TemporaryDirectory(prefix="steadygrad-")
        try:
            try:
                start = self._start(record, Path(kept.name))
            except OSError as error:
                for number in range(count):
                    why = f"its checkpoint could not be copied: {error.strerror}"
                    self._set(number, "failed", why)
                return
            for number in range(count):
                if self._stop.is_set():
                    self._set(number, "cancelled", "cancelled")
                    continue
                share = max(0.0, end - time.monotonic()) / (count - number)
                self._set(number, "running", "")
                try:
                    self._set(number, *self._fork(record, self._attempts[number], start, share))
                except OSError as error:
                    self._set(number, "failed", f"it could not be started: {error.strerror}")
        finally:
            kept.cleanup()
            self._is_busy = False
            self.version += 1

    def _start(self, record: Path, folder: Path) -> list[str]:
        """What tells the forks where to begin: a copy, as a run that trains saves again meanwhile.

        A trainer of the reader's own starts from its own checkpoint.
        """
        saved = record.parent / CHECKPOINT
        if not saved.exists() or any(part.startswith("--trainer") for part in self._command):
            return []
        return [f"--start={shutil.copyfile(saved, folder / CHECKPOINT)}"]

    def _set(self, number: int, state: State, text: str) -> None:
        self._attempts[number] = replace(self._attempts[number], state=state, text=text)
        self.version += 1

    def _fork(
        self, record: Path, attempt: Attempt, start: Sequence[str], seconds: float
    ) -> tuple[State, str]:
        """Run one fork to its end, the end of its time, or a cancellation."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [*self._command, str(record), *attempt.command, *start],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # Ctrl-C in the terminal of the page must not reach it twice.
                start_new_session=os.name == "posix",
            )
            end = time.monotonic() + seconds
            try:
                while process.poll() is None and time.monotonic() < end:
                    if self._stop.wait(0.1):
                        break
                is_early = process.poll() is None
            finally:
                _end(process)
            said.seek(0)
            last = said.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-1:]
        if self._stop.is_set():
            return "cancelled", "cancelled"
        if is_early:
            return "stopped", f"{_score(attempt.folder)} when its {seconds:.0f} seconds were over"
        text = _score(attempt.folder)
        if process.returncode == 0:
            return "ended", text
        if _has_diverged(attempt.folder):  # Python's own exit code after an error is 1, too
            return "ended", f"{text}; it diverged"
        return "failed", (last or [f"exit code {process.returncode}"])[0][:300]


def suggested(record: Path) -> list[str]:
    """The remedies that the findings of a record name, the latest findings first.

    Raises:
        Refused: The record cannot be read.
    """
    try:
        with read(record) as run:
            findings = run.findings()
    except (RecordError, OSError) as error:
        raise Refused(422, " ".join(str(error).split())) from None
    named: dict[str, str] = {}
    for finding in reversed(findings):
        remedies = finding.get("remedies")
        for spec in remedies if isinstance(remedies, list) else ():
            if isinstance(spec, str):
                named.setdefault(spec.partition(":")[0], spec)
    return list(named.values())[:MOST]


def fork_command(trainer: str | None = None) -> list[str]:
    """What begins a fork of a run of ``steadygrad train``, or of a trainer of the reader's own."""
    command = [sys.executable, "-m", "steadygrad.cli", "fork"]
    return command if trainer is None else [*command, f"--trainer={trainer}"]


def _slug(remedy: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", remedy)[:80]


def _score(folder: Path) -> str:
    """The loss at the end of a fork, in words."""
    try:
        with read(folder / RUN) as run:
            name = next((n for n in ("val_loss", "loss") if n in run.scalar_names()), None)
            if name is None:
                return "no loss was recorded"
            steps, values = run.scalars(name)
    except (RecordError, OSError):
        return "nothing was recorded"
    words = "validation loss" if name == "val_loss" else "loss"
    return f"{words} {values[0]:.4g} at step {steps[0]}, {values[-1]:.4g} at step {steps[-1]}"


def _has_diverged(folder: Path) -> bool:
    try:
        with read(folder / RUN) as run:
            return any(event["kind"] == "diverged" for event in run.events())
    except (RecordError, OSError):
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and make it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        if os.name == "posix":  # with whatever it has started
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
