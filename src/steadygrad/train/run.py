"""Train on a file, from its first byte to the scores beside the naive answers."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

import torch
from safetensors.torch import save

from steadygrad.diagnosis import Watch, watch
from steadygrad.record import Record
from steadygrad.tasks import InputError, Score, Task
from steadygrad.train.checkpoint import Checkpoint, check_fits, replace_file
from steadygrad.train.config import TrainConfig
from steadygrad.train.data import fingerprint, read_task
from steadygrad.train.events import Event, Listener, Outcome, Started
from steadygrad.train.folder import Folder, earlier_run
from steadygrad.train.gradient import Gradient
from steadygrad.train.interrupt import Interrupt
from steadygrad.train.loop import End, Loop
from steadygrad.train.model import SequenceModel, describe
from steadygrad.train.remedied import remedied_model


def ignore(event: Event) -> None:
    """Listen to nothing."""


def train(config: TrainConfig, tell: Listener = ignore) -> Outcome:
    """Train on ``config.file`` and score the result beside the naive answers.

    The run's folder receives ``run.db`` (the record), ``checkpoint.safetensors`` (to resume) and,
    at the end, ``model.safetensors`` (the weights that did best on the validation part). On the
    CPU, a run that was interrupted or killed at any moment and then resumed ends with the same
    weights, bit for bit, as one that was not.

    Args:
        config: All options.
        tell: Is called with each event; draws or logs, as it likes.

    Raises:
        InputError: Anything wrong with file, options or folder; nothing has been written then.
    """
    config.check()
    task = read_task(config)
    device = pick_device(config)
    folder = Folder(config.folder)
    data = fingerprint(config.file)
    saved = earlier_run(folder, config, data)
    with _settings(config, device):
        model, remedies, applied = remedied_model(config, task, device)
        if saved is not None:
            check_fits(folder.checkpoint, saved, model.state_dict())
        folder.make()
        with _open_record(folder, config, saved) as record:
            loop = Loop(config, task, model, remedies, applied, folder, record, data, tell)
            if saved is None:
                _describe(record, config, loop)
            else:
                loop.restore(saved)
                record.event(loop.progress.step, "resumed", "gone on after an interruption")
            tell(_started(config, task, model, loop, str(device)))
            return _train(loop)


def pick_device(config: TrainConfig) -> torch.device:
    """Return where to train.

    Raises:
        InputError: A GPU was asked for by name and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here; give --device cpu")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _train(loop: Loop) -> Outcome:
    lag = loop.config.lag if loop.config.lag is not None else loop.task.required_lag
    seen = watch(
        loop.model,
        loop.optimizer,
        record=loop.record,
        lag=lag,
        budget=loop.config.budget,
        start_step=loop.progress.step,
    )
    with Interrupt() as interrupt:
        with seen:
            gradient = Gradient(loop.model, loop.config.clip, loop.treatments, seen)
            end = loop.run(gradient, interrupt)
        if end == "interrupted":
            step = loop.progress.step
            loop.record.event(step, "interrupted", f"stopped at step {step}; --resume goes on")
            return _outcome(loop, end, seen, [])
        return _finish(loop, end, seen)


def _finish(loop: Loop, end: End, seen: Watch) -> Outcome:
    """Score the best weights, write everything down, and only then call the run finished."""
    loop.model.load_state_dict(loop.best)
    _, total = loop.evaluate("test")
    scores = loop.task.scores(loop.config.cell, total) + loop.task.naive("test")
    step = loop.progress.step
    loop.record.event(step, end, loop.why)
    loop.record.note("scores", [asdict(score) for score in scores])
    if end == "diverged":  # the loss may be lost where no gradient was
        loop.record.note("verdict", "nonfinite")
    best = {name: t.cpu().contiguous() for name, t in loop.best.items()}
    replace_file(loop.folder.weights, save(best, metadata={"steadygrad": "weights"}))
    loop.save(status=end)
    return _outcome(loop, end, seen, scores)


def beats_naive(scores: list[Score]) -> bool:
    """Whether our score beats every naive answer by the deciding figure, the first one."""
    ours = next(score for score in scores if score.ours)
    rivals = [score for score in scores if not score.ours and score.unit == ours.unit]
    return all(ours.beats(rival) for rival in rivals)


def _outcome(loop: Loop, end: End, seen: Watch, scores: list[Score]) -> Outcome:
    return Outcome(
        status=end,
        verdict="nonfinite" if end == "diverged" else seen.verdict,
        scores=tuple(scores),
        beats_naive=beats_naive(scores) if scores else None,
        text=loop.why,
        step=loop.progress.step,
        seconds=loop.progress.seconds,
        record=loop.folder.record,
        weights=loop.folder.weights if scores else None,
        findings=tuple(finding.to_record() for finding in seen.findings),
        notes=loop.task.notes,
    )


def _open_record(folder: Folder, config: TrainConfig, saved: Checkpoint | None) -> Record:
    if saved is None:
        # Without a checkpoint there is nothing to lose: `earlier_run` has refused all else. The
        # old checkpoint goes first, or a kill now would leave it beside a record of another run.
        folder.checkpoint.unlink(missing_ok=True)
        folder.weights.unlink(missing_ok=True)
        return Record.create(folder.record, config=config.plain(), overwrite=True)
    record = Record.open(folder.record)
    record.truncate(saved.facts["progress"]["step"])
    return record


def _describe(record: Record, config: TrainConfig, loop: Loop) -> None:
    task = loop.task
    record.note("title", f"{config.cell} on {config.file.name}")
    record.note("kind", "train")
    record.note("lag", config.lag if config.lag is not None else task.required_lag)
    record.note("data", task.facts())
    record.note("model", describe(loop.model, config))
    record.note(
        "remedies",
        [
            {
                "name": remedy.name,
                "options": remedy.options,
                "claim": remedy.claim,
                "changed": applied.changed,
            }
            for remedy, applied in zip(loop.remedies, loop.applied, strict=True)
        ],
    )


def _started(
    config: TrainConfig, task: Task, model: SequenceModel, loop: Loop, device: str
) -> Started:
    return Started(
        title=f"{config.cell} on {config.file.name}",
        facts=task.facts(),
        notes=task.notes,
        parameters=sum(p.numel() for p in model.parameters()),
        device=device,
        folder=config.folder,
        step=loop.progress.step,
        max_steps=config.max_steps,
        batches=len(task.batches("train", config.batch_size)),
    )


@contextlib.contextmanager
def _settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Seed torch and set its threads; both are put back at the end."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        try:
            torch.set_num_threads(config.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)
