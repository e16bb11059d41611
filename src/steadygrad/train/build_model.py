"""The model of a run, with its remedies applied."""

import torch

from steadygrad.errors import InputError
from steadygrad.ranks import Ranks
from steadygrad.remedies import Course, Remedy, parse
from steadygrad.tasks import Task
from steadygrad.train.config import TrainConfig
from steadygrad.train.model import SequenceModel

Remedied = tuple[SequenceModel, Course]


def remedied_model(
    config: TrainConfig, task: Task, device: torch.device, ranks: Ranks | None = None
) -> Remedied:
    """Make the model and apply the remedies, before anything is written."""
    hidden = config.settled(task.input_kind).hidden
    model = SequenceModel(task, config.cell, hidden, config.layers, config.dropout)
    course = Course((), model)
    for text in config.remedies:
        try:
            remedy = parse(text)
            check_answers(remedy, task)
            _check_whole(remedy, ranks or Ranks())
            course.apply(remedy)
        except ValueError as error:
            raise InputError(f"--remedies {text}: {error}") from None
    return model.to(device), course


def _check_whole(remedy: Remedy, ranks: Ranks) -> None:
    if remedy.needs_whole_batch and not ranks.is_alone:
        raise ValueError(
            f"it acts on a whole batch at once, of which each of {ranks.size} processes sees a"
            " share: train in one process, or leave it out"
        )


def check_answers(remedy: Remedy, task: Task) -> None:
    """Refuse a remedy that would show the answers.

    Raises:
        ValueError: The task asks at every step, and the remedy reads ahead.
    """
    if remedy.reads_ahead and task.every_step:
        raise ValueError("it shows the future to a model that answers at every step")
