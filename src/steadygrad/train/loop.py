"""The training loop: steps, validations, checkpoints, and a stop between any two steps."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from steadygrad.diagnosis import Watch
from steadygrad.diagnosis.watching.saved import WatchFacts
from steadygrad.errors import InputError
from steadygrad.nn import cell_of
from steadygrad.ranks import Ranks, lost
from steadygrad.remedies import Course, parse
from steadygrad.tasks import Batch, Split, Task
from steadygrad.train import checkpoint
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Listener, Remark, Saved, Stepped, Validated
from steadygrad.train.folder import Folder
from steadygrad.train.gradient import Gradient
from steadygrad.train.interrupt import Interrupt
from steadygrad.train.journal import Journal
from steadygrad.train.model import Carried, SequenceModel, detach
from steadygrad.train.progress import Progress, Status
from steadygrad.train.rescue import GOOD, HALVINGS, RATE, Cause, Losses, Rescue, remedy_for
from steadygrad.train.saved import facts_of
from steadygrad.train.sharding import joined_state, own_state, share_of

GOOD_STATE = "good"  # below it in a checkpoint: the state that a rollback goes back to
ADAM = ("step", "exp_avg", "exp_avg_sq")
COMMIT_EVERY = 1.0  # seconds: how far behind a reader of the record may be
End = Literal["finished", "interrupted", "diverged"]


@final
class Loop:
    """One training run between its data and its files.

    Args:
        config: The options.
        task: Batches, loss and measure.
        model: What is trained, remedies applied, on its device.
        course: The remedies; their penalties are added to the loss that is minimised, not to the
            one that is reported.
        folder: Where checkpoints go.
        record: Where every step is written down.
        data: Fingerprint of the data, kept in the checkpoint.
        tell: Is told what happens.
        ranks: The processes that share each batch; the first alone writes and tells.
    """

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        model: SequenceModel,
        course: Course,
        folder: Folder,
        record: Journal,
        data: str,
        tell: Listener,
        ranks: Ranks,
    ) -> None:
        self.config, self.task, self.model = config, task, model
        self.folder, self.record, self.data, self.tell = folder, record, data, tell
        self.ranks = ranks
        self.start_rate = config.settled(task.input_kind).learning_rate
        self.device = next(model.parameters()).device
        self.called: nn.Module = model
        if not ranks.is_alone:
            gpu = [self.device.index] if self.device.type == "cuda" else None
            self.called = DistributedDataParallel(model, device_ids=gpu)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=self.start_rate)
        self.course = course
        course.begin(self.optimizer)
        self.cause: Cause = "nonfinite"
        self.progress = Progress()
        self.state: Carried | None = None
        self.best: dict[str, Tensor] = {}
        self.why = ""  # one sentence: why the run ended
        self.rescues: list[Rescue] = []
        self._good: Checkpoint | None = None  # to go back to, if the training diverges
        self._losses = Losses()
        self._watch: Watch | None = None
        self._watched: tuple[WatchFacts, dict[str, Tensor]] | None = None  # before an interruption

    def restore(self, saved: Checkpoint) -> None:
        """Take up everything from a checkpoint.

        Raises:
            InputError: It does not hold what this run consists of.
        """
        facts = facts_of(saved.facts, str(self.folder.checkpoint))
        good = None
        if facts.good is not None:
            good = Checkpoint(saved.group(GOOD_STATE), facts.good)
        try:
            if good is not None:  # known to be sound before it is needed
                self._restore(good)
            self._restore(saved)
        except (ValueError, TypeError, RuntimeError, KeyError, IndexError) as error:
            # The file is whole, but of another program or made by hand: torch raises all of these.
            said = " ".join(str(error).split())[:300]
            raise InputError(
                f"{self.folder.checkpoint}: cannot be taken up ({said}); "
                "start again with --overwrite"
            ) from None
        self._losses.restore(facts.losses)
        self._watched = facts.watch, saved.group("watch")
        self._good = good

    def watch(self, watch: Watch) -> None:
        """Train under this watch, which goes on with what was seen before an interruption."""
        self._watch = watch
        if self._watched is not None:
            watch.restore(*self._watched)
            self._watched = None

    def _restore(self, saved: Checkpoint) -> None:
        """Take up the moment of a checkpoint, or of the last good state."""
        facts = facts_of(saved.facts)
        self.progress = facts.progress
        self.model.load_state_dict(saved.group("model"))
        self.best = saved.group("best")
        self.rescues = list(facts.rescues)
        self._treat_again()
        self._restore_moments(saved.group("optimizer"))
        self.course.load_state_dict(saved.tensors)
        self.state = own_state(self._carried(saved.group("state")), self.ranks)
        random = saved.group(f"rng{self.ranks.rank or ''}")
        if "cpu" in random:  # not of a process that was not there when the run was saved
            torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def _restore_moments(self, found: Mapping[str, Tensor]) -> None:
        """Take up what the optimiser remembers."""
        names = [name for name, _ in self.model.named_parameters()]
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in found.items():
            name, _, quantity = key.rpartition("/")
            if quantity not in ADAM:
                raise ValueError(f"optimizer/{key} is no quantity of Adam")
            wanted = torch.Size() if quantity == "step" else shapes[name]
            _check_shape(f"optimizer/{key}", tensor, wanted)
            moments.setdefault(names.index(name), {})[quantity] = tensor
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict(whole | {"state": moments})

    def _carried(self, found: Mapping[str, Tensor]) -> Carried | None:
        """The state that the next batch goes on with."""
        parts = [found[name].to(self.device) for name in sorted(found, key=int)]
        layer = self.model.recurrent
        for number, part in enumerate(parts):
            if part.dim() != 3 or part.shape[0] != layer.num_layers or not len(part[0]):
                raise ValueError(f"state/{number} has shape {tuple(part.shape)}")
        if parts and len(parts) != len(cell_of(layer).states):
            raise ValueError(f"the state has {len(parts)} parts")
        return (tuple(parts) if len(parts) > 1 else parts[0]) if parts else None

    def save(self, status: Status = "running", outcome: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint; the record is made permanent first, so it is never behind.

        Args:
            status: Whether the run has come to its end.
            outcome: If it has, what became of it.
        """
        self.progress.status = status
        self.record.commit()
        present = self.present(outcome)  # of which every process has some
        if self.ranks.is_first:
            checkpoint.write(self.folder.checkpoint, present)
        self.tell(Saved(self.progress.step, self.folder.checkpoint))

    def present(self, outcome: Mapping[str, Any] | None = None) -> Checkpoint:
        """The run as it stands, with all that decides how it goes on; see `state`."""
        moment = self._moment()
        tensors = dict(moment.tensors)
        facts = {
            **moment.facts,
            "losses": self._losses.plain(),
            "record": self.record.mark(),
            "good": None if self._good is None else self._good.facts,
            "outcome": outcome,
        }
        if self._good is not None:
            tensors |= {f"{GOOD_STATE}/{name}": t for name, t in self._good.tensors.items()}
        if self._watch is not None:
            watched, series = self._watch.state()
            facts["watch"] = asdict(watched)
            tensors |= {f"watch/{name}": t for name, t in series.items()}
        return Checkpoint(tensors, facts)

    def _moment(self) -> Checkpoint:
        """What a rollback goes back to: the training, without what has been seen of it."""
        facts = {
            "config": self.config.fixed(),
            "data": self.data,
            "progress": self.progress.plain(),
            "rescues": [rescue.plain() for rescue in self.rescues],
        }
        return Checkpoint(self._tensors(), facts)

    def run(self, gradient: Gradient, interrupt: Interrupt, seen: Watch) -> End:
        """Train until the end, an interrupt, or a loss that is lost and not to be rescued."""
        started = time.perf_counter() - self.progress.seconds
        saved = committed = time.perf_counter()
        if not self.best:  # a run resumed at step 0 was validated before it was saved
            self._validate()
            self.save()
        if self._good is None:
            self._keep_good()
        while not self._is_over():
            epoch = self.config.seed, self.progress.epoch
            batches = self.task.batches("train", self.config.batch_size, epoch)
            while self.progress.index < len(batches) and not self._is_over():
                batch = batches[self.progress.index]
                if not self._step(batch, gradient, time.perf_counter() - started):
                    if not self._rescue(seen):
                        return "diverged"
                    break  # perhaps into another epoch
                if self.progress.step % self.config.validate_every == 0:
                    self._validate()
                self.progress.seconds = (now := time.perf_counter()) - started
                is_due = now - saved > self.config.checkpoint_every_seconds
                is_stopped, is_due = self.ranks.any(interrupt.requested, is_due)
                if is_stopped:
                    self.save()
                    return "interrupted"
                if is_due:
                    self.save()
                    saved = committed = now
                elif now - committed > COMMIT_EVERY:
                    self.record.commit()
                    committed = now
            if self.progress.index >= len(batches):
                self.progress.epoch, self.progress.index = self.progress.epoch + 1, 0
        if self.progress.step % self.config.validate_every:
            self._validate()
        return "finished"

    def evaluate(self, split: Split) -> tuple[float, Tensor]:
        """Return mean loss and summed tally of the present weights over ``split``."""
        sums: list[tuple[float, float]] = []
        sizes: list[int] = []
        total: Tensor | None = None
        state: Carried | None = None
        with evaluating(self.model), torch.no_grad():
            for batch in self.task.batches(split, 4 * self.config.batch_size):
                share = share_of(batch, self.ranks, self.task.every_step)
                own = share.batch.to(self.device)
                outputs, state = self.model(own.inputs, None if batch.fresh else state)
                tally = self.task.tally(outputs, own.targets).cpu() * (share.rows > 0)
                count = float(tally[-1])
                sums.append((self._summed(self.task.loss(outputs, own.targets), count), count))
                sizes.append(batch.targets.numel())
                total = tally if total is None else total + tally
        assert total is not None  # no task has an empty part
        loss, count = self.ranks.sum_(torch.tensor(sums, dtype=torch.float64)).unbind(1)
        size = torch.tensor(sizes, dtype=torch.float64)
        mean = (loss / count.clamp(min=1) * size).sum() / size.sum()
        return float(mean), self.ranks.sum_(total)

    @staticmethod
    def _summed(loss: Tensor, count: float) -> float:
        """The sum of which ``loss`` is the mean over ``count`` answers."""
        return float(loss) * count if count else 0.0

    def _step(self, batch: Batch, gradient: Gradient, seconds: float) -> bool:
        """Train on one batch; False if loss or gradient is not finite."""
        progress = self.progress
        rate = progress.learning_rate(self.start_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        with lost():
            value = self._backward(batch)
        gradient.watch.loss(value)
        is_left_out = not math.isfinite(value) and gradient.leaves_out and self._is_whole()
        norm = gradient.clip() if math.isfinite(value) or is_left_out else math.nan
        # Also where the loss is lost: the watch looks at this moment, and names the first bad
        # tensor. The best weights are kept apart.
        self.optimizer.step()
        # Step n is the n-th, counted from one: a checkpoint after n steps holds rows up to n.
        # Written after the watch's, whose norm "before" comes after the remedies on gradients.
        self.record.scalars(progress.step + 1, {"loss": value, "lr": rate, **gradient.norms()})
        if is_left_out:
            self.state = None  # what it carries on is lost, too
        self._losses.see(value)
        if not math.isfinite(norm) or self._is_blown():
            self._diverged(value, norm)
            return False
        progress.step += 1
        progress.index += 1
        self.tell(Stepped(progress.step, progress.epoch, value, gradient.latest(), seconds))
        return True

    def _backward(self, batch: Batch) -> float:
        """Leave the gradient of the loss over the whole batch; return the loss."""
        share = share_of(batch, self.ranks, self.task.every_step)
        own = share.batch.to(self.device)
        state = None if batch.fresh else detach(self.state)
        outputs, self.state = self.called(own.inputs, state)
        loss = self.task.loss(outputs, own.targets)
        if self.ranks.is_alone:
            value = loss.item()
        else:
            tally = self.task.tally(outputs.detach(), own.targets)
            count = float(tally[-1]) * (share.rows > 0)
            value, whole = self.ranks.sum(self._summed(loss.detach(), count), count)
            value = value / max(whole, 1)
            loss = loss * (count / max(whole, 1))  # this process's part of the whole loss
        # A penalty is a mean over rows, or of weights alone.
        penalty = self.course.penalty(loss)
        ((loss + penalty * share.rows) * self.ranks.size).backward()
        return value

    def _diverged(self, loss: float, norm: float) -> None:
        step = self.progress.step + 1
        if math.isfinite(loss) and math.isfinite(norm):
            self.cause = "blown-up"
            self.why = (
                f"the loss was {loss:.3g} at step {step}, {self.progress.first:.3g} untrained"
            )
        else:
            self.cause = "nonfinite"
            what = "gradient" if math.isfinite(loss) else "loss"
            self.why = f"the {what} was not finite at step {step}"
        self.record.event(step, self.cause, self.why, loss=loss)
        self.tell(Remark(self.cause, step, self.why))

    def _is_blown(self) -> bool:
        """Whether the loss is far above the untrained network's; asked where it can be mended."""
        return self.config.rollbacks > 0 and self._losses.blown(self.progress.first)

    def _is_whole(self) -> bool:
        """Whether all weights are numbers: else no step can be left out, all would be."""
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def _keep_good(self) -> None:
        """Remember the present state as one to go back to."""
        if self.config.rollbacks:
            found = self._moment()
            tensors = {name: t.detach().cpu().clone() for name, t in found.tensors.items()}
            self._good = Checkpoint(tensors, found.facts)

    def _rescue(self, seen: Watch) -> bool:
        """Go back to the last good state, and on with a remedy; False if that is at its end."""
        if self._good is None or len(self.rescues) >= self.config.rollbacks:
            return False
        number, diverged_at = len(self.rescues) + 1, self.progress.step + 1
        undo = self.folder.before_rollback(number)
        if self.ranks.is_first:
            checkpoint.write(undo, self._good)
        seconds = self.progress.seconds
        self._restore(self._good)
        self.progress.seconds = seconds
        remedy = remedy_for(self.cause, self.rescues)
        back_to = self.progress.step
        rescue = Rescue(number, self.cause, diverged_at, back_to, remedy, self.why, undo.name)
        self.rescues.append(rescue)
        self._treat_again()
        if remedy == RATE:
            self.progress.halvings += HALVINGS
        self._losses.clear()
        self.why = ""
        self._keep_good()  # the same state, with the remedy: a second return keeps the first's
        self._tell_rescue(rescue, seen)
        return True

    def _tell_rescue(self, rescue: Rescue, seen: Watch) -> None:
        """Write it down: what came after the good state is forgotten, that it was is not."""
        findings = [finding.to_record() for finding in seen.findings]
        seen.rewind(rescue.back_to)
        self.record.truncate(rescue.back_to)
        data = rescue.plain() | {"findings": findings}
        self.record.event(rescue.back_to, "rollback", rescue.text, **data)
        self.record.note("rollbacks", [r.plain() for r in self.rescues])
        self.tell(Remark("rollback", rescue.back_to, rescue.text))
        self.save()

    def _treat_again(self) -> None:
        """Let the remedies of the rescues act, beside those that the run began with."""
        remedies = [parse(r.remedy) for r in self.rescues if r.remedy != RATE]
        for remedy in remedies[self.course.joined :]:
            self.course.join(remedy)

    def _validate(self) -> None:
        progress = self.progress
        loss, total = self.evaluate("val")
        figures = self.task.figures(total)
        is_best = progress.judge(loss)
        if is_best or not self.best:
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        first = next(iter(self.task.better))
        self.record.scalars(progress.step, {"val_loss": loss, f"val {first}": figures[first]})
        if loss <= GOOD * progress.best:
            self._keep_good()
        rate = progress.learning_rate(self.start_rate)
        self.tell(Validated(progress.step, progress.epoch, loss, figures, is_best, rate))

    def _is_over(self) -> bool:
        progress, config = self.progress, self.config
        reasons = (
            (progress.step >= config.max_steps, f"{config.max_steps} steps are done"),
            (
                config.epochs is not None and progress.epoch >= config.epochs,
                f"{config.epochs} epochs are done",
            ),
            (
                progress.stale >= config.patience,
                f"no better validation since step {progress.best_step}",
            ),
        )
        self.why = next((why for holds, why in reasons if holds), "")
        return bool(self.why)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
        tensors |= self.course.state_dict()
        joined = joined_state(self.state, self.ranks)
        state = (joined,) if isinstance(joined, Tensor) else joined or ()
        tensors |= {f"state/{number}": part for number, part in enumerate(state)}
        for rank, random in enumerate(self.ranks.gather(self._random())):
            tensors |= {f"rng{rank or ''}/{device}": t for device, t in random.items()}
        return tensors

    def _random(self) -> dict[str, Tensor]:
        """Where this process's random generators stand."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return random


def _check_shape(name: str, found: Tensor, wanted: torch.Size) -> None:
    if found.shape != wanted:  # copying would broadcast it
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected {tuple(wanted)}")


@contextlib.contextmanager
def evaluating(model: SequenceModel) -> Iterator[None]:
    """Switch dropout off for a while."""
    model.eval()
    try:
        yield
    finally:
        model.train()
