"""Build the model of a run and apply its remedies."""

import torch

from steadygrad.errors import InputError
from steadygrad.ranks import Ranks
from steadygrad.remedies import Course, Remedy, parse
from steadygrad.tasks import Forecast, ForecastSpec, Task
from steadygrad.train.config import TrainConfig
from steadygrad.train.model import COMPOSED, Ends, SequenceModel
from steadygrad.train.narx_ahead import NarxAhead, delays_of

OF_IMAGES = {"md-lstm": "sg.nn.MDLSTM", "conv-lstm": "sg.nn.ConvLSTM"}

Remedied = tuple[SequenceModel, Course]


def remedied_model(
    config: TrainConfig,
    task: Task | Ends,
    device: torch.device,
    ranks: Ranks | None = None,
    spec: ForecastSpec | None = None,
) -> Remedied:
    """Build the model and apply the remedies, before anything is written.

    Args:
        config: All options.
        task: Gives the sizes of inputs and outputs.
        device: Device of the model.
        ranks: The processes of the training.
        spec: Specification of the forecast; that of the task by default.

    Raises:
        InputError: A cell or remedy does not suit the task.
    """
    hidden = config.settled(task.input_kind).hidden
    name = config.cell.partition(":")[0]
    if name in OF_IMAGES:
        raise InputError(
            f"--cell {name}: reads images, but a file is a series of rows or of symbols, along one"
            f" axis; use lstm, bilstm or cnn-lstm, or {OF_IMAGES[name]} in Python"
        )
    if config.cell in COMPOSED and task.every_step:
        raise InputError(
            f"--cell {config.cell}: answers once, after the last step, but a text needs an answer "
            "at every step; use a cell such as lstm or gru"
        )
    whole = None
    if config.cell == "narx":
        spec = task.spec if isinstance(task, Forecast) else spec
        if spec is None:
            raise InputError("--cell narx: forecasts a table, but this is a text")
        inputs = delays_of("--input-lags", config.input_lags, 0)
        outputs = delays_of("--output-lags", config.output_lags, 1)
        whole = NarxAhead(spec, hidden, inputs, outputs)
    model = SequenceModel(task, config.cell, hidden, config.layers, config.dropout, whole)
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
            f"it needs the full batch, which {ranks.size} processes share: train in one process, "
            "or leave it out"
        )


def check_answers(remedy: Remedy, task: Task | Ends) -> None:
    """Refuse a remedy that would reveal the targets.

    Raises:
        ValueError: The task has a target at every step, and the remedy reads ahead.
    """
    if remedy.reads_ahead and task.every_step:
        raise ValueError("it shows the future to a model that answers at every step")
