"""The watch over a running training: measures, names, records, within a budget of time."""

import math
import shutil
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import _drawing
from steadygrad.diagnosis.budget import LOOK, Budget
from steadygrad.diagnosis.clip_check import ClipCheck, MisplacedClip
from steadygrad.diagnosis.judge import judge_history, judge_loss
from steadygrad.diagnosis.lag import steps_of
from steadygrad.diagnosis.plotting import new_axes, plot_flow
from steadygrad.diagnosis.prescribe import chosen_remedy, told
from steadygrad.diagnosis.scaled import Scaling
from steadygrad.diagnosis.schedule import Turns
from steadygrad.diagnosis.shared import check_whole, rows_here, unwrapped
from steadygrad.diagnosis.watching.breakage import Breakage
from steadygrad.diagnosis.watching.calls import Calls
from steadygrad.diagnosis.watching.clipping import Clipping
from steadygrad.diagnosis.watching.loss_watch import LossWatch
from steadygrad.diagnosis.watching.measurement import Look
from steadygrad.diagnosis.watching.notebook import NotebookOutput
from steadygrad.diagnosis.watching.optimizers import ReadyGradients, innermost
from steadygrad.diagnosis.watching.options import Options
from steadygrad.diagnosis.watching.probes import Probes
from steadygrad.diagnosis.watching.rest import Rest
from steadygrad.diagnosis.watching.saved import SERIES, SavedFinding, WatchFacts, packed, unpacked
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.diagnosis.watching.wires import AGAIN, Wires
from steadygrad.faults import NOT_JUDGED, Finding, LossFacts, Unjudged
from steadygrad.faults.leaking import LEAKS
from steadygrad.faults.no_zero_grad import ROW
from steadygrad.flow.capture import is_deep
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.live_depth import LiveDepth
from steadygrad.flow.marked import Marks
from steadygrad.flow.parameter_norms import (
    GradientNorm,
    NormBeforeClip,
    update_ratio,
    weight_norm,
)
from steadygrad.flow.through_time import TimeFlow
from steadygrad.loggers import Logger
from steadygrad.nn import Looped, cell_of
from steadygrad.ranks import Ranks
from steadygrad.record import Record
from steadygrad.remedies import Attached, Remedy, Treatment
from steadygrad.scan import trace

FIRST_JUDGEMENT = 20  # steps after which a training is judged between two looks, for the first time


