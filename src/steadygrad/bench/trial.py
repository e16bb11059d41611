"""One run of a grid: train a cell with remedies on a task, and score it."""

import hashlib
import json
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steadygrad import _user_code, cells
from steadygrad.diagnosis import diagnose
from steadygrad.errors import InputError
from steadygrad.flow import lyapunov_exponents
from steadygrad.nn import Recurrent, is_memory
from steadygrad.nn.memories import MemoryStack
from steadygrad.remedies import Course, parse
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, Batch, Benchmark, Split, Task
from steadygrad.train.build_model import check_answers
from steadygrad.train.image_model import ImageModel, is_image_cell
from steadygrad.train.model import Carried, SequenceModel, carried_into

Result = dict[str, Any]
ROWS = 8  # sequences over which a Lyapunov exponent is averaged


@dataclass(frozen=True)
class Trial:
    """Everything that determines the result of one run, and nothing else.

    Args:
        task: Task with its options, as text.
        cell: Cell with its options, as text.
        remedies: Remedies with their options, as text, applied in this order.
        seed: Fixes weights and training sequences; the scored parts are the same for all seeds.
        hidden: Hidden features.
        layers: Recurrent layers.
        batch_size: Sequences in a batch.
        updates: Training steps at most.
        learning_rate: Step size of Adam.
        clip: Bound on the global norm of the gradient; 0 for none.
        validate_every: Training steps between two validations; a run ends when a validation finds
            the task solved, except on recorded data, where it uses all its updates.
    """

    task: str
    cell: str
    remedies: tuple[str, ...] = ()
    seed: int = 0
    hidden: int = 64
    layers: int = 1
    batch_size: int = 50
    updates: int = 4000
    learning_rate: float = 2e-3
    clip: float = 1.0
    validate_every: int = 100

    @property
    def key(self) -> str:
        """The key of the trial in a table of results: a hash of all its options.

        For a user's own cell it includes a hash of the source, so that a changed source is another
        trial.
        """
        options = asdict(self)
        source = _user_code.fingerprint(self.cell)
        text = json.dumps(options | ({"source": source} if source else {}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def check(self) -> None:
        """Refuse a trial that cannot be run.

        Raises:
            InputError: No such task, cell or remedy, an option out of its range, or a remedy that
                does not suit the cell.
        """
        for name in ("hidden", "layers", "batch_size", "updates", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.clip < math.inf:
            raise InputError(f"learning rate {self.learning_rate}, clip {self.clip}: out of range")
        # Two units are quickly made; heads have to divide the number that is asked for.
        small = self if is_memory(self.cell) else replace(self, hidden=2)
        if not (is_memory(self.cell) or is_image_cell(self.cell)):
            cells.parse(self.cell)
        _treated(small, self.made())

    def made(self) -> Benchmark:
        """The task.

        Raises:
            InputError: No such task, or a bad option.
        """
        try:
            return read_spec(self.task, TASKS, "task")
        except ValueError as error:
            raise InputError(str(error)) from None


def run_trial(trial: Trial) -> Result:
    """Train and score; errors are returned as results, too.

    Returns:
        ``status`` (``solved``, ``unsolved``, ``diverged`` or ``failed``), ``figures`` of the best
        weights on the test part, ``updates`` done, ``solved_at`` (the update, or None), ``curve``
        (pairs of update and deciding figure on the validation part), ``gradient`` (before the
        first and after the last update: memory horizon in steps, log10 of the gradient left at the
        required lag, and the leading Lyapunov exponent), ``microseconds_per_step`` (computing time
        of a training step over the time steps of its batch), ``seconds`` by the clock,
        ``cpu_seconds`` of computing (less than by the clock on a shared machine), ``parameters``,
        and ``text`` if it failed.
    """
    began, computed = time.perf_counter(), time.process_time()
    # One thread: more would compete with the other runs of a grid, and their number changes the
    # rounding of sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.seed)
            result = _run(trial)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"
        result = {"status": "failed", "figures": {}, "text": " ".join(text.split())}
    finally:
        torch.set_num_threads(threads)
    return result | {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - computed,
    }


Model = SequenceModel | ImageModel


def _model(trial: Trial, task: Benchmark) -> Model:
    if not is_image_cell(trial.cell):
        return SequenceModel(task, trial.cell, trial.hidden, trial.layers)
    if trial.layers > 1:
        raise InputError(f"layers {trial.layers}: {trial.cell} has one")
    return ImageModel(task, trial.cell, trial.hidden)


def _treated(trial: Trial, task: Benchmark) -> tuple[Model, Course]:
    model = _model(trial, task)
    course = Course((), model)
    for text in trial.remedies:
        try:
            remedy = parse(text)
            check_answers(remedy, task)
            course.apply(remedy)
        except ValueError as error:
            raise InputError(f"remedy {text}: {error}") from None
    return model, course


def _run(trial: Trial) -> Result:
    task = trial.made()
    model, course = _treated(trial, task)
    start = _gradient(task, model)
    run = _Run(trial, task, model, course)
    status = run.train()
    end = _gradient(task, model) if status != "diverged" else None
    model.load_state_dict(run.best)
    figures = score(task, model, "test")
    if status == "unsolved" and not task.ends_when_solved and task.solved(figures):
        status = "solved"
    return {
        "status": status,
        "figures": figures,
        "updates": run.step,
        "solved_at": run.best_at if status == "solved" else None,
        "curve": run.curve,
        "gradient": {"start": start, "end": end},
        "microseconds_per_step": run.microseconds_per_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "unit": task.deciding,
        "better": task.better[task.deciding],
        "solved_if": task.solved_if[1] if task.solved_if else None,
        "without_memory": task.no_memory.get(task.deciding),
        "required_lag": task.required_lag,
    }


class _Run:
    """The training loop and its results."""

    def __init__(self, trial: Trial, task: Benchmark, model: Model, course: Course) -> None:
        self.trial, self.task, self.model = trial, task, model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, trial.learning_rate)
        self.course = course
        course.begin(self.optimizer)
        self.curve: list[tuple[int, float]] = []
        self.best = {n: t.clone() for n, t in model.state_dict().items()}
        self._rank = math.inf
        self.step = self.best_at = 0
        self.time_steps, self.computing = 0, 0.0
        self._state: Carried | None = None

    @property
    def microseconds_per_step(self) -> float | None:
        """Of computing, for one time step of an update; None if there was no second update."""
        return 1e6 * self.computing / self.time_steps if self.time_steps else None

    def train(self) -> str:
        """Train to the end; return the status."""
        for batch in _endless(self.task, self.trial):
            self._update(batch)
            self.step += 1
            at_end = self.step >= self.trial.updates
            if self.step % self.trial.validate_every and not at_end:
                continue
            if self._validate():
                return "solved"
            if not all(p.isfinite().all() for p in self.parameters):
                return "diverged"
            if at_end:
                break
        return "unsolved"

    def _update(self, batch: Batch) -> None:
        began = time.process_time()
        outputs, self._state = self.model(batch.inputs, carried_into(batch, self._state))
        loss = self.task.loss(outputs, batch.targets)
        self.optimizer.zero_grad()
        (loss + self.course.penalty(loss)).backward()
        self.course.gradients()
        if self.trial.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.trial.clip)
        self.optimizer.step()
        if self.step:  # the first may compile the cell
            self.computing += time.process_time() - began
            self.time_steps += len(batch.inputs)

    def _validate(self) -> bool:
        """Score the validation part and keep the best weights; whether the task is solved."""
        figures = score(self.task, self.model, "val")
        unit = self.task.deciding
        self.curve.append((self.step, figures[unit]))
        rank = figures[unit] if self.task.better[unit] == "lower" else -figures[unit]
        if rank < self._rank:  # false for NaN
            self._rank, self.best_at = rank, self.step
            self.best = {n: t.clone() for n, t in self.model.state_dict().items()}
        return self.task.ends_when_solved and self.task.solved(figures)


def _endless(task: Benchmark, trial: Trial) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from task.batches("train", trial.batch_size, (trial.seed, epoch))
        epoch += 1


def score(task: Task, model: Model, split: Split) -> dict[str, float]:
    """Figures of a model on a split; the state is carried over if the batches say so."""
    tallies: list[Tensor] = []
    state: Carried | None = None
    model.eval()
    with torch.no_grad():
        for batch in task.batches(split, 250):
            outputs, state = model(batch.inputs, carried_into(batch, state))
            tallies.append(task.tally(outputs, batch.targets))
    model.train()
    return task.figures(torch.stack(tallies).sum(0))


def _gradient(task: Benchmark, model: Model) -> Result | None:
    """How far the gradient reaches back on one fixed batch, through the layer that keeps least.

    Unknown for images, in which it flows in two directions.
    """
    if isinstance(model, ImageModel):
        return None
    batch: Batch = task.batches("val", 50)[0]
    lag = task.required_lag or None
    found = diagnose(model, lambda: task.loss(model(batch.inputs)[0], batch.targets), lag=lag)
    lowest = [flow for flow in found.flow.values() if flow.is_lowest]
    curves = [flow.left for flow in lowest]
    horizons = [flow.horizon for flow in lowest]
    known = [h for h in horizons if h is not None]
    return {
        "verdict": found.verdict,
        "horizon": min(known) if len(known) == len(horizons) else None,
        "log10_ratio": min(c.at(c.max_lag if lag is None else lag) for c in curves),
        "exponent": _exponent(model, batch),
    }


@torch.no_grad()
def _exponent(model: SequenceModel, batch: Batch) -> float | None:
    """The largest Lyapunov exponent of the recurrent layers, in nats per step.

    None for layers without a step Jacobian in forward time alone (BiLSTM, CNN-LSTM).
    """
    inputs = batch.inputs[:, :ROWS]
    x = model.embedding(inputs) if model.embedding is not None else inputs
    layer, settling = model.recurrent, len(x) // 4
    found: list[Tensor] = []
    if isinstance(layer, Recurrent):
        for index in range(layer.num_layers):
            found.append(lyapunov_exponents(layer, x, k=1, discard=settling, index=index))
    elif isinstance(layer, MemoryStack):
        for memory in layer.layers:
            found.append(lyapunov_exponents(memory, x, k=1, discard=settling))
            x = memory(x)[0]
    return max(map(float, found), default=None)
