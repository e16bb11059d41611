"""The watch over a running training: measures, names, records, within a budget of time."""

import warnings
from collections import deque
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from steadygrad.diagnosis.black_box import BlackBox
from steadygrad.diagnosis.budget import Budget
from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.clip_check import ClipCheck, MisplacedClip
from steadygrad.diagnosis.data_rules import Leak, padding
from steadygrad.diagnosis.finding import Finding, Thresholds, verdict, worst_first
from steadygrad.diagnosis.history import History, judge_history
from steadygrad.diagnosis.judge import judge
from steadygrad.diagnosis.nonfinite import locate
from steadygrad.diagnosis.prescribe import prescribe
from steadygrad.diagnosis.recording import describe, write_flow
from steadygrad.diagnosis.register import Register
from steadygrad.diagnosis.scaled import Scaling
from steadygrad.diagnosis.shared import (
    check_whole,
    collected,
    first_broken,
    is_replicated,
    on_host,
    rows_here,
    unwrapped,
)
from steadygrad.diagnosis.turns import Turns
from steadygrad.flow import Call
from steadygrad.flow.input_probe import InputProbe
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.live_exponents import LiveExponents
from steadygrad.flow.parameter_norms import NormBeforeClip, gradient_norm, update_ratio
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.through_time import TimeFlow, flows_of
from steadygrad.nn import cell_of
from steadygrad.ranks import Ranks
from steadygrad.record import Record
from steadygrad.remedies import ClipNorm, Remedy, Treatment
from steadygrad.scan import trace

HISTORY = 512  # sampled steps that rules on the training as a whole look back on
UNSEEN = 3  # steps without a call of a recurrent layer, from the start, before that is said
CLIPPED_BEYOND = 1 + 1e-4  # a norm before over a norm after from which a step counts as clipped
NORMS = 10_000  # kept for an advice on clipping