class Watch:
    """Made by `watch`; acts by itself at every ``optimizer.step()``.

    Attributes:
        budget: Time spent, and the share allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: Record | None,
        scaler: torch.amp.GradScaler | None,
        ranks: Ranks,
        options: Options,
        loggers: Iterable[Logger] = (),
    ) -> None:
        check_whole(model)
        self._optimizer = optimizer = innermost(optimizer)
        self.model, self.ranks, self.record = model, ranks, record
        self.lag, self.rows, self.thresholds = (
            steps_of(options.lag),
            options.rows,
            options.thresholds,
        )
        every = options.every
        # Whether anything is judged between two looks: where the looks go by the budget.
        self._is_between_looks = every is None and ranks.is_alone
        self.budget = Budget(options.budget if every is None else 1.0)
        self._turns = Turns(ranks, self.budget, options.start_step, every)
        self._seen = Seen(model, optimizer, record, options, loggers)
        self._parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self._seen.weight_norm = weight_norm(self._parameters)
        self._gradient_norm = GradientNorm(self._parameters)
        self._depth = LiveDepth(model) if is_deep(model) else None
        self._marks = Marks(self.lag, 3, model)
        self._marks.open()
        # Without any layer that we know there may still be a loop that marks its states.
        self._capture = LiveCapture(model, rows_here(ranks, options.rows), may_be_empty=True)
        self._capture.__enter__()
        self._is_probed = options.input_probe and ranks.is_alone
        self._probes = Probes(self._capture.layers if self._is_probed else {}, self._seen)
        self._scaling = Scaling(optimizer, scaler)
        before_clip = NormBeforeClip(self._parameters)
        self._breakage = Breakage(model, self._seen, self._capture, ranks)
        self._clipping = Clipping(
            model, optimizer, self._seen, self._scaling, self._begun, before_clip
        )
        self._calls = Calls(options.start_step, options.thresholds)
        self._loss = LossWatch(unwrapped(model), optimizer, self._parameters)
        self._wires = Wires(unwrapped(model), optimizer, self._capture)
        self._loss.keep_graph(self._wires.wants_graph)
        self._look = Look(
            self._seen, self._capture, ranks, self._wires, self._depth, self._marks, self._calls
        )
        self._weights: list[Tensor] | None = None
        self._rest = self._new_rest()
        self._is_light = self._is_waking = False
        self._light_seconds, self._light_steps = 0.0, 0
        self._wakes_at, self._wakes_after = 0.0, 0
        self._next_judgement = self.step + FIRST_JUDGEMENT
        self._next_update = self.step
        self._facts = LossFacts(self._seen.history)
        self._judged_at = self.step
        self._is_closed = False
        self._served: _drawing.Served | None = None
        self._output: NotebookOutput | None = None
        self._owns_record = False
        self._check = ClipCheck(optimizer).__enter__() if options.check_clips else None
        self._handles = [
            optimizer.register_step_pre_hook(ReadyGradients(self._judge_step)),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self._trace()
        self.budget.start()
        self._sample_next(self._turns.is_asked(self.step + 1), may_rest=False)

    @property
    def is_closed(self) -> bool:
        """Whether the watch has ended; what it found stays readable."""
        return self._is_closed

    @property
    def step(self) -> int:
        """Training steps so far, ``start_step`` included."""
        return self._seen.step

    @property
    def findings(self) -> list[Finding]:
        """What is wrong as of the last measurement, worst first; a non-finite step stays."""
        self._read()
        return self._seen.findings

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement; without one ``"healthy"``.

        ``"not judged"`` where something that the task needs was not measured, or is not to be
        judged yet: `unjudged` says what, why, and what to do.
        """
        self._catch_up()
        return self._seen.verdict

    @property
    def unjudged(self) -> list[Unjudged]:
        """What a verdict needs and was not measured: why, and what to do about it."""
        self._catch_up()
        return self._seen.unjudged

    @property
    def flow(self) -> dict[str, TimeFlow]:
        """Per layer the last exact measurement."""
        return self._seen.flow

    @property
    def latest(self) -> dict[str, Any]:
        """Last numbers.

        ``grad_norm`` (before clipping), ``grad_norm_clipped``, ``clipped_share`` (of the last 100
        sampled steps), ``update_ratio``, ``horizon`` (the shortest of all layers), ``slope``,
        ``lyapunov_1`` and further (of the layer in which the first is largest, nats per step, if
        asked for), ``verdict``.
        """
        return self._seen.latest

    @property
    def norms(self) -> deque[float]:
        """Global norms before clipping of the last sampled steps, for `clip_advice`."""
        return self._clipping.norms

    @property
    def treatments(self) -> dict[Remedy, Treatment]:
        """What `clip_` works with, by remedy; each has a ``state_dict``."""
        return self._clipping.treatments

    @property
    def misplaced(self) -> list[MisplacedClip]:
        """Clips found in the wrong place, if ``check_clips`` was asked for."""
        return [] if self._check is None else self._check.found

    def clip_(self, bound: float | Remedy) -> Tensor:
        """Clip the gradients, in place of `torch.nn.utils.clip_grad_norm_`.

        Under a gradient scaler that the watch was given they are unscaled first, if need be.

        Args:
            bound: On the global norm; or any remedy that acts on gradients, such as
                ``sg.remedies.AutoClip()``.

        Returns:
            The norm before clipping.

        Raises:
            ValueError: The bound is not positive.
        """
        return self._clipping.clip(bound)

    def apply(self, remedy: str | Remedy | None = None) -> Attached:
        """Apply a remedy to the live model and its optimiser, between two steps.

        The training goes on with it, and so does the watch. What it forgets are the moments of
        the optimiser that belong to values that are gone.

        Args:
            remedy: One of the findings', as text, or any other; the first of the worst finding
                that has one if not given.

        Returns:
            What was changed; its ``undo()`` takes it back.

        Raises:
            ValueError: There is no remedy, or this one cannot be put to work from outside of the
                training loop; the message has the lines to paste. Nothing was changed.
        """
        chosen = chosen_remedy(remedy, self.findings, self.verdict)
        scaler, names = self._scaling.scaler, self._seen.options.names
        attached = Attached(chosen, self.model, self._optimizer, scaler, names)
        attached.on_undo(self._follow)
        self._follow()
        return attached

    def _follow(self) -> None:
        """Take up parameters and layers that have changed places."""
        if self._is_closed:
            return
        self._parameters[:] = [p for g in self._optimizer.param_groups for p in g["params"]]
        self._gradient_norm = GradientNorm(self._parameters)
        self._weights = None
        self._capture.reopen(self.model)
        self._probes.close()
        self._probes = Probes(self._capture.layers if self._is_probed else {}, self._seen)
        self._clipping.follow(self._parameters)
        self._rest = self._new_rest()
        self._wake()
        self._breakage.box.turn(is_light=False)
        self._trace()

    def _trace(self) -> None:
        """Read the cells: once per process and cell, about a second, which is not a step's cost."""
        for layer in self._capture.layers.values():
            if not isinstance(layer, Looped):
                trace(cell_of(layer))

    def loss(self, value: float | Tensor) -> None:
        """Tell the loss of this step, before ``optimizer.step()``.

        Some faults are told from a healthy training by the loss alone: steps that are too small,
        and a vanished gradient that the task did not need after all. Without it the watch says
        less, or says it later.
        """
        history = self._seen.history
        history.see_loss(self._loss.tell(value, history.kept[1] + 1))

    def rewind(self, step: int) -> None:
        """Forget what was found: the training has gone back to where it was after ``step``.

        The record is not touched; forget there with `Record.truncate`.
        """
        self._seen.rewind(step)
        self._turns.rewind(step)
        self._look.forget()
        self._next_judgement, self._facts = step + FIRST_JUDGEMENT, LossFacts(self._seen.history)
        self._next_update = step
        self._calls.forget()
        self._loss.forget()
        self._weights = None
        self._wake()
        self._capture.turn(True)
        self._breakage.box.turn(is_light=False)
        self._end_step()
        self._seen.settle()

    def state(self) -> tuple[WatchFacts, dict[str, Tensor]]:
        """Return what the watch has seen, so that a checkpoint can keep it."""
        seen, register, history = self._seen, self._seen.register, self._seen.history
        stride, told = history.kept
        facts = WatchFacts(
            seen.is_measured,
            {k: v for k, v in seen.latest.items() if isinstance(v, str | int | float)},
            seen.broken,
            tuple(register.findings),
            register.saved(),
            register.looks,
            tuple(SavedFinding(n, f) for n, found in self._calls.findings.items() for f in found),
            self._calls.has_seen,
            self._turns.begun,
            history.grows,
            stride,
            told,
            tuple(seen.gaps),
            tuple(seen.withheld),
            seen.weight_norm,
            seen.standing,
            tuple(seen.layers),
            tuple(history.changes),
            history.memory,
        )
        series = (history.before, history.after, history.update, history.loss)
        series = (*series, self._clipping.norms, self._clipping.were_clipped)
        return facts, {n: packed(s) for n, s in zip(SERIES, series, strict=True)}

    def restore(self, facts: WatchFacts, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned, before the first step of a resumed training.

        Raises:
            ValueError: It is not what `state` returns.
        """
        series = [unpacked(tensors, name) for name in SERIES]
        seen, history = self._seen, self._seen.history
        seen.was_measured, seen.broken = facts.measured, facts.broken
        seen.latest |= facts.latest
        seen.weight_norm = facts.weight_norm or seen.weight_norm
        seen.gaps, seen.withheld = list(facts.gaps), list(facts.withheld)
        seen.standing = facts.standing
        seen.layers = [dict(layer) for layer in facts.layers]
        seen.register.restore(facts.found, facts.raised, facts.looks)
        self._calls.restore(((s.name, s.finding) for s in facts.of_calls), facts.called)
        self._turns.resume(facts.begun)
        history.grows, history.memory = facts.grows, facts.memory
        history.restore(facts.stride, facts.told)
        history.changes.extend(facts.changes)
        kept = (history.before, history.after, history.update, history.loss)
        for mine, values in zip((*kept, self._clipping.norms), series, strict=False):
            mine.extend(values)
        self._clipping.were_clipped.extend(map(bool, series[-1]))
        seen.see_undecided()
        seen.settle()

    def close(self) -> None:
        """Remove every hook and write the final verdict into the record; idempotent."""
        if self._is_closed:
            return
        self._read()
        self._is_closed = True
        for handle in self._handles:
            handle.remove()
        self._probes.close()
        self._clipping.before.close()
        self._capture.close()
        self._marks.close()
        if self._depth is not None:
            self._depth.close()
        self._breakage.box.close()
        self._loss.close()
        if self._check is not None:
            self._check.close()
        self._write_notes()
        if self._output is not None:
            self._draw(self._output)
        self._seen.sinks.close()
        if self._owns_record and self.record is not None:
            self.record.close()

    def scalars(self) -> dict[str, float]:
        """`latest` without its texts: numbers alone, for a logger of your own."""
        return {k: float(v) for k, v in self.latest.items() if isinstance(v, int | float)}

    def save(self, path: str | Path) -> Path:
        """Write one offline HTML page of the training so far; the training goes on.

        With a record of the user's, the page is drawn from that; without one, from what the watch
        keeps in memory, coarser for long trainings.

        Returns:
            The page.
        """
        self._read()
        if not self._is_closed:
            self._write_notes()
        return _drawing.page(self._recorded, path)

    def serve(self, port: int = 0, trainer: str | None = None) -> _drawing.Served:
        """Serve a live page of this training on this machine, from now on, in a thread.

        Without a record of the user's one is begun in a temporary folder, with what the watch has
        kept so far. The page ends with its own ``close()``, or with the program.

        Args:
            port: To listen on; 0 takes a free one. A second call returns the same page.
            trainer: ``"module:function"`` or ``"file.py:function"``: gives the page its button
                "Try the cure". In a process of its own ``function(remedy, record)`` is called for
                each remedy that the findings suggest, and for None; it trains for a while from a
                checkpoint of yours, under a watch with this record. Without it the page only reads.

        Returns:
            The page: ``url``, its address with a secret token, and ``close()``.

        Raises:
            steadygrad.errors.InputError: starlette or uvicorn are not installed (the extra
                ``live``), or the port is taken.
        """
        if self._served is None:
            if self.record is None:
                folder = tempfile.mkdtemp(prefix="steadygrad-")
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                self.record = self._seen.sinks.begin(Path(folder) / "run.db", {"lag": self.lag})
                self._seen.record, self._owns_record = self.record, True
            if not self._is_closed:
                self._read()
                self._write_notes()
                self.record.commit()
            self._served = _drawing.serve([self.record.path], port, trainer)
        return self._served

    def show(self, every: float = 2.0) -> None:
        """Show this training in the output of a notebook's cell, redrawn while it runs.

        Call it in the cell that trains, before the loop. The output has the verdict, the latest
        numbers, the gradient by time step, and the findings with their patches; `close` draws it
        for the last time. It is drawn between two steps, and takes 5 % of the time at most.

        Args:
            every: Seconds between two drawings, at least.

        Raises:
            steadygrad.errors.InputError: No notebook is running; `serve` opens a page.
        """
        output = NotebookOutput(every)
        self._draw(output)
        self._output = output

    def _draw(self, output: NotebookOutput) -> None:
        began = time.monotonic()
        if not self._is_closed:
            self._write_notes()
        losses = self._seen.history.loss
        numbers = {"step": f"{self.step:,}", "loss": f"{losses[-1]:.4g}" if losses else None}
        numbers |= {name: f"{value:.3g}" for name, value in self.scalars().items()}
        table = _drawing.table(list(numbers), [list(numbers.values())])
        output.draw(table + _drawing.fragment(self._recorded), began)

    def plot(self, axes: Any = None) -> Any:
        """Draw on matplotlib's axes: the gradient left by steps back, and the norms so far.

        Args:
            axes: Two to draw on; new ones if not given.

        Returns:
            Both axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        left, right = axes = new_axes(2) if axes is None else axes
        plot_flow(left, self.flow, self.lag, self.thresholds.vanishing)
        left.set_title(f"step {self.step}: {self.verdict}")
        right.semilogy(list(self.norms))
        right.set_xlabel("sampled steps, the latest at the right")
        right.set_ylabel("gradient norm before clipping")
        return axes

    def _repr_html_(self) -> str:
        self._read()
        if not self._is_closed:
            self._write_notes()
        return _drawing.fragment(self._recorded)

    def _recorded(self, place: Path) -> Path:
        """The record of this training: the user's, or one at ``place`` of what is in memory."""
        memory = self._seen.sinks.memory
        if memory is not None:
            return memory.write(place, {"lag": self.lag})
        assert self.record is not None  # or there would be a memory
        if not self._is_closed:
            self.record.commit()
        return self.record.path

    def __str__(self) -> str:
        numbers = "   ".join(f"{k} {v:.3g}" for k, v in self.scalars().items())
        lines = [f"verdict: {self.verdict}   step {self.step}   {numbers}".rstrip()]
        for finding in self.findings:
            since = f"{finding.fault} in {finding.layer} since step {finding.step}"
            lines += [f"{since}: {finding.text}", *told(finding)]
        lines += [f"{NOT_JUDGED}: {gap.text}" for gap in self.unjudged]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Watch: step {self.step}, {self.verdict}>"

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _new_rest(self) -> Rest:
        capture, box = self._capture, self._breakage.box
        return Rest(unwrapped(self.model), capture, box, self._parameters)

    def _begun(self) -> object:
        """Tells one training step from the next, also where a scaler skips one."""
        return self._capture.begun, 0 if self._capture.is_on else self._breakage.box.begun

    def _sample_next(self, is_asked: bool, may_rest: bool) -> None:
        """Decide, before a step begins, what is measured at it."""
        is_on = self.budget.allows("sample")
        self._clipping.before.turn(is_on)
        self._capture.is_keeping = is_asked
        self._marks.is_looking = self._capture.is_keeping
        if self._depth is not None:
            self._depth.is_on = self._capture.is_keeping
        self._probes.turn(is_on)
        # A state that is handed on is compared over several borders of batches in a row.
        is_followed = self._calls.hands_on and self._turns.since_look(self.step) <= LEAKS
        is_caught = is_asked or is_followed or not may_rest
        if self._capture.is_on and not is_caught:
            self._calls.pause()
        self._capture.turn(is_caught)
        is_more = self._loss.output.is_on or self._update_is_due(self.step + 1)
        self._is_light = not (is_caught or is_on or is_more)
        self._breakage.box.turn(self._is_light)
        if self._is_light:
            self._plan_rest()

    def _plan_rest(self) -> None:
        """Set when the next step comes at which something is measured: by the clock or by steps."""
        budget, step = self.budget, self.step
        kinds = [LOOK, "sample", "update"]
        steps = self._next_update - 1
        if self._next_judgement > step + 1:
            steps = min(steps, self._next_judgement - 1)
        else:  # as soon as the budget allows it
            kinds.append("judge")
        told = self._loss.until_sample(self._seen.history.kept[1])
        if told is not None:
            steps = min(steps, step + told - 1)
        self._wakes_at = time.perf_counter() + min(map(budget.wait, kinds))
        self._wakes_after = steps

    def _may_rest(self) -> bool:
        may_rest = self._rest.may_follow()
        return (
            may_rest
            and self._is_between_looks
            and self._scaling.scaler is None
            and self._loss.gradients.is_over
            and self._loss.clips.is_settled
            and not self._look.follows_step
            and self._wires.steps > AGAIN
            and not self._marks.is_used
        )

    def _rests(self) -> bool:
        """Take a step at rest: as little as can be, as every step pays for it."""
        began = time.perf_counter()
        self._seen.step = step = self._seen.step + 1
        self._light_steps += 1
        if not self._rest.sentinel.is_fine():
            return False
        is_one = self._breakage.box.end_light()
        now = time.perf_counter()
        self._light_seconds += now - began
        self._is_waking = now >= self._wakes_at or step >= self._wakes_after or not is_one
        return True

    def _wake(self) -> None:
        """End a rest: count what it has cost, and its steps."""
        # Twice: what leads to the hooks, and the one on the model, are not in the time taken here.
        self.budget.add("step", 2 * self._light_seconds)
        self._wires.rested(self._light_steps)
        self._light_seconds, self._light_steps = 0.0, 0
        self._is_light = self._is_waking = False

    def _judge_step(self) -> None:
        if self._is_light:
            if self._rests():
                return
            self._wake()
        else:
            self._clipping.look_for_scaler()
            if self._scaling.skips:
                return
            self._seen.step += 1
        wants_graph = self._wires.wants_graph
        self._wires.see()
        began = time.perf_counter()
        norm, left = self._gradient_norm(), self._scaling.left
        norm = norm if left == 1 else norm / left
        finite = math.isfinite(float(norm))
        is_new = self._depth is None and self._calls.see(self._capture, self.step)
        if is_new and self._is_between_looks:
            self._seen.add(self._calls.told())
            self._seen.settle()
        if wants_graph:
            self._wires.look_at(self._loss.root)
        self._loss.gradients.end_step()
        self._loss.sample(self._seen.history, self._scaling)
        spent = time.perf_counter() - began
        for each in (self._capture, self._breakage.box, self._marks):
            spent += each.seconds
            each.seconds = 0.0
        self.budget.add("step", spent)
        if not finite:
            if self._breakage.see(norm):
                self._write_notes()
        elif self._clipping.is_asked:
            began = time.perf_counter() - self._clipping.before.seconds
            self._clipping.sample(norm)
            self._probes.sample(self._scaling.scale)
            self.budget.add("sample", time.perf_counter() - began)
        self._clipping.before.seconds = 0.0
        gradients = self._loss.gradients
        is_lost = self._loss.clips.end_step(self._scaling.scale)
        if is_lost or gradients.row == ROW or gradients.cleared == ROW:
            self._facts = facts = self._loss.of_steps(self._seen.history)
            self._seen.add(judge_loss(facts, self.thresholds))
            self._seen.settle()
        if self._wires.is_due:
            with self.budget.spend("wiring"):
                self._look.judge_wiring()
                self._write_notes()
        is_look = finite and self._has_calls() and self._turns.is_due(self.step)
        if is_look:
            self._turns.taken(self.step)
            is_small = self.ranks.is_alone and self.budget.is_tight
            with self.budget.spend(LOOK):
                scale = self._scaling.scale
                self._facts = facts = self._loss.facts(
                    self._seen.history, scale, self._seen.has_stood
                )
                self._look.measure(self._calls.findings, facts, scale, is_small)
                self._judged_at = self.step
                self._write_notes()
        elif self._is_between_looks and self.step >= self._next_judgement:
            self._judge_again()
        if is_look or (finite and self._is_between_looks and self._update_is_due(self.step)):
            self._next_update = self.step + max(1, (self.step - self._turns.begun) // 4)
            self._weights = [p.detach().clone() for p in self._parameters]

    def _update_is_due(self, step: int) -> bool:
        """Whether to measure the size of a step: a few of every stretch of the training.

        However short the training and tight the budget: a rate that decays is seen by the sizes of
        late steps, and their number grows with the logarithm of the steps alone.
        """
        return step >= self._next_update or self.budget.allows("update")

    def _catch_up(self) -> None:
        """Judge the measurements by the losses told since, before they are read."""
        if self._is_closed or not self.ranks.is_alone or self.step == self._judged_at:
            return
        self._judged_at = self.step
        if self.step > self._turns.begun:
            asked = self._loss.skill(self._seen.history, self._seen.has_stood)
            facts = replace(self._facts, skill=asked)
            self._look.judge_again(facts, is_read=True)

    def _read(self) -> None:
        """Get ready what somebody reads: as of now, and with remedies that were tried."""
        self._catch_up()
        if not self._is_closed and self.ranks.is_alone:
            self._seen.register.try_remedies()

    def _judge_again(self) -> None:
        if not self.budget.allows("judge"):
            return
        steps = self.step - self._turns.begun
        self._next_judgement = self.step + max(FIRST_JUDGEMENT, steps // 8)
        with self.budget.spend("judge"):
            facts = self._loss.facts(self._seen.history, self._scaling.scale, self._seen.has_stood)
            if facts.answers is None:  # the loss of this step was not told
                facts = replace(facts, answers=self._facts.answers)
            self._facts = facts
            if self._look.judge_again(facts):
                self._turns.demand(self.step)

    def _has_calls(self) -> bool:
        # With others, that this process saw none must not keep it from taking part.
        if not self.ranks.is_alone:
            return True
        if self._marks.has_seen:
            return True
        if self._depth is not None:
            return self._depth.has_seen
        return bool(self._capture.calls) and self._capture.can_be_measured

    def _after_step(self, *_: Any) -> None:
        if self._is_light:
            if not self._is_waking:
                return
            self._wake()
        if self._weights is not None:
            with self.budget.spend("update"):
                ratio = update_ratio(
                    self._weights, [p.detach() for p in self._parameters], self._seen.weight_norm
                )
                self._weights = None
                self._see_update(ratio)
        if self._look.follows_step:
            with self.budget.spend("states"):
                self._look.after_step()
        may_rest = self._may_rest()
        is_asked = self._end_step()
        self._seen.sinks.commit_if_due()
        if self._output is not None and self._output.is_due:
            self._draw(self._output)
        self._sample_next(is_asked, may_rest)

    def _see_update(self, ratio: float) -> None:
        seen, thresholds = self._seen, self.thresholds
        seen.history.update.append(ratio)
        seen.scalars({"update_ratio": ratio})
        if ratio >= thresholds.update_replaces:  # the next look may come too late
            seen.add(judge_history(seen.history, thresholds))
            seen.settle()

    def _end_step(self) -> bool:
        """Forget the step; whether the next one may be looked at."""
        is_asked = self._turns.is_asked(self.step + 1)
        is_judged = is_asked or (
            self._is_between_looks
            and self.step + 1 >= self._next_judgement
            and self.budget.allows("judge")
        )
        self._loss.end_step(is_judged, self._seen.history.kept[1])
        self._loss.keep_graph(self._wires.wants_graph)
        self._clipping.end_step()
        self._capture.clear()
        self._marks.clear()
        if self._depth is not None:
            self.budget.add("hooks", self._depth.seconds)
            self._depth.seconds = 0.0
            self._depth.clear()
        self._breakage.box.clear()
        return is_asked

    def _write_notes(self) -> None:
        self._seen.write_notes(self.budget.spent / max(self.budget.elapsed, 1e-9))
