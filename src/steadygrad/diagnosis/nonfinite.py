"""Where a number stopped being one: the first bad tensor, layer, gate and time step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.faults import Finding
from steadygrad.flow import Call, Replay, rows_of
from steadygrad.flow.recurrence import recurrence_of
from steadygrad.flow.replay import OutputGradient
from steadygrad.nn import Looped
from steadygrad.scan import Layout, Tap

SEEN, REPLAYED, LEFT_OVER, UNKNOWN = 1.0, 0.95, 0.5, 0.2  # how sure that makes of the place


def locate(
    model: nn.Module,
    calls: Sequence[Call],
    gradients: Sequence[OutputGradient],
    step: int,
    rows: int | None,
    is_whole: bool = True,
) -> Finding:
    """Find the first non-finite value of a training step, in the order in which it was computed.

    Weights, then the layers' inputs, initial states, gates and outputs of the forward pass, then
    the gradients at the outputs, then the backward pass through time.

    Args:
        model: The model.
        calls: Calls of the recurrent layers in this step.
        gradients: What arrived at their results.
        step: Training step.
        rows: Sequences to replay at most.
        is_whole: Whether these are the calls of this step; if not, nothing is said of the layers.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            count = int((~torch.isfinite(parameter)).sum())
            return _finding(
                step,
                name,
                f"{count} values of the parameter {name} were not finite before the step.",
                tensor=name,
                elements=count,
            )
    for call in calls:
        found = _forward(call, step)
        if found:
            return found
    for call, gradient in reversed(list(zip(calls, gradients, strict=True))):
        found = _backward(call, gradient, step, rows)
        if found:
            return found
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not _fine(p.grad)]
    where = bad[0] if bad else "the loss"
    if not is_whole:
        return _finding(
            step,
            where,
            f"The gradient of {where} is not finite. What broke first is not known: the step could "
            "not be run again with the same results.",
            tensor=f"{where}.grad",
            sure=UNKNOWN,
            parameters_hit=bad[:16],
        )
    return _finding(
        step,
        where,
        f"The gradient of {where} is not finite, while all recurrent layers are: the fault lies "
        "above or beside them, in the loss or the head.",
        tensor=f"{where}.grad",
        sure=LEFT_OVER,
        parameters_hit=bad[:16],
    )


def _forward(call: Call, step: int) -> Finding | None:
    data = call.input.data if isinstance(call.input, PackedSequence) else call.input
    values = [("input", data)] + [("initial state", s) for s in call.state]
    for what, value in values:
        if not _fine(value):
            t, row = _first(call, value) if what == "input" else (0, _any_row(value))
            return _finding(
                step,
                call.name,
                f"The {what} of {call.name} is not finite, first at time step {t} in sequence "
                f"{row}: look at the data, or at what computes it.",
                tensor=what,
                time_step=t,
                sequence=row,
            )
    if _fine(call.output):
        return None
    t, row = _first(call, call.output)
    gate = _gate(call)
    return _finding(
        step,
        call.name,
        f"The output of {call.name} turns non-finite at time step {t} in sequence {row}"
        + (f"; its {gate} gate is the first." if gate else ": the state overflows."),
        gate=gate,
        tensor="output",
        time_step=t,
        sequence=row,
    )


def _backward(call: Call, gradient: OutputGradient, step: int, rows: int | None) -> Finding | None:
    for what, value in zip(
        ("output", "final state"), (gradient[0], *gradient[1][:1]), strict=False
    ):
        if value is not None and not _fine(value):
            t, row = _first(call, value) if what == "output" else (-1, _any_row(value))
            return _finding(
                step,
                call.name,
                f"The gradient that arrives at the {what} of {call.name} is not finite already "
                f"(time step {t}, sequence {row}): the fault lies above it, in the loss or the "
                "head.",
                tensor=f"gradient at the {what}",
                time_step=t,
                sequence=row,
            )
    if all(g is None for g in (gradient[0], *gradient[1])):
        return None
    limit = torch.finfo(call.output.dtype).max
    if not call.is_viewed:
        return _backward_looped(call, gradient, rows, step, limit)
    taps = Replay(call.layer, rows_of(call, gradient, rows)).backward()
    for (layer, reverse), tap in sorted(taps.items(), key=lambda item: -item[0][0]):
        t = _overflow(tap, float(torch.tensor(limit, dtype=torch.float64).log10()))
        if t is not None:
            return _finding(
                step,
                call.name,
                f"In the backward pass the gradient in layer {layer} of {call.name} overflows at "
                f"time step {t}.",
                tensor="gradient at h",
                sure=REPLAYED,
                time_step=t,
                layer_index=layer,
                reverse=reverse,
            )
    return None


def _backward_looped(
    call: Call, gradient: OutputGradient, rows: int | None, step: int, limit: float
) -> Finding | None:
    for name, tap in recurrence_of(call).retrace(gradient, rows).back().taps.items():
        t = _overflow(tap, math.log10(limit))
        if t is not None:
            return _finding(
                step,
                name,
                f"In the backward pass the gradient in {name} overflows at step {t}.",
                tensor="gradient at h",
                sure=REPLAYED,
                time_step=t,
            )
    return None


def _overflow(tap: Tap, log10_limit: float) -> int | None:
    """First time step of the backward pass whose norm the layer's own dtype cannot hold."""
    over = (tap.log10_norm > log10_limit) | tap.log10_norm.isnan() | (tap.nonfinite > 0)
    steps = over.any(-1).any(0).nonzero().flatten().tolist()
    return None if not steps else steps[0] if tap.reverse else steps[-1]


def _gate(call: Call) -> str | None:
    """The gate whose pre-activation is the first that is not finite, in the layer's own dtype."""
    if not call.is_viewed:
        return None
    rows = rows_of(call, (None, (None,) * len(call.last)))
    replay = Replay(call.layer, rows, call.output.dtype)
    earliest: tuple[int, str] | None = None
    for observed in replay.observe().values():
        for gate, (_, argument) in observed.preactivations.items():
            bad = (~torch.isfinite(argument)).any(1).nonzero().flatten()
            if len(bad) and (earliest is None or int(bad[0]) < earliest[0]):
                earliest = int(bad[0]), gate
        if earliest:
            return earliest[1]
    return None


def _first(call: Call, value: Tensor) -> tuple[int, int]:
    """Time step and sequence of the first bad entry of something laid out as the output is."""
    if isinstance(call.layer, Looped):  # the steps of what is laid out in its own way
        bad = call.layer.entered(value, (~torch.isfinite(value)).to(value))
        t, row = (int(i) for i in bad.nonzero()[0])
        return t, row
    arranged = call.arranged
    bad = ~torch.isfinite(arranged.rows(value)).all(-1)
    t, row = (int(i) for i in Layout(arranged.batch_sizes).pad(bad, False).nonzero()[0])
    return t, arranged.row(row)


def _any_row(state: Tensor) -> int:
    bad = ~torch.isfinite(state).all(-1)
    return int(bad.nonzero()[0][-1]) if bad.any() else 0


def _fine(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _finding(
    step: int,
    layer: str,
    text: str,
    gate: str | None = None,
    sure: float = SEEN,
    **evidence: object,
) -> Finding:
    return Finding(
        "nonfinite",
        layer,
        f"Step {step}: {text}",
        gate=gate,
        step=step,
        evidence=evidence,
        confidence=sure,
    )
