"""Train on a file: read it, train, score the result beside naive answers, write the run."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from steadygrad.diagnosis import Watch, watch
from steadygrad.diagnosis.lag import Lag
from steadygrad.errors import InputError
from steadygrad.plain import Misfit, fit
from steadygrad.ranks import LostProcess, Ranks, joined
from steadygrad.record import Record
from steadygrad.remedies import parse
from steadygrad.tasks import Batch, Score, Task, understood
from steadygrad.tasks.intervals import MOST
from steadygrad.train import checkpoint
from steadygrad.train.build_model import Remedied, check_answers, remedied_model
from steadygrad.train.checkpoint import Checkpoint, check_fits
from steadygrad.train.checkpoint_facts import facts_of
from steadygrad.train.config import TrainConfig
from steadygrad.train.data import fingerprint, read_task
from steadygrad.train.events import (
    Ended,
    Event,
    Listener,
    Outcome,
    Read,
    Remark,
    Started,
    Understood,
)
from steadygrad.train.folder import Folder, earlier_run
from steadygrad.train.gradient import Gradient
from steadygrad.train.interrupt import Interrupt
from steadygrad.train.journal import Journal
from steadygrad.train.lag import lag_of
from steadygrad.train.loop import End, Loop, evaluating
from steadygrad.train.model import Carried, Ends, SequenceModel, describe
from steadygrad.train.model_file import facts_about, write_model
from steadygrad.train.model_outputs import show


@dataclass(frozen=True)
class Origin:
    """Where a fork begins: a state of another run, and what is different from there on.

    Attributes:
        saved: The state.
        remedies: Those of the other run.
        remedy: The one that is put to work in this run; None for none.
    """

    saved: Checkpoint
    remedies: tuple[str, ...]
    remedy: str | None


FEW = 500  # windows to evaluate after an interruption


def ignore(event: Event) -> None:
    """Ignore an event."""


def train(
    config: TrainConfig,
    tell: Listener = ignore,
    notes: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
) -> Outcome:
    """Train on ``config.file`` and score the result beside the naive answers.

    The run's folder receives ``run.db`` (the record), ``checkpoint.safetensors`` (to resume) and,
    at the end, ``model.safetensors`` (the best weights on the validation part). On the CPU, a run
    that was interrupted or killed at any moment and then resumed ends with the same weights, bit
    for bit, as an uninterrupted one.

    Under ``torchrun`` the processes share every batch: ``batch_size`` is the total, gradients are
    those of the loss over the whole batch, and only rank 0 writes and tells. A run may be resumed
    with another number of processes.

    Args:
        config: All options.
        tell: Called with each event.
        notes: Facts to note in the record of a new run, by name.
        origin: The state of another run to begin at; see `steadygrad.train.forking`.

    A completed run is not repeated: with ``resume`` its outcome is returned.

    Raises:
        InputError: File, options or folder cannot be used; nothing has been written.
        LostProcess: Another process of the training died; resume it.
    """
    with joined(config.device) as local:
        return _spread(config, tell, Ranks.everyone(), local, notes or {}, origin)


def _spread(
    config: TrainConfig,
    tell: Listener,
    ranks: Ranks,
    local: int | None,
    notes: Mapping[str, Any],
    origin: Origin | None,
) -> Outcome:
    """Train in one process, or as one of several."""

    def read() -> tuple[Task, torch.device, str]:
        config.check()
        progress = (lambda done, total: tell(Read(done, total))) if ranks.is_first else None
        return read_task(config, progress), pick_device(config, local), fingerprint(config.file)

    task, device, data = ranks.together(read)
    if ranks.is_first:
        tell(Understood(understood(task)))
    folder = Folder(config.folder)
    saved = ranks.together(lambda: earlier_run(folder, config, data), only_first=True)
    if saved is not None and saved.facts["progress"]["status"] != "running":
        return _ended(folder, saved, task)

    def made() -> Remedied:
        begun = config if origin is None else replace(config, remedies=origin.remedies)
        found = remedied_model(begun, task, device, ranks)
        if saved is not None:
            check_fits(folder.checkpoint, saved, found[0].state_dict())
        return found

    with _settings(config, device):
        model, course = ranks.together(made)
        if not ranks.is_first:  # weights are those of rank 0; later random draws differ by rank
            torch.manual_seed((config.seed + ranks.rank * 0x9E3779B97F4A7C15) % 2**63)
        ranks.together(folder.make, only_first=True)
        with _open_record(folder, config, saved, ranks) as record:
            journal = Journal(record)
            tell = tell if ranks.is_first else ignore
            loop = Loop(config, task, model, course, folder, journal, data, tell, ranks)
            if saved is None:
                if origin is not None:
                    notes = {**notes, "fork": _forked(loop, origin)}
                _describe(journal, config, loop, notes)
            else:
                ranks.together(lambda: loop.restore(saved))
                _tell_gap(loop, record)
                loop.note_rescues()
                journal.event(loop.progress.step, "resumed", "resumed after an interruption")
            tell(_started(config, task, model, loop, str(device)))
            try:
                lag = lag_of(config, task, ranks, tell)
                return _train(loop, lag)
            except LostProcess as error:
                raise LostProcess(f"{error}; {_how_to_go_on(loop)}") from None


def _forked(loop: Loop, origin: Origin) -> Mapping[str, Any]:
    """Take up the state of another run, with one more remedy; what was done, for the record."""
    remedy = None if origin.remedy is None else parse(origin.remedy)
    try:
        if remedy is not None:
            check_answers(remedy, loop.task)
        changed = loop.fork(origin.saved, remedy)
    except ValueError as error:
        raise InputError(f"{origin.remedy}: {error}") from None
    step, name = loop.progress.step, origin.remedy or "untreated"
    loop.record.note("title", f"{name}, from step {step}")
    loop.record.event(step, "forked", f"{name}: {changed or 'nothing changed'}")
    return {"step": step, "remedy": origin.remedy, "changed": changed}


def _how_to_go_on(loop: Loop) -> str:
    if not loop.folder.checkpoint.exists():
        return "nothing was saved yet"
    step = facts_of(checkpoint.read(loop.folder.checkpoint).facts).progress.step
    return (
        f"the last checkpoint is of step {step}: the same command with --resume continues from "
        "there"
    )


def pick_device(config: TrainConfig, local: int | None = None) -> torch.device:
    """Return the device to train on.

    Args:
        config: The options.
        local: Local rank under torchrun, which selects the GPU.

    Raises:
        InputError: The requested GPU does not exist.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here; give --device cpu")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local is not None and local >= torch.cuda.device_count():
        raise InputError(
            f"process {local} of this machine has no GPU of its own; there are "
            f"{torch.cuda.device_count()}: give torchrun a smaller --nproc-per-node, or --device "
            "cpu"
        )
    return torch.device("cuda") if local is None else torch.device("cuda", local)


