"""The folder of a run: its files, and whether a run may begin or go on there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadygrad.errors import InputError
from steadygrad.train import checkpoint
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.config import TrainConfig


@dataclass(frozen=True)
class Folder:
    """Paths of a run's files."""

    path: Path

    @property
    def record(self) -> Path:
        """The record: what happened at every step."""
        return self.path / "run.db"

    @property
    def checkpoint(self) -> Path:
        """The state of the run, to resume it."""
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """The best weights, once the run has come to an end."""
        return self.path / "model.safetensors"

    def before_rollback(self, number: int) -> Path:
        """The state that a rollback went back to, without its remedy."""
        return self.path / f"before-rollback-{number}.safetensors"

    def make(self) -> None:
        """Make the folder and see that it can be written to.

        Raises:
            InputError: It cannot be made, or nothing can be written into it.
        """
        probe = self.path / ".steadygrad-probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"{self.path}: nothing can be written there ({error.strerror});"
                " give another folder with --out"
            ) from None


def earlier_run(folder: Folder, config: TrainConfig, data: str) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None to begin; nothing is written.

    Raises:
        InputError: The folder holds a run that must not be touched, or cannot be gone on with.
    """
    if config.overwrite:
        return None
    if not folder.checkpoint.exists():
        # A run killed before its first checkpoint has nothing that could be lost.
        if folder.record.exists() and not config.resume:
            raise InputError(
                f"{folder.path}: holds a record without a checkpoint; --overwrite replaces it,"
                " another --out leaves it"
            )
        return None
    saved = checkpoint.read(folder.checkpoint)
    progress = saved.facts["progress"]
    if progress["status"] in ("finished", "diverged"):
        raise InputError(
            f"{folder.path}: the run there is {progress['status']} (step {progress['step']});"
            " start again with --overwrite, or give another --out"
        )
    if not config.resume:
        raise InputError(
            f"{folder.path}: holds a run interrupted at step {progress['step']};"
            " go on with --resume, or start again with --overwrite"
        )
    _check_same(folder, saved.facts, config, data)
    return saved


def _check_same(folder: Folder, facts: Any, config: TrainConfig, data: str) -> None:
    there, here = facts["config"], config.fixed()
    differing = [name for name in here if there.get(name) != here[name]]
    if differing:
        told = "; ".join(f"{n} is {there.get(n)!r} there, {here[n]!r} here" for n in differing)
        raise InputError(
            f"{folder.checkpoint}: is of another run: {told}; give the same options to resume it"
        )
    if facts["data"] != data:
        raise InputError(
            f"{config.file}: is not the file that the run in {folder.path} began with (its"
            " content differs); restore it, or start again with --overwrite"
        )
    if not folder.record.exists():
        raise InputError(
            f"{folder.record}: is gone, though its checkpoint is there;"
            " start again with --overwrite"
        )


def record_of(run: Path) -> Path:
    """The record of a run that is named by it, or by its folder."""
    return Folder(run).record if run.is_dir() else run
