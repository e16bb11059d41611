"""One look at a model: where its gradient gets to, and what is in the way."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steadygrad import _drawing
from steadygrad.diagnosis.caller import names_of
from steadygrad.diagnosis.causes import withheld
from steadygrad.diagnosis.coverage import LOOP, gaps, without_a_way_back
from steadygrad.diagnosis.judge import judge_call, judge_depth, judge_loss, judge_wiring, once
from steadygrad.diagnosis.lag import Lag, is_estimated, judge_flows, steps_of, to_record
from steadygrad.diagnosis.plotting import new_axes, plot_flow
from steadygrad.diagnosis.prescribe import Prescriber, chosen_remedy, told
from steadygrad.diagnosis.recording import describe, write_flow
from steadygrad.diagnosis.shared import looking_alone
from steadygrad.diagnosis.standing import standing
from steadygrad.diagnosis.trial import Batch, Trial
from steadygrad.faults import (
    NOT_JUDGED,
    CallFacts,
    Finding,
    LossFacts,
    Thresholds,
    Unjudged,
    verdict,
    worst_first,
)
from steadygrad.faults.history import of_losses
from steadygrad.faults.layer import times
from steadygrad.flow import Measured, TimeFlow, gradient_through_time
from steadygrad.flow.axes import axes, from_zero
from steadygrad.flow.capture import is_deep, measurable_layers
from steadygrad.flow.marked import Marks
from steadygrad.flow.padding import padded_loss
from steadygrad.flow.quantity import at_look
from steadygrad.flow.quantity import to_record as quantities_noted
from steadygrad.flow.skill import skill
from steadygrad.flow.through_depth import DepthCurve, measured_through_depth, of_norms
from steadygrad.record import Record
from steadygrad.remedies import Attached, Remedy
from steadygrad.tasks.lag_estimate import LagEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LAYERS = 24  # shown when a diagnosis is printed


class Flows(Mapping[str, TimeFlow]):
    """Flows by layer name; a wrong name is answered with the right ones."""

    def __init__(self, flows: dict[str, TimeFlow]) -> None:
        self._flows = flows

    def __getitem__(self, name: str) -> TimeFlow:
        if name not in self._flows:
            raise KeyError(f"no layer {name!r}; there are: {', '.join(self._flows)}")
        return self._flows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flows)

    def __len__(self) -> int:
        return len(self._flows)


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `print` it, or `save` it as a page.

    Attributes:
        verdict: The worst of the findings' faults; without one ``"healthy"``, if everything that
            the task needs was measured, or ``"not judged"``.
        findings: Worst first.
        unjudged: What was not measured of what a verdict needs: why, and what to do.
        flow: Per layer the gradient at every time step, and what follows from it.
        loss: Value of the loss.
        lag: Steps back that the task needs, if known.
        estimate: How that was estimated; None if it was given.
        model: What was looked at.
        parameter_norms: Norm of the gradient of every parameter.
        thresholds: What decided.
        depths: What of the gradient reaches each layer: of every stack of recurrent layers, or of
            all layers of a model without recurrence.
    """

    verdict: str
    findings: list[Finding]
    flow: Flows
    loss: float
    lag: int | None
    parameter_norms: dict[str, float | None]
    thresholds: Thresholds
    estimate: LagEstimate | None = None
    depths: tuple[DepthCurve, ...] = ()
    model: nn.Module | None = field(default=None, repr=False, compare=False)
    unjudged: tuple[Unjudged, ...] = ()

    def apply(
        self,
        remedy: str | Remedy | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> Attached:
        """Apply a remedy to the live model, and to its optimiser if there is one already.

        Args:
            remedy: One of the findings', as text, or any other; the first of the worst finding
                that has one if not given.
            optimizer: That holds the model's parameters; it then trains those that are new, too.
                Make it after this call otherwise.
            scaler: The gradient scaler, if one is used.

        Returns:
            What was changed; its ``undo()`` takes it back.

        Raises:
            ValueError: There is no remedy, or this one cannot be put to work from outside of the
                training loop; the message has the lines to paste. Nothing was changed.
        """
        assert self.model is not None  # `diagnose` gives it
        chosen = chosen_remedy(remedy, self.findings, self.verdict)
        return Attached(chosen, self.model, optimizer, scaler, names_of(self.model, optimizer))

    def __str__(self) -> str:
        lines = [f"verdict: {self.verdict}   loss {self.loss:.4g}   " + self._lag_text()]
        lines += self._table() if self.flow else []
        for depth in self.depths:
            lines += ["", *depth_lines(depth)]
        for finding in self.findings:
            lines += ["", f"{finding.fault}: {finding.text}"]
            lines += told(finding)
        for gap in self.unjudged:
            lines += ["", f"{NOT_JUDGED}: {gap.text}"]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        width = max((len(name) for name in self.flow), default=5)
        head = f"{'layer':<{width}}  {'steps':>6} {'horizon':>8} {'decades/step':>13}"
        lines = ["", head + f" {'log10 ratio':>12}"]
        for name, flow in list(self.flow.items())[:MOST_LAYERS]:
            slope = "-" if flow.slope is None else f"{flow.slope:+.3f}"
            reach = flow.left.max_lag
            ratio = "-"
            if reach > 0:
                ratio = f"{flow.left.at(reach if self.lag is None else self.lag):.1f}"
            lines.append(
                f"{name:<{width}}  {flow.time_steps:>6} {_horizon(flow):>8} {slope:>13} {ratio:>12}"
            )
        if len(self.flow) > MOST_LAYERS:
            lines.append(f"and {len(self.flow) - MOST_LAYERS} more")
        return lines

    def _lag_text(self) -> str:
        if not self.flow:
            return "no recurrence: judged in depth"
        if self.estimate is not None:
            return self._estimate_text(self.estimate)
        if self.lag is None:
            return "vanishing was not checked because no lag was given; pass lag=N"
        return f"required lag {self.lag}"

    def _estimate_text(self, estimate: LagEstimate) -> str:
        if self.lag is not None:
            return f"estimated lag {self.lag}: {estimate.text}"
        why = " what is far is worth little beside what is near;" if estimate.lag else ""
        return f"{estimate.text};{why} vanishing was not checked"

    @property
    def log10_ratio(self) -> float:
        """Gradient left at the lag, or at the longest, all the way to the lowest layers.

        The smallest of these; NaN if it is NaN in any, or was measured in none.
        """
        lowest = [flow.left for flow in self.flow.values() if flow.is_lowest]
        curves = [curve for curve in lowest if curve.max_lag > 0]
        left = [c.at(c.max_lag if self.lag is None else self.lag) for c in curves]
        return math.nan if not left or any(map(math.isnan, left)) else min(left)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "verdict": self.verdict,
            "loss": self.loss,
            **self._lag_notes(),
            "findings": [f.to_record() for f in self.findings],
            "not_judged": [gap.to_record() for gap in self.unjudged],
            "layers": [describe(flow) for flow in self.flow.values()],
            "log10_grad": {n: f.log10_grad.tolist() for n, f in self.flow.items()},
            "log10_ratio_by_lag": {n: f.left.log10_ratio.tolist() for n, f in self.flow.items()},
            "quantities": at_look(self.flow),
            "parameter_norms": self.parameter_norms,
        }

    def _lag_notes(self) -> dict[str, Any]:
        return to_record(self.lag if self.estimate is None else self.estimate)

    def record(self, path: str | Path) -> Path:
        """Write a record of this one look, for `steadygrad.report`."""
        with Record.create(path, config={"lag": self.lag}, overwrite=True) as rec:
            rec.scalars(0, {"loss": self.loss, **at_look(self.flow)})
            rec.note("quantities", quantities_noted())
            for flow in self.flow.values():
                write_flow(rec, 0, flow)
            for finding in self.findings:
                rec.finding(0, finding.to_record())
            rec.note("kind", "diagnose")
            rec.note("verdict", self.verdict)
            rec.note("not_judged", [gap.to_record() for gap in self.unjudged])
            for name, value in self._lag_notes().items():
                rec.note(name, value)
            rec.note("layers", [describe(flow) for flow in self.flow.values()])
            rec.note("thresholds", vars(self.thresholds))
        return Path(path)

    def save(self, path: str | Path) -> Path:
        """Write one offline page, HTML or PDF; it replaces the file in one step."""
        return _drawing.page(self.record, path)

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw what is left of the gradient by steps back on matplotlib's axes.

        Args:
            axes: To draw on; new ones if not given.

        Raises:
            ImportError: matplotlib is not installed.
        """
        drawn = new_axes() if axes is None else axes
        plot_flow(drawn, self.flow, self.lag, self.thresholds.vanishing)
        drawn.set_title(self.verdict)
        return drawn

    def _repr_html_(self) -> str:
        return _drawing.fragment(self.record)


def depth_lines(depth: DepthCurve) -> list[str]:
    """The gradient layer by layer, in a few lines."""
    layer, share = depth.lowest
    top = depth.layers[-1]
    lines = [f"in depth, {len(depth.layers)} layers: at {layer} {times(share)} of that at {top}"]
    if -6 < share < -3:
        lines.append(
            "  so little that an optimiser has to rescale it, as Adam does and SGD does not"
        )
    return lines


def _horizon(flow: TimeFlow) -> str:
    if flow.horizon is None:
        return "-"
    return f">={flow.horizon}" if flow.horizon == flow.left.max_lag else str(flow.horizon)


def diagnose(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    lag: Lag = None,
    *,
    thresholds: Thresholds | None = None,
    sources: int = 5,
    rows: int | None = None,
    losses: Sequence[float] = (),
) -> Diagnosis:
    """Measure the gradient at every time step of every recurrent layer, and judge it.

    The model is not touched: weights, ``.grad`` and random states stay as they are.

    Args:
        model: Any model that holds recurrent layers, torch.nn's or ours.
        loss_fn: Computes the scalar loss of one batch with ``model``.
        lag: How many steps back the task needs the gradient to reach. Without it the memory
            horizon is measured, and vanishing is not checked; of a model without recurrence, whose
            layers are judged in depth, there is none to give. Or what
            `steadygrad.tasks.estimate_lag` found, and findings say that it is an estimate.
        thresholds: What counts as vanishing, exploding, dead; see `Thresholds` for the defaults.
        sources: Where the loss enters at many steps, from how many to measure (median).
        rows: Sequences of the batch to use at most; all if not given.
        losses: Of the training so far, step by step. With them a lag that is only estimated accuses
            no network whose loss still falls.

    Raises:
        ValueError: No layer to look at, none called, a loss that is no scalar, a negative lag, or
            one for a model without recurrence; a model in DistributedDataParallel, or split over
            processes.

    Example:
        >>> import torch
        >>> model = torch.nn.LSTM(4, 16)
        >>> x = torch.randn(100, 8, 4)
        >>> d = diagnose(model, lambda: model(x)[0][-1].pow(2).mean(), lag=99)
        >>> d.verdict
        'vanishing'
    """
    steps, estimate = steps_of(lag), lag if isinstance(lag, LagEstimate) else None
    thresholds = thresholds or Thresholds()
    marks, gap = Marks(steps, sources, model), []
    with looking_alone(model), marks:
        if next(measurable_layers(model), None) is None:
            measured, gap = _without_recurrence(model, loss_fn, lag, marks)
        else:
            measured = gradient_through_time(model, loss_fn, lag=steps, sources=sources, rows=rows)
    measured = replace(measured, flows=marks.flows() | measured.flows)
    depths = [flow.depth for flow in measured.flows.values()]
    depths = tuple(d for d in [*depths, measured.depth] if d is not None)
    found = judge_flows(measured.flows, lag, thresholds)
    if measured.depth is not None:
        found += judge_depth(measured.depth, thresholds)
    history = of_losses(losses)
    unjudged: list[Unjudged] = gap
    if losses and not history.rests():
        held = {id(f) for f in found if is_estimated(f)}
        unjudged += withheld(found, history, held)
        found = [f for f in found if id(f) not in held]
    shapes: dict[str, tuple[int, int]] = {}
    for call, gradient in measured.borders:
        lies = axes(call, gradient)
        if lies is not None:
            shapes[call.name] = lies.steps, lies.rows
        found += judge_call(
            CallFacts(call.name, padded_loss(call, gradient), axes=lies), thresholds
        )
    answers = measured.answers
    tallies = [] if answers is None or answers.tally is None else [answers.tally]
    of_loss = LossFacts(history, answers, measured.slips, skill=skill(tallies))
    found += judge_loss(of_loss, thresholds)
    for name, count in from_zero([call for call, _ in measured.borders]).items():
        found += judge_call(CallFacts(name, from_zero=count), thresholds)
    found += [f for w in measured.wirings for f in judge_wiring(w, thresholds)]
    prescriber = Prescriber(model, names_of(model))
    calls = [call for call, _ in measured.borders]
    gradients = [gradient for _, gradient in measured.borders]
    trial = Trial(model, Batch(calls, gradients, lag, thresholds))
    findings = [prescriber.tried(prescriber.prescribe(finding), trial) for finding in once(found)]
    if measured.depth is None:  # without a recurrence, depth is all that there is to judge
        uses = None if marks.is_used else measured.uses
        unjudged += gaps(measured.flows, lag, measured.wirings, findings, uses)
    rests = standing(of_loss, shapes)
    if rests is not None and not findings:
        unjudged.append(rests)
    return Diagnosis(
        verdict(findings, unjudged),
        worst_first(findings),
        Flows(measured.flows),
        measured.loss,
        steps,
        measured.parameter_norms,
        thresholds,
        estimate,
        depths,
        model,
        tuple(unjudged),
    )


def _without_recurrence(
    model: nn.Module, loss_fn: Callable[[], Tensor], lag: Lag, marks: Marks
) -> tuple[Measured, list[Unjudged]]:
    """Of a model without recurrent layers: the states that its loop marks, or else its depth."""
    if not is_deep(model):
        with torch.enable_grad():
            loss = loss_fn()
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if marks and trained and loss.requires_grad:
            grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            norms = [None if g is None else float(g.norm()) for g in grads]
            return Measured(float(loss.detach()), {}, dict(zip(trained, norms, strict=True))), []
        raise ValueError(
            f"{type(model).__name__} holds no recurrent layer: no torch.nn.RNN, LSTM or GRU, no "
            "cell of torch's, no steadygrad layer, and nothing else to look at. Where it runs a "
            'loop of its own, mark what one step hands to the next: h = sg.mark(h, "h")'
        )
    seen = measured_through_depth(model, loss_fn)
    if marks:
        return Measured(seen.loss, {}, seen.parameter_norms), []
    gap = list(without_a_way_back(lag, seen.calls, seen.uses))
    uses = seen.uses
    is_loop = uses is not None and bool(uses.hidden or uses.foreign or uses.loops(LOOP))
    if lag is not None and not is_loop and max(seen.calls.values()) < LOOP:
        raise ValueError(
            f"{type(model).__name__} holds no recurrent layer (no torch.nn.RNN, LSTM or GRU, no "
            "cell of torch's, and no steadygrad layer), so that there is no backward pass through "
            f"time to hold to a lag: got lag={lag!r}. Leave it out to have the layers judged in "
            'depth, or mark the states of a loop of its own: h = sg.mark(h, "h")'
        )
    depth = of_norms(seen.log10_norm)
    return Measured(
        seen.loss,
        {},
        seen.parameter_norms,
        depth=depth,
        answers=seen.answers,
        slips=seen.slips,
    ), gap
