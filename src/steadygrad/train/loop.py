"""The training loop: steps, validations, checkpoints, interruption and rollback."""

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
from steadygrad.remedies import Course, Remedy, parse
from steadygrad.tasks import Batch, Split, Task
from steadygrad.train import checkpoint
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.checkpoint_facts import facts_of
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Listener, Remark, Saved, Stepped, Validated
from steadygrad.train.folder import Folder
from steadygrad.train.gradient import Gradient
from steadygrad.train.interrupt import Interrupt
from steadygrad.train.journal import Journal
from steadygrad.train.model import Carried, SequenceModel, detach
from steadygrad.train.progress import Progress, Status
from steadygrad.train.rescue import GOOD, HALVINGS, RATE, Cause, Losses, Rescue, remedy_for
from steadygrad.train.sharding import joined_state, own_state, share_of

GOOD_STATE = "good"  # prefix in a checkpoint of the state that a rollback restores
ADAM = ("step", "exp_avg", "exp_avg_sq")
COMMIT_EVERY = 1.0  # seconds between commits, the delay of a reader of the record
End = Literal["finished", "interrupted", "diverged"]


@final
class Loop:
    """One training run between its data and its files.

    Args:
        config: The options.
        task: Batches, loss and measure.
        model: The model with remedies applied, on its device.
        course: The remedies; their penalties are added to the minimised loss, not to the reported
            one.
        folder: Folder of the checkpoints.
        record: Record of every step.
        data: Fingerprint of the data, stored in the checkpoint.
        tell: Called with events.
        ranks: The processes that share each batch; only rank 0 writes and tells.
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
        self.why = ""  # why the run ended, in one sentence
        self.rescues: list[Rescue] = []
        self._good: Checkpoint | None = None  # restored if the training diverges
        self._losses = Losses()
        self._watch: Watch | None = None
        self._watched: tuple[WatchFacts, dict[str, Tensor]] | None = None  # before an interruption

    def restore(self, saved: Checkpoint) -> None:
        """Restore everything from a checkpoint.

        Raises:
            InputError: It does not fit this run.
        """
        facts = facts_of(saved.facts, str(self.folder.checkpoint))
        good = None
        if facts.good is not None:
            good = Checkpoint(saved.group(GOOD_STATE), facts.good)
        try:
            if good is not None:  # verified before it is needed
                self._restore(good)
            self._restore(saved)
        except (ValueError, TypeError, RuntimeError, KeyError, IndexError) as error:
            # The file is intact, but from another program or made by hand: torch raises all of
            # these.
            raise self._unfit(error) from None
        self._losses.restore(facts.losses)
        self._watched = facts.watch, saved.group("watch")
        self._good = good

    def fork(self, saved: Checkpoint, remedy: Remedy | None) -> str:
        """Begin at a state of another run, with one more remedy at work from here on.

        Weights, optimiser, place in the data and random state are taken up; what was best there and
        what was seen of it are not, nor are moments of the optimiser that are not finite.

        Returns:
            What the remedy changed, in plain words.

        Raises:
            InputError: The state does not fit.
            ValueError: The remedy does not suit the model.
        """
        self.restore(saved)
        self._watched, self._good, self.best = None, None, {}
        self._losses.clear()
        self.progress.begin_again()
        for parameter in list(self.optimizer.state):
            moments = self.optimizer.state[parameter].values()
            if not all(bool(torch.as_tensor(value).isfinite().all()) for value in moments):
                del self.optimizer.state[parameter]
        return "" if remedy is None else self.course.take(remedy)

    def watch(self, watch: Watch) -> None:
        """Train under this watch, restoring its state from before an interruption.

        Raises:
            InputError: What the checkpoint holds of the watch does not fit.
        """
        self._watch = watch
        if self._watched is not None:
            try:
                watch.restore(*self._watched)
            except ValueError as error:
                raise self._unfit(error) from None
            self._watched = None

    def _unfit(self, error: Exception) -> InputError:
        said = " ".join(str(error).split())[:300]
        return InputError(
            f"{self.folder.checkpoint}: cannot be restored ({said}); start again with --overwrite"
        )

    def _restore(self, saved: Checkpoint) -> None:
        """Restore the state of a checkpoint, or the last good state."""
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
        if "cpu" in random:  # absent for a rank beyond the number of processes at saving
            torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def _restore_moments(self, found: Mapping[str, Tensor]) -> None:
        """Restore the optimiser's state."""
        names = [name for name, _ in self.model.named_parameters()]
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in found.items():
            name, _, quantity = key.rpartition("/")
            if quantity not in ADAM:
                raise ValueError(f"optimizer/{key} is not a quantity of Adam")
            wanted = torch.Size() if quantity == "step" else shapes[name]
            _check_shape(f"optimizer/{key}", tensor, wanted)
            moments.setdefault(names.index(name), {})[quantity] = tensor
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict(whole | {"state": moments})

    def _carried(self, found: Mapping[str, Tensor]) -> Carried | None:
        """The state carried into the next batch."""
        parts = [found[name].to(self.device) for name in sorted(found, key=int)]
        layer = self.model.recurrent
        for number, part in enumerate(parts):
            if part.dim() != 3 or part.shape[0] != layer.num_layers or not len(part[0]):
                raise ValueError(f"state/{number} has shape {tuple(part.shape)}")
        if parts and len(parts) != len(cell_of(layer).states):
            raise ValueError(f"the state has {len(parts)} parts")
        return (tuple(parts) if len(parts) > 1 else parts[0]) if parts else None

    def save(self, status: Status = "running", outcome: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint; the record is committed first, so that it is never behind.

        Args:
            status: Whether the run is complete.
            outcome: Its outcome if it is.
        """
        self.progress.status = status
        self.record.commit()
        present = self.present(outcome)  # collects shares from all processes
        if self.ranks.is_first:
            checkpoint.write(self.folder.checkpoint, present)
        self.tell(Saved(self.progress.step, self.folder.checkpoint))

    def present(self, outcome: Mapping[str, Any] | None = None) -> Checkpoint:
        """The current state, with everything that determines how the run continues; see `state`."""
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
        """The state that a rollback restores: the training without its observations."""
        facts = {
            "config": self.config.fixed(),
            "data": self.data,
            "progress": self.progress.plain(),
            "rescues": [rescue.plain() for rescue in self.rescues],
        }
        return Checkpoint(self._tensors(), facts)

    def run(self, gradient: Gradient, interrupt: Interrupt, seen: Watch) -> End:
        """Train until the end, an interrupt, or a divergence that cannot be rolled back."""
        started = time.perf_counter() - self.progress.seconds
        saved = committed = time.perf_counter()
        if not self.best:  # a run resumed at step 0 has been validated already
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
                    break  # possibly in another epoch
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
        """Return mean loss and summed tally of the current weights over ``split``."""
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
        assert total is not None  # no split of a task is empty
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
        # Even for a non-finite loss, so that the watch finds the first bad tensor. The best
        # weights are stored separately.
        self.optimizer.step()
        # Step n is the n-th, counted from one: a checkpoint after n steps has rows up to n. Written
        # after the watch's values, to overwrite its norm "before", which is after the remedies.
        self.record.scalars(progress.step + 1, {"loss": value, "lr": rate, **gradient.norms()})
        if is_left_out:
            self.state = None  # its carried state is not finite either
        self._losses.see(value)
        if not math.isfinite(norm) or self._is_blown():
            self._diverged(value, norm)
            return False
        progress.step += 1
        progress.index += 1
        self.tell(Stepped(progress.step, progress.epoch, value, gradient.latest(), seconds))
        return True

    def _backward(self, batch: Batch) -> float:
        """Compute the gradient of the loss over the whole batch; return the loss."""
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
            loss = loss * (count / max(whole, 1))  # this rank's part of the full loss
        # A penalty is a mean over rows, or of weights alone: weight it by the share of rows.
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
        """Whether rollbacks are allowed and the loss is far above the untrained network's."""
        return self.config.rollbacks > 0 and self._losses.blown(self.progress.first)

    def _is_whole(self) -> bool:
        """Whether all weights are finite; otherwise skipping a step does not help."""
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def _keep_good(self) -> None:
        """Keep the current state for rollbacks."""
        if self.config.rollbacks:
            found = self._moment()
            tensors = {name: t.detach().cpu().clone() for name, t in found.tensors.items()}
            self._good = Checkpoint(tensors, found.facts)

    def _rescue(self, seen: Watch) -> bool:
        """Roll back to the last good state and continue with a remedy; False if none is left."""
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
        self._keep_good()  # with the remedy, so that a second rollback keeps it
        self._tell_rescue(rescue, seen)
        return True

    def _tell_rescue(self, rescue: Rescue, seen: Watch) -> None:
        """Record the rollback, and remove the records after the good state.

        They are removed only when the checkpoint is back there, too: after a kill in between, the
        record would lack steps that the old checkpoint holds.
        """
        findings = [finding.to_record() for finding in seen.findings]
        seen.rewind(rescue.back_to)
        data = rescue.plain() | {"findings": findings}
        self.record.event(rescue.back_to, "rollback", rescue.text, **data)
        self.tell(Remark("rollback", rescue.back_to, rescue.text))
        self.save()
        self.record.truncate(rescue.back_to)
        self.note_rescues()
        self.record.commit()

    def note_rescues(self) -> None:
        """Note the rollbacks, if there were any; also when a run is resumed, see `_tell_rescue`."""
        if self.rescues:
            self.record.note("rollbacks", [r.plain() for r in self.rescues])

    def _treat_again(self) -> None:
        """Apply the remedies of the rollbacks, in addition to the run's own."""
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
        """The states of this process's random generators."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return random


def _check_shape(name: str, found: Tensor, wanted: torch.Size) -> None:
    if found.shape != wanted:  # otherwise copy_ would broadcast it
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected {tuple(wanted)}")


@contextlib.contextmanager
def evaluating(model: SequenceModel) -> Iterator[None]:
    """Evaluation mode within the context."""
    model.eval()
    try:
        yield
    finally:
        model.train()