class Watch:
    """Made by `watch`; acts by itself at every ``optimizer.step()``.

    Attributes:
        step: Training steps so far, ``start_step`` included.
        findings: What is wrong as of the last measurement, worst first; a non-finite step stays.
        flow: Per layer the last exact measurement.
        latest: Last numbers: ``grad_norm`` (before clipping), ``grad_norm_clipped``,
            ``clipped_share`` (of the last 100 sampled steps), ``update_ratio``, ``horizon``
            (the shortest of all layers), ``slope``, ``lyapunov_1`` and further (of the layer in
            which the first is largest, nats per step, if asked for), ``verdict``.
        budget: Time spent, and the share allowed.
        norms: Global gradient norms before clipping of the last sampled steps, for
            `steadygrad.clip_advice`.
        treatments: What `clip_` works with, by remedy; each has a ``state_dict``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: Record | None,
        lag: int | None,
        budget: float,
        start_step: int,
        rows: int,
        thresholds: Thresholds,
        input_probe: bool,
        scaler: torch.amp.GradScaler | None,
        check_clips: bool,
        exponents: int,
        ranks: Ranks,
        every: int | None,
        steps: int | None,
    ) -> None:
        check_whole(model)
        self.model = model
        self.ranks = ranks
        self._optimizer = optimizer
        self.norms: deque[float] = deque(maxlen=NORMS)
        self.treatments: dict[Remedy, Treatment] = {}
        self._scaling = Scaling(optimizer, scaler)
        self.lag = lag
        self.step = start_step
        self.thresholds = thresholds
        self.rows = rows
        self.record = record
        self.budget = Budget(budget if every is None else 1.0)
        self._turns = Turns(ranks, self.budget, start_step, every)
        self.flow: dict[str, TimeFlow] = {}
        self.latest: dict[str, Any] = {"verdict": "not measured yet"}
        self._parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self._capture = LiveCapture(model, rows_here(ranks, rows))
        self._capture.__enter__()
        self._probes = {
            name: InputProbe(layer)
            for name, layer in self._capture.layers.items()
            if input_probe and ranks.is_alone
        }
        self._before_clip = NormBeforeClip(self._parameters, not ranks.is_alone)
        self._clips: deque[bool] = deque(maxlen=100)
        self._register = Register(model, record)
        kept = [deque[float](maxlen=HISTORY) for _ in range(3)]
        self._history = History(*kept, optimizer=type(optimizer).__name__, planned=steps)
        self._exponents = LiveExponents(exponents, rows) if exponents else None
        self._start, self._has_seen = start_step, False
        self._black_box = BlackBox(unwrapped(model))
        self._leak = Leak()
        self._leaks: dict[str, Finding] = {}
        self._broken: Finding | None = None
        self._weights: list[Tensor] | None = None
        self._clip_norm: tuple[int, Tensor] | None = None
        self._is_skipped = False
        self._is_closed = False
        self._check = ClipCheck(optimizer).__enter__() if check_clips else None
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        for layer in self._capture.layers.values():
            trace(cell_of(layer))  # once per process and cell, about a second: not a step's cost
        self.budget.start()
        self._sample_next()

    @property
    def findings(self) -> list[Finding]:
        """What is wrong as of the last measurement, worst first."""
        broken = [self._broken] if self._broken else []
        return worst_first(broken + self._register.findings)

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement, or ``"healthy"``."""
        return verdict(self.findings) if self.flow or self._broken else "not measured yet"

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
        if not isinstance(bound, Remedy):
            if not bound > 0:
                raise ValueError(f"max_norm must be positive, got {bound}")
            bound = ClipNorm(bound)
        if bound not in self.treatments:
            scaler = self._scaling.scaler
            self.treatments[bound] = bound.begin(self.model, self._optimizer, scaler)
        treatment = self.treatments[bound]
        if isinstance(bound, ClipNorm) and bound.norm_type == 2:
            norm = treatment()["grad_norm"]
        else:  # not every remedy takes this norm on its way
            norm = treatment.norm()
            treatment()
        # The first clip of a step saw what backward had left; of a step that was skipped, nobody
        # asks any more.
        if self._clip_norm is None or self._clip_norm[0] != self._capture.begun:
            self._clip_norm = self._capture.begun, norm
        return norm

    def rewind(self, step: int) -> None:
        """Forget what was found: the training has gone back to where it was after ``step``.

        The record is not touched; forget there with `Record.truncate`.
        """
        self.step = step
        self._turns.rewind(step)
        self._broken, self._weights, self._clip_norm = None, None, None
        self._register.found = {}
        self._leaks, self._leak = {}, Leak()
        self._history.forget()
        self._capture.clear()
        self._black_box.clear()
        self.latest["verdict"] = self.verdict

    def loss(self, value: float | Tensor) -> None:
        """Tell the loss of this step, before ``optimizer.step()``.

        Some faults are told from a healthy training by the loss alone: steps that are too small,
        and a vanished gradient that the task did not need after all. Without it the watch says
        less, or says it later.
        """
        self._history.see_loss(float(value))

    def close(self) -> None:
        """Take every hook off and write the last word into the record; again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for handle in self._handles:
            handle.remove()
        for probe in self._probes.values():
            probe.close()
        self._before_clip.close()
        self._capture.close()
        self._black_box.close()
        if self._check is not None:
            self._check.close()
        self._write_notes()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _sample_next(self) -> None:
        """Decide, before a step begins, whether its cheap measurements are taken."""
        is_on = self.budget.allows("sample")
        self._before_clip.is_on = is_on
        self._capture.is_keeping = self._turns.is_asked(self.step + 1)
        for probe in self._probes.values():
            probe.is_on = is_on

    def _before_step(self, *_: Any) -> None:
        self._look_for_scaler()
        self._is_skipped = self._scaling.skips
        if self._is_skipped:
            return
        self.step += 1
        with self.budget.spend("step"):
            norm = gradient_norm(self._parameters) / self._scaling.left
            finite = bool(torch.isfinite(norm))
            self._see_states()
        if not finite:
            self._nonfinite(norm)
        elif self._before_clip.is_on or self._clip_norm is not None:
            with self.budget.spend("sample"):
                self._sample(norm)
        if finite and self._has_calls() and self._turns.is_due(self.step):
            with self.budget.spend("replay"):
                self._measure()
                self._weights = [p.detach().clone() for p in self._parameters]

    def _has_calls(self) -> bool:
        # With others, that this process saw none must not keep it from taking part.
        return bool(self._capture.calls) or not self.ranks.is_alone

    def _look_for_scaler(self) -> None:
        if self._scaling.look() and self._scaling.scale != 1 and self.treatments:
            raise RuntimeError(
                "w.clip_ has clipped gradients that a GradScaler had multiplied by "
                f"{self._scaling.scale:g}: make the watch with scaler=..., and it unscales them "
                "first"
            )

    def _see_states(self) -> None:
        self._has_seen = self._has_seen or bool(self._capture.calls)
        if not self._has_seen and self.step - self._start == UNSEEN:
            warnings.warn(
                f"no call of a recurrent layer was seen in {UNSEEN} steps: only norms can "
                "be measured. Does the training call this very model, with gradients on?",
                stacklevel=2,
            )
        for call in self._capture.calls:
            found = self._leak.see(call)
            if found:
                self._leaks[call.name] = found
            else:
                self._leaks.pop(call.name, None)

    def _after_step(self, *_: Any) -> None:
        if self._weights is not None:
            with self.budget.spend("update"):
                ratio = update_ratio(self._weights, [p.detach() for p in self._parameters])
                self._weights = None
                self._history.update.append(ratio)
                self._note_scalars({"update_ratio": ratio})
                if ratio >= self.thresholds.update_replaces:  # the next look may come too late
                    found = judge_history(self._history, self.thresholds)
                    self._register.update(
                        self._causes([*self._register.findings, *found]), self.step
                    )
                    self.latest["verdict"] = self.verdict
        self._clip_norm = None
        self._capture.clear()
        self._black_box.clear()
        self._sample_next()

    def _sample(self, after: Tensor) -> None:
        """Norm before and after clipping, and the input probes."""
        noted = self._before_clip.take()
        scale = self._scaling.scale
        noted = None if noted is None else noted / scale
        clipped = self._clip_norm
        is_of_this_step = clipped is not None and clipped[0] == self._capture.begun
        before = clipped[1] if clipped is not None and is_of_this_step else noted
        before = after if before is None else before
        self._history.before.append(float(before))
        self._history.after.append(float(after))
        self._clips.append(bool(before > after * CLIPPED_BEYOND))
        self.norms.append(float(before))
        self._note_scalars(
            {
                "grad_norm": float(before),
                "grad_norm_clipped": float(after),
                "clipped_share": sum(self._clips) / len(self._clips),
            }
        )
        for name, probe in self._probes.items():
            if self.record and probe.log10_grad is not None and probe.is_on:
                row = probe.log10_grad - np.log10(scale)
                self.record.row(self.step, "log10_grad_input", name, row, state="x")

    def _measure(self) -> None:
        """Replay a part of the batch and judge what came of the gradient.

        Of several processes the first does so, with rows of all, and tells the others.
        """
        leaks = {k: v for each in reversed(self.ranks.gather(self._leaks)) for k, v in each.items()}
        if self.ranks.is_alone:
            calls, gradients = self._capture.whole()
        else:
            parts = self._capture.parts()
            calls, gradients = collected(self.ranks, parts, self._capture.layers)
        if self.ranks.is_first:
            self._judge(calls, gradients, list(leaks.values()))
        if self.ranks.is_alone:
            return
        told = on_host(self.flow), self._register.found, self.latest
        self.flow, self._register.found, self.latest = self.ranks.from_rank(told)
        if not self.ranks.is_first:
            self._write_notes()

    def _judge(
        self, calls: list[Call], gradients: list[OutputGradient], leaks: list[Finding]
    ) -> None:
        # Averaged over processes: what went back in one of them counts for its share alone.
        scale = self._scaling.scale * self.ranks.size
        gradients = [
            (o if o is None else o / scale, tuple(g if g is None else g / scale for g in last))
            for o, last in gradients
        ]
        flows = flows_of(calls, gradients, self.lag, 3, self.rows, graph=False)
        if not flows:
            return
        self.flow = flows
        if self.record:
            for flow in flows.values():
                write_flow(self.record, self.step, flow)
        self._history.grows = any(
            float(f.by_lag.log10_ratio.max(initial=0)) > 1 for f in flows.values()
        )
        found = [f for flow in flows.values() for f in judge(flow, self.lag, self.thresholds)]
        found += judge_history(self._history, self.thresholds)
        pairs = zip(calls, gradients, strict=True)
        found += [f for call, g in pairs if (f := padding(call, g, self.thresholds))]
        self._register.update(self._causes([*found, *leaks]), self.step)
        horizons = [f.horizon for f in flows.values() if f.horizon is not None]
        slopes = [f.slope for f in flows.values() if f.slope is not None]
        if horizons:
            self._note_scalars({"horizon": min(horizons)})
        if slopes:
            self._note_scalars({"slope": min(slopes)})
        if self._exponents is not None:
            each = [e for call in calls for e in self._exponents.measure(call)]
            if each:  # the layer in which differences grow fastest, or die slowest
                top = max(each, key=lambda e: float(e[0]))
                self._note_scalars({f"lyapunov_{i + 1}": float(v) for i, v in enumerate(top)})
        self.latest["verdict"] = self.verdict
        self._write_notes()

    def _causes(self, found: list[Finding]) -> list[Finding]:
        return causes(found, self._register.found, self._history, self.thresholds)

    def _nonfinite(self, norm: Tensor) -> None:
        self._note_scalars({"grad_norm": float(norm)})
        if self._broken:
            return
        calls, gradients = self._capture.calls, self._capture.gradients
        found = locate(self.model, calls, gradients, self.step, self.rows)
        found, step = first_broken(self.ranks, found, self._black_box)
        self._broken = self._saved(prescribe(found, self.model), step)
        self.latest["verdict"] = self.verdict
        if self.record:
            self.record.finding(self.step, self._broken.to_record())
            self._event("nonfinite", self._broken.text)
        self._write_notes()

    def _saved(self, finding: Finding, step: bytes | str) -> Finding:
        """Save the step beside the record, and say in the evidence where, or why not."""
        if self.record is None:
            return finding
        path = self.record.path.with_name(f"nonfinite-{self.step}.safetensors")
        step = step or self._black_box.packed(finding)
        try:
            if isinstance(step, bytes):
                path.write_bytes(step)
        except OSError as error:  # a full disk must not end a training that is to be explained
            step = str(error)
        where = {"saved": path.name} if isinstance(step, bytes) else {"not_saved": step}
        return replace(finding, evidence={**finding.evidence, **where})

    def _note_scalars(self, values: dict[str, float]) -> None:
        self.latest |= values
        if self.record:
            self.record.scalars(self.step, values)

    def _event(self, kind: str, text: str) -> None:
        if self.record:
            self.record.event(self.step, kind, text)

    def _write_notes(self) -> None:
        if self.record is None:
            return
        self.record.note("verdict", self.verdict)
        self.record.note("lag", self.lag)
        self.record.note("optimizer", self._history.optimizer)
        self.record.note("layers", [describe(flow) for flow in self.flow.values()])
        self.record.note("thresholds", vars(self.thresholds))
        share = self.budget.spent / max(self.budget.elapsed, 1e-9)
        self.record.note("watch_share_of_time", float(np.round(share, 4)))


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    record: Record | None = None,
    lag: int | None = None,
    budget: float = 0.02,
    start_step: int = 0,
    rows: int = 8,
    thresholds: Thresholds | None = None,
    input_probe: bool = True,
    scaler: torch.amp.GradScaler | None = None,
    check_clips: bool = False,
    exponents: int = 0,
    ranks: Literal["auto", "all", "this"] = "auto",
    every: int | None = None,
    steps: int | None = None,
) -> Watch:
    """Watch a training; one line, in any loop, nothing else to call.

    At every ``optimizer.step()`` the gradient norm is checked; when something is not finite, the
    first bad tensor, layer, gate and time step are named. As often as the budget allows, the norms
    before and after clipping are taken, and the recurrent layers are replayed on a part of the
    batch for the exact gradient at every time step. Weights, gradients and random states are
    never changed, so a watched training ends bit-equal to an unwatched one.

    Gradients may be accumulated over micro-batches: the first ``rows`` rows of the whole step are
    replayed. A gradient scaler that is not given is found at its first step.

    Args:
        model: Any model that holds recurrent layers, torch.nn's or ours; compiled or not.
        optimizer: Its optimiser. A step that a gradient scaler skips is not seen, and no fault.
        record: Where to write; nothing is written if not given.
        lag: How many steps back the task needs the gradient to reach.
        budget: Share of the training time that measuring may take; tracing a cell, about a second
            once per process, comes on top, when the watch is made.
        start_step: Steps done before, when a training is resumed.
        rows: Sequences of the batch that a replay uses.
        thresholds: What counts as vanishing, exploding, dead.
        input_probe: Whether to probe the gradient at the layers' inputs, between replays.
        scaler: The gradient scaler, if one is used: gradients seen on their way back are scaled.
            `Watch.clip_` needs it.
        check_clips: Whether to look out for clips in the wrong place, see `clip_check`; each is
            warned of once, and stands in ``misplaced``.
        exponents: How many leading Lyapunov exponents to follow, at every replay; see
            `steadygrad.flow.lyapunov_exponents`.
        ranks: Whose rows of the batch are looked at: ``"all"`` processes' of `torch.distributed`,
            whose gradients are averaged; ``"this"`` one's; ``"auto"``: all if the model is in
            `torch.nn.parallel.DistributedDataParallel`. With all, the watch is made in every
            process, all have the same findings, and the record is given to the first alone; the
            gradient at the layers' inputs is not probed then.
        every: Measure at the first and every n-th step instead of within the budget, so that
            what is found does not depend on the speed of the machine.
        steps: How many steps are planned; some faults, such as a rate too low to get anywhere,
            are told sooner by it.

    Raises:
        ValueError: The model holds no recurrent layer, or its parameters are split over processes
            (FSDP2); the budget is no share; ``every`` or ``steps`` below 1.
        steadygrad.ranks.LostProcess: The watch was not made in every process.

    Example:
        >>> import torch
        >>> model = torch.nn.LSTM(4, 16)
        >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
        >>> w = watch(model, optimizer, lag=49)
        >>> for _ in range(3):
        ...     loss = model(torch.randn(50, 8, 4))[0][-1].pow(2).mean()
        ...     optimizer.zero_grad(); loss.backward()
        ...     norm = w.clip_(1.0)
        ...     _ = optimizer.step()
        >>> w.verdict
        'vanishing'
        >>> w.close()
    """
    for name, value in {"every": every, "steps": steps}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} counts training steps and must be at least 1, got {value}")
    if ranks not in ("auto", "all", "this"):
        raise ValueError(f"ranks must be 'auto', 'all' or 'this', got {ranks!r}")
    is_shared = ranks == "all" or (ranks == "auto" and is_replicated(model))
    return Watch(
        model,
        optimizer,
        record,
        lag,
        budget,
        start_step,
        rows,
        thresholds or Thresholds(),
        input_probe,
        scaler,
        check_clips,
        exponents,
        Ranks.everyone() if is_shared else Ranks(),
        every,
        steps,
    )
