"""Reload a run of ``steadygrad train``: its model with its weights, and its data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steadygrad.diagnosis.lag import Lag
from steadygrad.errors import InputError
from steadygrad.plain import Misfit, fit
from steadygrad.ranks import Ranks
from steadygrad.record import read
from steadygrad.tasks import Task
from steadygrad.train import checkpoint
from steadygrad.train.build_model import remedied_model
from steadygrad.train.config import TrainConfig
from steadygrad.train.data import read_task
from steadygrad.train.folder import Folder
from steadygrad.train.lag import lag_of
from steadygrad.train.model import SequenceModel


@dataclass(frozen=True)
class Reloaded:
    """A reloaded run.

    Attributes:
        config: Its options.
        task: Its data.
        model: With the weights of its latest checkpoint, in evaluation mode.
        lag: The lag that its task needs, known or estimated.
        losses: Training losses so far.
    """

    config: TrainConfig
    task: Task
    model: SequenceModel
    lag: Lag
    losses: tuple[float, ...] = ()

    def loss(self) -> Tensor:
        """Loss on the first batch of the training part, unshuffled."""
        batch = self.task.batches("train", self.config.batch_size)[0]
        outputs, _ = self.model(batch.inputs)
        return self.task.loss(outputs, batch.targets)


def reload(path: Path, data: Path | None = None) -> Reloaded:
    """Reload a run.

    Args:
        path: Its folder, or a file in it.
        data: Path of its data, if it has moved.

    Raises:
        InputError: No run, no checkpoint, or its data is not found.
        RecordError: Its record cannot be read.
    """
    folder = Folder(path if path.is_dir() else path.parent)
    if not folder.record.exists():
        raise InputError(
            f"{path}: holds no {folder.record.name}; give the folder of a run of steadygrad train"
        )
    with read(folder.record) as record:
        options = record.config
        losses = record.scalars("loss")[1] if "loss" in record.scalar_names() else ()
    config = config_of(options, folder.record)
    config = replace(config, file=data or config.file)
    if not config.file.exists():
        raise InputError(
            f"{config.file}: no such file; give the path of the run's data with --data"
        )
    if not folder.checkpoint.exists():
        raise InputError(f"{folder.checkpoint}: no such file; the run saved nothing yet")
    task = read_task(config)
    with torch.random.fork_rng():
        model, _ = remedied_model(config, task, torch.device("cpu"))
    saved = checkpoint.read(folder.checkpoint)
    checkpoint.check_fits(folder.checkpoint, saved, model.state_dict())
    model.load_state_dict(saved.group("model"))
    model.eval()
    lag = lag_of(config, task, Ranks(), lambda event: None)
    return Reloaded(config, task, model, lag, tuple(map(float, losses)))


def config_of(options: Mapping[str, Any], where: Path) -> TrainConfig:
    """Read a run's options back from its record.

    Raises:
        InputError: The record is not of a run of ``steadygrad train``.
    """
    names = {f.name for f in fields(TrainConfig)}
    if "file" not in options or not set(options) <= names:
        raise InputError(f"{where}: is not the record of a run of steadygrad train")
    values: dict[str, Any] = dict(options)
    values["lag"] = values.get("lag") or "auto"
    try:
        found = fit(TrainConfig, values, "config")
        found.check()
    except (Misfit, InputError) as error:
        raise InputError(f"{where}: its options are not those of a run ({error})") from None
    return found
