"""The gradient at every time step of every recurrent layer of a model, for one loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.errors import check_count
from steadygrad.flow.by_lag import LagCurve, curve, median_curve
from steadygrad.flow.capture import Call, Capture, recurrent_layers
from steadygrad.flow.gate_health import GateHealth, gate_health
from steadygrad.flow.output_gradients import output_gradients
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.replay import OutputGradient, Replay, rows_of
from steadygrad.flow.sources import (
    at_step,
    choose,
    entries,
    is_reached,
    last_entry,
    part_of,
    top_of,
)
from steadygrad.flow.state_growth import StateGrowth, state_growth
from steadygrad.scan import Layout, Observed, Tap

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity("log10_grad", "log10", "Norm of the gradient at the state of every time step.")
    ),
)

CLOSE = 1e-3  # of outputs: what a replay may differ by; in half precision a few units of rounding


@dataclass(frozen=True)
class TimeFlow:
    r"""What came of the gradient in one direction of one layer.

    Attributes:
        name: Of the layer, as in ``model.named_modules()``; ``.l1``, ``.l0_reverse`` are added
            where a module holds several.
        cell: Name of the cell.
        hidden_size: Units, ``H``.
        log10_grad: ``(T,)``, log10 of :math:`|\partial L / \partial h_t|` over the batch. Zero is
            ``-inf``; time steps at which no row takes part are masked.
        log10_grad_by_state: The same for every state, h and c for an LSTM.
        by_lag: Share of the gradient left after so many steps.
        gates: Health of every gate.
        growth: Size of every state over time.
        nonfinite: ``(T,)``, elements of dL/dh_t that are not finite, over the batch.
        how: ``"replay"``, ``"taps"``, ``"input probe"`` or ``"boundary probe"``.
        exactness: How exact that is, in words.
        truncate: Steps after which the layer cuts the gradient, or None.
        goes_on: Whether the gradient passes on to what made the initial state.
    """

    name: str
    cell: str
    hidden_size: int
    log10_grad: NDArray[np.float64]
    log10_grad_by_state: dict[str, NDArray[np.float64]]
    by_lag: LagCurve
    gates: dict[str, GateHealth]
    nonfinite: NDArray[np.int64]
    how: str
    exactness: str
    reverse: bool = False
    time_steps: int = field(default=0)
    growth: dict[str, StateGrowth] = field(default_factory=dict)
    truncate: int | None = None
    goes_on: bool = False

    @property
    def horizon(self) -> int | None:
        """Longest lag with at least 1e-4 of the gradient left; None if there is none to measure."""
        return self.by_lag.horizon()

    @property
    def slope(self) -> float | None:
        """Decades per step."""
        return self.by_lag.slope


@dataclass(frozen=True)
class Measured:
    """Everything one loss says about a model.

    Attributes:
        loss: Its value.
        flows: Per layer and direction, in the order of the calls.
        parameter_norms: Norm of the gradient of each parameter by name; None where unused.
        borders: The calls of the layers and the gradients at their results, without a graph.
    """

    loss: float
    flows: dict[str, TimeFlow]
    parameter_norms: dict[str, float | None]
    borders: list[tuple[Call, OutputGradient]] = field(default_factory=list)


def gradient_through_time(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    *,
    lag: int | None = None,
    sources: int = 5,
    rows: int | None = None,
) -> Measured:
    """Measure the gradient at every time step, exactly, without touching the model.

    The layers are run again from what was seen at their borders, in float64. Parameters,
    ``.grad``, buffers of the recurrent layers and random states stay as they were; dropout
    between the layers of one module is off for the measurement.

    Args:
        model: Any model that holds recurrent layers.
        loss_fn: Computes the scalar loss of one batch with ``model``.
        lag: Steps back that matter; sources are chosen deep enough for it.
        sources: Where the loss enters at many steps: from how many to measure.
        rows: Use at most so many sequences of the batch in the replay; all if not given.

    Raises:
        ValueError: No recurrent layer, or none was called; the loss is no scalar or does not
            depend on a recurrent layer.
    """
    check_count("sources", sources)
    check_count("rows", rows, optional=True)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    with Capture(model) as capture, _dropout_between_layers_off(model), torch.random.fork_rng():
        with torch.enable_grad(), _no_bfloat16_explained():
            loss = loss_fn()
        calls = list(capture.calls)
        _check(model, loss, calls)
        grads, of_parameters = output_gradients(loss, calls, parameters)
        flows = flows_of(calls, grads, lag, sources, rows)
    norms = [None if g is None else float(g.norm()) for g in of_parameters]
    borders = [(call.detached(), grad) for call, grad in zip(calls, grads, strict=True)]
    return Measured(float(loss.detach()), flows, dict(zip(names, norms, strict=True)), borders)


@contextmanager
def _no_bfloat16_explained() -> Iterator[None]:
    """Say what to do where torch's own LSTM fails under autocast, which its message does not.

    torch hands a bfloat16 LSTM to oneDNN before it asks whether the processor can run one, so on
    x86 without AVX-512 the call raises. GRU and RNN are not affected.
    """
    try:
        yield
    except RuntimeError as error:
        if "primitive descriptor for the LSTM" in str(error):
            error.add_note(
                "torch.nn.LSTM cannot run in bfloat16 on this processor, with or without "
                "Steadygrad. Use steadygrad.LSTM in its place (it computes in float32 under "
                "autocast), call the layer within torch.autocast(..., enabled=False), or set "
                "torch.backends.mkldnn.enabled = False."
            )
        raise


def _check(model: nn.Module, loss: Tensor, calls: list[Call]) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn must return a scalar loss, got {shape}")
    if not calls:
        raise ValueError(
            f"no recurrent layer of {type(model).__name__} was called by loss_fn with gradients "
            "on. Does loss_fn use this very model, without torch.no_grad()? A model compiled "
            "by torch.compile drops hooks: pass the original module, and call that in loss_fn."
        )
    if not loss.requires_grad:
        raise ValueError("the loss does not require a gradient; was it detached, or is all frozen?")


@contextmanager
def _dropout_between_layers_off(model: nn.Module) -> Iterator[None]:
    """Without this a replay could not repeat what the layer did."""
    layers = [layer for _, layer in recurrent_layers(model)]
    before = [layer.dropout for layer in layers]
    try:
        for layer in layers:
            setattr(layer, "dropout", 0.0)  # noqa: B010
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, "dropout", value)  # noqa: B010  # a Module's setattr is typed narrowly


def flows_of(
    calls: list[Call],
    grads: list[OutputGradient],
    lag: int | None,
    sources: int,
    limit: int | None,
    graph: bool = True,
) -> dict[str, TimeFlow]:
    """Measure every call that a gradient reached.

    Args:
        calls: What was caught.
        grads: The gradient at the results of each call.
        lag: As in `gradient_through_time`.
        sources: As there.
        limit: Rows of the batch to use at most.
        graph: Whether the autograd graph still stands. Without it a loss that enters at many
            steps is followed within each layer, not from the top through the layers between.
    """
    flows: dict[str, TimeFlow] = {}
    for index, (call, grad) in enumerate(zip(calls, grads, strict=True)):
        if not is_reached(grad):
            continue
        top = top_of(index, calls, grads) if graph else index
        steps = _source_steps(calls[top], grads[top], sources, lag)
        if steps and not graph and _is_below_one_entry(index, calls, grads):
            steps = []
        parts = {s: part_of(calls, grads, index, top, s) for s in steps}
        replay = Replay(call.layer, rows_of(call, grad, limit))
        flows |= _walk(call, replay, parts, grad)
    return flows


def _is_below_one_entry(index: int, calls: list[Call], grads: list[OutputGradient]) -> bool:
    """Whether the last call, above this one, is entered at a single step."""
    last = max(i for i, grad in enumerate(grads) if is_reached(grad))
    return index < last and not _source_steps(calls[last], grads[last], 1, None)


def _source_steps(call: Call, grad: OutputGradient, count: int, lag: int | None) -> list[int]:
    """Steps to measure from one at a time; none if the loss enters each row at one step."""
    both_ways = call.view.num_directions == 2
    found = entries(rows_of(call, grad), 1 + both_ways)
    return [] if int(found.sum(0).max()) <= 1 else choose(found, count, lag, both_ways)


def _walk(
    call: Call, replay: Replay, parts: dict[int, OutputGradient], whole: OutputGradient
) -> dict[str, TimeFlow]:
    """Walk one call back: once for the whole loss, then once for each source."""
    limit = replay.rows.batch_sizes[0]
    directions = replay.view.num_directions
    total = dict(replay.backward())
    seen = replay.observe()
    curves: dict[tuple[int, bool], list[NDArray[np.float64]]] = {key: [] for key in total}
    for step, part in (parts or {-1: whole}).items():
        rows = rows_of(call, part, limit)
        taps = replay.backward(rows.output, rows.last) if parts else total
        found = entries(rows, directions)
        # A layer below is entered at other steps, too, on the way through the layer above; the
        # distance that counts is the one from the step at which the loss entered.
        at = at_step(found, step) if 0 <= step < len(found) else last_entry(found)
        for key, tap in taps.items():
            curves[key].append(curve(tap, at))
    mode = "per source" if parts else "total"
    difference = replay.reproduces(call, limit)
    close = max(CLOSE, 8 * torch.finfo(call.output.dtype).eps)
    flows = {}
    for key, tap in total.items():
        name = replay.view.name(key, call.name)
        by_lag = median_curve(curves[key], mode)
        flow = _time_flow(name, replay, key, tap, by_lag, seen[key], (difference, close))
        flows[name] = replace(flow, goes_on=call.goes_on)
    return flows


def _time_flow(
    name: str,
    replay: Replay,
    key: tuple[int, bool],
    tap: Tap,
    by_lag: LagCurve,
    seen: Observed,
    difference: tuple[float, float],
) -> TimeFlow:
    by_state = {s: tap.log10_over_batch(s).cpu().numpy() for s in tap.states}
    batch = replay.rows.batch_sizes[0]
    return TimeFlow(
        name,
        replay.view.cell.name,
        replay.view.hidden_size,
        by_state["h"],
        by_state,
        by_lag,
        gate_health(seen),
        tap.nonfinite[0].sum(-1).cpu().numpy(),
        "replay",
        _exactness(batch, *difference),
        key[1],
        len(by_state["h"]),
        state_growth(seen, Layout(replay.rows.batch_sizes, key[1])),
        replay.view.truncate,
    )


def _exactness(batch: int, difference: float, close: float) -> str:
    """Say how far the replay is the layer's own computation."""
    text = (
        f"replayed in float64 over {batch} sequences; the replay's output differs from the "
        f"layer's own by at most {difference:.1e}"
    )
    if difference <= close:
        return "exact: " + text
    return "statistical: " + text + " (a chaotic or overflowing layer, its path is not repeatable)"
