"""The gradient at every time step of every recurrent layer of a model, for one loss."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.errors import check_count
from steadygrad.flow.by_lag import LagCurve, curve, median_curve
from steadygrad.flow.capture import Call, Capture, recurrent_layers
from steadygrad.flow.gate_health import GateHealth
from steadygrad.flow.output_gradients import joined_gradients
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.recurrence import Recurrence, Retrace, recurrence_of
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.sources import at_step, choose, is_reached, last_entry, part_of, top_of
from steadygrad.flow.state_growth import StateGrowth

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
    severed: int | None = None

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
    with (
        Capture(model) as capture,
        _dropout_between_layers_off(model),
        _buffers_kept(capture.layers.values()),
        torch.random.fork_rng(),
    ):
        with torch.enable_grad(), _no_bfloat16_explained():
            loss = loss_fn()
        _check(model, loss, capture.calls)
        calls, grads, of_parameters = joined_gradients(loss, capture.calls, parameters)
        flows = flows_of(calls, grads, lag, sources, rows)
    norms = [None if g is None else float(g.norm()) for g in of_parameters]
    borders = [(call.detached(), grad) for call, grad in zip(calls, grads, strict=True)]
    return Measured(float(loss.detach()), flows, dict(zip(names, norms, strict=True)), borders)


@contextmanager
def _buffers_kept(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Running averages, which a forward pass moves, are put back when all is measured."""
    kept = [(b, b.clone()) for layer in layers for b in layer.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


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
    ways = [recurrence_of(call) for call in calls]
    for index, (way, grad) in enumerate(zip(ways, grads, strict=True)):
        if not is_reached(grad):
            continue
        top = top_of(index, calls, grads) if graph else index
        steps = _source_steps(ways[top], grads[top], sources, lag)
        if steps and not graph and _is_below_one_entry(index, ways, grads):
            steps = []
        parts = {s: part_of(calls, index, top, ways[top].only_from(grads[top], s)) for s in steps}
        flows |= _walk(way, way.retrace(grad, limit), parts, grad)
    return flows


def _is_below_one_entry(
    index: int, ways: Sequence[Recurrence], grads: list[OutputGradient]
) -> bool:
    """Whether the last call, above this one, is entered at a single step."""
    last = max(i for i, grad in enumerate(grads) if is_reached(grad))
    return index < last and not _source_steps(ways[last], grads[last], 1, None)


def _source_steps(way: Recurrence, grad: OutputGradient, count: int, lag: int | None) -> list[int]:
    """Steps to measure from one at a time; none if the loss enters each row at one step."""
    found = way.entries(grad)
    return [] if int(found.sum(0).max()) <= 1 else choose(found, count, lag, way.both_ways)


def _walk(
    way: Recurrence, again: Retrace, parts: dict[int, OutputGradient], whole: OutputGradient
) -> dict[str, TimeFlow]:
    """Walk one call back: once for the whole loss, then once for each source."""
    total = again.back()
    curves: dict[str, list[NDArray[np.float64]]] = {name: [] for name in total}
    for step, part in (parts or {-1: whole}).items():
        taps = again.back(part) if parts else total
        found = again.entries(part)
        # A layer below is entered at other steps, too, on the way through the layer above; the
        # distance that counts is the one from the step at which the loss entered.
        at = at_step(found, step) if 0 <= step < len(found) else last_entry(found)
        for name, tap in taps.items():
            curves[name].append(curve(tap, at))
    mode = "per source" if parts else "total"
    exactness = _exactness(again, way.call.output.dtype)
    flows = {}
    for name, tap in total.items():
        strand = again.strands[name]
        by_state = {s: tap.log10_over_batch(s).cpu().numpy() for s in tap.states}
        flows[name] = TimeFlow(
            name=name,
            cell=strand.cell,
            hidden_size=strand.hidden_size,
            log10_grad=by_state["h"],
            log10_grad_by_state=by_state,
            by_lag=median_curve(curves[name], mode),
            gates=strand.gates,
            nonfinite=tap.nonfinite[0].sum(-1).cpu().numpy(),
            how="replay",
            exactness=exactness,
            reverse=strand.reverse,
            time_steps=len(by_state["h"]),
            growth=strand.growth,
            truncate=strand.truncate,
            goes_on=way.call.goes_on,
            severed=strand.severed,
        )
    return flows


def _exactness(again: Retrace, dtype: torch.dtype) -> str:
    """Say how far the replay is the layer's own computation."""
    text = (
        f"replayed in float64 over {again.rows} sequences; the replay's output differs from the "
        f"layer's own by at most {again.difference:.1e}"
    )
    if again.difference <= max(CLOSE, 8 * torch.finfo(dtype).eps):
        return "exact: " + text
    return "statistical: " + text + " (a chaotic or overflowing layer, its path is not repeatable)"
