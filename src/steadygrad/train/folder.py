"""The folder of a run: its files, and checks before a run starts or resumes there."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from steadygrad import files
from steadygrad.errors import InputError
from steadygrad.plain import shown
from steadygrad.record import EmptyRecordError, read
from steadygrad.record.ownership import kind_of, refuse_foreign
from steadygrad.record.places import CHECKPOINT, RUN
from steadygrad.train import checkpoint
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.checkpoint_facts import Facts, facts_of
from steadygrad.train.config import TrainConfig

NUMBERED = ("before-rollback-*.safetensors", "nonfinite-*.safetensors")


@dataclass(frozen=True)
class Folder:
    """Paths of a run's files."""

    path: Path

    @property
    def record(self) -> Path:
        """The record of every step."""
        return self.path / RUN

    @property
    def checkpoint(self) -> Path:
        """The state of the run, to resume it."""
        return self.path / CHECKPOINT

    @property
    def weights(self) -> Path:
        """The best weights, after a completed run."""
        return self.path / "model.safetensors"

    @property
    def report(self) -> Path:
        """The page, after a completed run."""
        return self.path / "report.html"

    def before_rollback(self, number: int) -> Path:
        """The state that a rollback restored, without its remedy."""
        return self.path / f"before-rollback-{number}.safetensors"

    def written(self) -> list[Path]:
        """Everything in the folder under a name that a run may write, whatever its origin."""
        fixed = [self.record, self.checkpoint, self.weights, self.report]
        numbered = [p for name in NUMBERED for p in sorted(self.path.glob(name))]
        return [p for p in fixed if p.exists() or p.is_symlink()] + numbered

    def clear(self) -> None:
        """Remove the files of an earlier run except its record, which is replaced as a whole.

        The checkpoint is removed first, as a kill could otherwise leave it beside the record of
        another run.
        """
        for path in sorted(self.written(), key=lambda path: path != self.checkpoint):
            if path != self.record:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove partial files of a killed writer."""
        names = [self.checkpoint.name, self.weights.name, self.report.name]
        files.sweep(self.path, [*names, *NUMBERED])

    def make(self) -> None:
        """Create the folder and check that it is writable.

        Raises:
            InputError: It cannot be created or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):  # an unpredictable name
                pass
        except OSError as error:
            raise InputError(
                f"{self.path}: nothing can be written there ({error.strerror});"
                " give another folder with --out"
            ) from None


def earlier_run(folder: Folder, config: TrainConfig, data: str) -> Checkpoint | None:
    """Return the checkpoint to resume from, or None to start; nothing is written.

    Raises:
        InputError: The folder holds a run that must not be changed, or cannot be resumed; or a
            foreign file where this run would write.
    """
    written = folder.written()
    if config.overwrite:
        refuse_foreign(path for path in written if not _is_damaged_of_ours(folder, path))
        return None
    if not folder.checkpoint.exists():
        refuse_foreign(written)
        _check_nothing_lost(folder, config, written)
        return None
    saved = checkpoint.read(folder.checkpoint)
    refuse_foreign(written)
    facts = facts_of(saved.facts, str(folder.checkpoint))
    progress = facts.progress
    if progress.status != "running" and not (config.resume and _is_done(facts, config)):
        raise InputError(
            f"{folder.path}: the run there is {progress.status} (step {progress.step});"
            " start again with --overwrite, or give another --out"
        )
    if not config.resume:
        raise InputError(
            f"{folder.path}: holds a run interrupted at step {progress.step}; resume it with "
            "--resume, or start again with --overwrite"
        )
    _check_same(folder, facts, config, data)
    return saved


def _check_nothing_lost(folder: Folder, config: TrainConfig, written: list[Path]) -> None:
    """Refuse to start where a record or another file of an earlier run would be lost."""
    if not written:
        return
    if folder.record.exists() and not config.resume:
        raise InputError(
            f"{folder.path}: holds a record without a checkpoint; --overwrite replaces it,"
            " another --out leaves it"
        )
    if folder.record.exists():
        # A checkpoint is written before the first step.
        if (step := _last_step(folder.record)) > 0:
            raise InputError(
                f"{folder.path}: holds a record of {step} steps, and its checkpoint is gone;"
                " --overwrite replaces it, another --out leaves it"
            )
    rest = [path.name for path in written if path != folder.record]
    if rest and not folder.record.exists():
        raise InputError(
            f"{folder.path}: holds {rest[0]} of an earlier run; --overwrite replaces it, another"
            " --out leaves it"
        )


def _last_step(record: Path) -> int:
    try:
        with read(record) as run:
            return run.last_step()
    except EmptyRecordError:  # killed during its creation
        return -1


def _is_damaged_of_ours(folder: Folder, path: Path) -> bool:
    """Whether a file beside a record of ours is a damaged checkpoint."""
    if path != folder.checkpoint or path.is_symlink() or kind_of(folder.record) != "record":
        return False
    try:
        checkpoint.read(path)
    except InputError as error:
        return "truncated or damaged" in str(error)
    return False


def _is_done(facts: Facts, config: TrainConfig) -> bool:
    """Whether a completed run would also end there under these options."""
    progress = facts.progress
    if facts.outcome is None:
        return False
    if progress.status == "diverged":
        return config.rollbacks <= len(facts.rescues)
    epochs = config.epochs is not None and progress.epoch >= config.epochs
    return progress.step >= config.max_steps or epochs or progress.stale >= config.patience


def _check_same(folder: Folder, facts: Facts, config: TrainConfig, data: str) -> None:
    there, here = facts.config, config.fixed()
    differing = [name for name in here if there.get(name) != here[name]]
    if differing:
        told = "; ".join(
            f"{n} is {shown(there.get(n))} there, {shown(here[n])} here" for n in differing
        )
        raise InputError(
            f"{folder.checkpoint}: is of another run: {told}; give the same options to resume it"
        )
    if facts.data != data:
        raise InputError(
            f"{config.file}: is not the file that the run in {folder.path} started with (its "
            "content differs); restore it, or start again with --overwrite"
        )
    if not folder.record.exists():
        raise InputError(
            f"{folder.record}: is missing, though its checkpoint exists; start again with "
            "--overwrite"
        )