def _train(loop: Loop, lag: Lag) -> Outcome:
    seen = watch(
        loop.model,
        loop.optimizer,
        record=loop.record.record,
        lag=lag,
        budget=loop.config.budget,
        start_step=loop.progress.step,
        ranks="this" if loop.ranks.is_alone else "all",
        steps=loop.config.max_steps if loop.config.epochs is None else None,
    )
    loop.watch(seen)
    with Interrupt(is_patient=not loop.ranks.is_alone) as interrupt:
        with seen:
            gradient = Gradient(loop.model, loop.config.clip, loop.course, seen)
            end = loop.run(gradient, interrupt, seen)
        if end == "interrupted":
            step = loop.progress.step
            if loop.ranks.is_first:
                _keep_model(loop, end)
            loop.record.event(step, "interrupted", f"stopped at step {step}; --resume continues")
            return _outcome(loop, end, seen, [])
        return _finish(loop, end, seen)


def _finish(loop: Loop, end: Literal["finished", "diverged"], seen: Watch) -> Outcome:
    """Score the best weights, write all results, and only then mark the run finished."""
    loop.model.load_state_dict(loop.best)
    _, total = loop.evaluate("test")
    scores = loop.task.scores(loop.config.cell, total) + loop.task.naive("test")
    margin = _margin(loop)
    step = loop.progress.step
    loop.record.event(step, end, loop.why)
    loop.record.note("scores", [asdict(score) for score in scores])
    if margin:
        loop.record.note("margin", margin)
    loop.record.note("verdict", _verdict(loop, end, seen))
    if loop.ranks.is_first:
        _keep_model(loop, end)
    outcome = _outcome(loop, end, seen, scores, margin)
    loop.save(end, asdict(outcome.ended()))
    return outcome


def _keep_model(loop: Loop, end: End) -> None:
    """Write the best weights with everything needed to use them, and examples of their output."""
    present = {name: t.detach().clone() for name, t in loop.model.state_dict().items()}
    loop.model.load_state_dict(loop.best)
    with evaluating(loop.model):
        # After Ctrl-C the user should not have to wait.
        most = FEW if end == "interrupted" else MOST
        shown = show(loop.task, loop.model, loop.device, most)
    loop.model.load_state_dict(present)
    if shown.note is not None:
        loop.record.note("shown", shown.note)
    intervals = None if shown.intervals is None else shown.intervals.plain()
    data, ends = loop.task.data_spec(), Ends.of(loop.task)
    facts = facts_about(loop.config, ends, data, intervals, end)
    write_model(loop.folder.weights, loop.best, facts)


def _ended(folder: Folder, saved: Checkpoint, task: Task) -> Outcome:
    """The outcome of a completed run, as it was returned then."""
    folder.sweep()  # the writer of its report may have been killed
    facts = facts_of(saved.facts, str(folder.checkpoint))
    try:
        ended = fit(Ended, facts.outcome, "outcome")
    except Misfit as error:
        raise InputError(f"{folder.checkpoint}: {error}; start again with --overwrite") from None
    return Outcome(
        **vars(ended),
        step=facts.progress.step,
        seconds=facts.progress.seconds,
        record=folder.record,
        weights=folder.weights if ended.scores else None,
        notes=task.notes,
        rollbacks=tuple(rescue.plain() for rescue in facts.rescues),
    )


def _margin(loop: Loop) -> str:
    """How the model compares with the best simple answer, in one sentence; "" if not measured."""
    state: Carried | None = None

    def predict(batch: Batch) -> Tensor:
        nonlocal state
        outputs, state = loop.model(batch.inputs.to(loop.device), None if batch.fresh else state)
        return outputs.cpu()

    with evaluating(loop.model), torch.no_grad():
        margin = loop.task.margin(predict)
    return "" if margin is None else margin.text


def _verdict(loop: Loop, end: End, seen: Watch) -> str:
    """The verdict of the watch; the loss may be non-finite without a non-finite gradient."""
    is_lost = end == "diverged" and loop.cause == "nonfinite"
    return "nonfinite" if is_lost else seen.verdict


def beats_naive(scores: list[Score]) -> bool:
    """Whether our score beats every naive answer by the deciding figure, the first one."""
    ours = next(score for score in scores if score.ours)
    rivals = [s for s in scores if not s.ours and not s.learnt and s.unit == ours.unit]
    return all(ours.beats(rival) for rival in rivals)


def _outcome(loop: Loop, end: End, seen: Watch, scores: list[Score], margin: str = "") -> Outcome:
    return Outcome(
        status=end,
        verdict=_verdict(loop, end, seen),
        scores=tuple(scores),
        beats_naive=beats_naive(scores) if scores else None,
        text=loop.why,
        step=loop.progress.step,
        seconds=loop.progress.seconds,
        record=loop.folder.record,
        weights=loop.folder.weights if loop.folder.weights.exists() else None,
        findings=tuple(finding.to_record() for finding in seen.findings),
        notes=loop.task.notes,
        rollbacks=tuple(rescue.plain() for rescue in loop.rescues),
        margin=margin,
        not_judged=tuple(gap.text for gap in seen.unjudged),
    )


@contextlib.contextmanager
def _open_record(
    folder: Folder, config: TrainConfig, saved: Checkpoint | None, ranks: Ranks
) -> Iterator[Record | None]:
    """The record of the run within the context, on rank 0 alone."""

    def opened() -> Record | None:
        return _opened(folder, config, saved) if ranks.is_first else None

    with ranks.together(opened) or contextlib.nullcontext() as record:
        yield record


def _opened(folder: Folder, config: TrainConfig, saved: Checkpoint | None) -> Record:
    if saved is None:
        # Without a checkpoint nothing can be lost: `earlier_run` has refused all other cases.
        folder.clear()
        record = Record.create(folder.record, config=config.plain(), overwrite=True)
        folder.sweep()
        return record
    record = Record.open(folder.record)
    folder.sweep()
    facts = facts_of(saved.facts)
    record.truncate(facts.progress.step, facts.record)
    return record


def _tell_gap(loop: Loop, record: Record | None) -> None:
    """Say which steps the record of a resumed run lacks, as after its file was copied in part."""
    step = loop.progress.step
    if record is None or record.last_step >= step:
        return
    text = (
        f"the record holds nothing of steps {record.last_step + 1} to {step}, which the checkpoint"
        f" holds: was {record.path.name} copied without {record.path.name}-wal? The training goes"
        " on; those steps are missing in its curves"
    )
    loop.record.event(step, "gap", text)
    loop.tell(Remark("gap", step, text))


def _describe(record: Journal, config: TrainConfig, loop: Loop, notes: Mapping[str, Any]) -> None:
    task = loop.task
    for key, value in notes.items():
        record.note(key, value)
    record.note("processes", loop.ranks.size)
    if "fork" not in notes:
        record.note("title", f"{config.cell} on {config.file.name}")
    record.note("kind", "train")
    record.note("data", task.facts())
    record.note("model", describe(loop.model, config, config.settled(task.input_kind).hidden))
    record.note(
        "remedies",
        [
            {
                "name": remedy.name,
                "options": remedy.options,
                "claim": remedy.claim,
                "changed": applied.changed,
            }
            for remedy, applied in zip(loop.course.remedies, loop.course.applied, strict=True)
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
        device=device if loop.ranks.is_alone else f"{device}, {loop.ranks.size} processes",
        folder=config.folder,
        step=loop.progress.step,
        max_steps=config.max_steps,
        batches=len(task.batches("train", config.batch_size)),
    )


@contextlib.contextmanager
def _settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Seed torch and set its threads; restore both at the end."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        try:
            torch.set_num_threads(config.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)
