"""The gradient at every time step of every recurrent layer of a model, for one loss."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.errors import check_count
from steadygrad.flow.answers import Answers
from steadygrad.flow.by_lag import LagCurve, curve, curve_of, median_curve
from steadygrad.flow.capture import Call, Capture, recurrent_layers
from steadygrad.flow.gate_health import GateHealth
from steadygrad.flow.graph_uses import GraphUses, graph_uses
from steadygrad.flow.loss_graph import Slips, slips_in
from steadygrad.flow.output_gradients import joined_gradients
from steadygrad.flow.output_probe import OutputProbe
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.recurrence import Recurrence, Retrace, Walk, recurrence_of
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.sources import at_step, choose, is_reached, last_entry, part_of, top_of
from steadygrad.flow.stacks import Stacks
from steadygrad.flow.state_growth import StateGrowth
from steadygrad.flow.through_depth import DepthCurve, depth_of
from steadygrad.flow.whole_way import joined
from steadygrad.flow.wiring import Wiring, measured_parameters, wirings

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
        by_lag: Share of the gradient left after so many steps, at all states of this layer.
        way: The whole way: share left at the input of the lowest layer of the stack; None of the
            layers above, whose memory need not be their own.
        is_lowest: Whether the layer is the lowest of its stack.
        from_top: By lag the gradient at the states of this layer over what the loss sent into the
            top of the stack.
        depth: Of the lowest layer, what reaches each layer of the stack; None of a single layer.
        gates: Health of every gate.
        growth: Size of every state over time.
        nonfinite: ``(T,)``, elements of dL/dh_t that are not finite, over the batch.
        how: ``"replay"``, ``"taps"``, ``"input probe"`` or ``"boundary probe"``.
        exactness: How exact that is, in words.
        truncate: Steps after which the layer cuts the gradient, or None.
        goes_on: Whether the gradient passes on to what made the initial state.
        severed: Steps after which the state is handed on by value alone, or None.
        is_reset: Whether its rows are reset within the call: its steps are those of the longest
            stretch between two resets.
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
    is_reset: bool = False
    way: LagCurve | None = None
    is_lowest: bool = True
    from_top: LagCurve | None = None
    depth: DepthCurve | None = None

    @property
    def left(self) -> LagCurve:
        """What decides: the whole way, or, where there is none, the gradient at the states."""
        return self.by_lag if self.way is None else self.way

    @property
    def horizon(self) -> int | None:
        """Longest lag with at least 1e-4 of the gradient left; None if there is none to measure."""
        return self.left.horizon()

    @property
    def slope(self) -> float | None:
        """Decades per step."""
        return self.left.slope


def grows(flow: TimeFlow) -> bool:
    """Whether the gradient grows tenfold somewhere in the backward pass."""
    curve = flow.by_lag if flow.from_top is None else flow.from_top
    ratio = curve.log10_ratio
    return len(ratio) > 0 and float(ratio.max() - max(ratio[0], 0.0)) > 1


@dataclass(frozen=True)
class Measured:
    """Everything one loss says about a model.

    Attributes:
        loss: Its value.
        flows: Per layer and direction, in the order of the calls.
        parameter_norms: Norm of the gradient of each parameter by name; None where unused.
        borders: The calls of the layers and the gradients at their results, without a graph.
        depth: Of a model without recurrence, what reaches each of its layers.
        answers: The model's outputs and targets, where the loss gives them away.
        slips: What the graph of the loss shows.
        wirings: How each recurrent layer of the model hangs together with the loss.
        uses: How the graph of the loss uses the parameters.
    """

    loss: float
    flows: dict[str, TimeFlow]
    parameter_norms: dict[str, float | None]
    borders: list[tuple[Call, OutputGradient]] = field(default_factory=list)
    depth: DepthCurve | None = None
    wirings: list[Wiring] = field(default_factory=list)
    answers: Answers | None = None
    slips: Slips | None = None
    uses: GraphUses | None = None


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
        probe = OutputProbe(model)
        try:
            with torch.enable_grad(), _no_bfloat16_explained():
                loss = loss_fn()
        finally:
            probe.close_hook()
        _check(model, loss, capture)
        calls, grads, of_parameters = joined_gradients(loss, capture.calls, parameters)
        # Before further passes reach the same output.
        answers, slips = probe.answers(float(loss.detach())), slips_in(loss.grad_fn)
        flows = flows_of(calls, grads, lag, sources, rows)
        own = measured_parameters(capture.layers.values())
        uses = graph_uses(loss.grad_fn, model, own, may_run=True)  # the last that needs the graph
        pairs = zip(calls, grads, strict=True)
        reached = {call.name.partition("#")[0] for call, grad in pairs if is_reached(grad)}
        held = wirings(
            capture.layers, capture.graded, capture.ungraded, reached, capture.transformed
        )
    norms = [None if g is None else float(g.norm()) for g in of_parameters]
    borders = [(call.detached(), grad) for call, grad in zip(calls, grads, strict=True)]
    by_name = dict(zip(names, norms, strict=True))
    told = float(loss.detach())
    return Measured(told, flows, by_name, borders, None, held, answers, slips, uses)


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


def _check(model: nn.Module, loss: Tensor, capture: Capture) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn must return a scalar loss, got {shape}")
    if not capture.calls and not capture.ungraded and not capture.transformed:
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
    ways = [recurrence_of(call) for call in calls]
    stacks = Stacks(calls, ways, grads)
    walked: dict[int, _Walked] = {}
    for index, (way, grad) in enumerate(zip(ways, grads, strict=True)):
        if not is_reached(grad):
            continue
        top = top_of(index, calls, grads) if graph else index
        steps = _source_steps(ways[top], grads[top], sources, lag)
        above = stacks.top_of(index)
        if steps and not graph and not _source_steps(ways[above], grads[above], 1, None):
            steps, top = [], above  # the loss enters once, above: all that comes is from there
        masked = {s: ways[top].only_from(grads[top], s) for s in steps}
        parts = {s: part_of(calls, index, top, m) for s, m in masked.items()}
        sent = [ways[top].sent(m, limit) for m in (masked or {-1: grads[top]}).values()]
        walked[index] = _walk(way, way.retrace(grad, limit), parts, grad, sent)
    return _together(walked, stacks, graph)


def _source_steps(way: Recurrence, grad: OutputGradient, count: int, lag: int | None) -> list[int]:
    """Steps to measure from one at a time; none if the loss enters each row at one step."""
    found = way.entries(grad)
    return [] if int(found.sum(0).max()) <= 1 else choose(found, count, lag, way.both_ways)


@dataclass(frozen=True)
class _Walked:
    """What the walks back through one call have seen.

    Attributes:
        flows: By strand, without what concerns the stack that the call is part of.
        ways: By strand, what is left of the gradient at the input of the call.
        total: The gradient of the whole loss.
    """

    flows: dict[str, TimeFlow]
    ways: dict[str, LagCurve]
    total: Walk


def _walk(
    way: Recurrence,
    again: Retrace,
    parts: dict[int, OutputGradient],
    whole: OutputGradient,
    sent: Sequence[Tensor],
) -> _Walked:
    """Walk one call back: once for the whole loss, then once for each source.

    Args:
        way: How the call is measured.
        again: The call, run again.
        parts: What each source sends to its results; none if the loss enters at one step.
        whole: What the whole loss sends there.
        sent: ``(B,)`` of each source, what it sends into the top of the stack.
    """
    total = again.back()
    curves: dict[str, list[NDArray[np.float64]]] = {name: [] for name in total.taps}
    from_top: dict[str, list[NDArray[np.float64]]] = {name: [] for name in total.taps}
    at_input: dict[str, list[NDArray[np.float64]]] = {name: [] for name in total.taps}
    for (step, part), size in zip((parts or {-1: whole}).items(), sent, strict=True):
        walk = again.back(part) if parts else total
        at = _source_of(again.entries(part), step, way.both_ways)
        # A lower layer may be read past those above it; what enters there is no growth either.
        size = torch.maximum(size, way.sent(part, again.rows))
        for name, tap in walk.taps.items():
            curves[name].append(curve(tap, at))
            from_top[name].append(curve(tap, at, size))
            if walk.at_input is not None and not _is_two_ended(way, whole):
                at_input[name].append(curve_of(walk.at_input, tap.present, at, tap.reverse))
    if total.at_input is not None and _is_two_ended(way, whole):
        last = last_entry(again.entries(whole))
        for name, tap in total.taps.items():
            at = torch.where(last < 0, last, 0) if tap.reverse else last
            at_input[name].append(curve_of(total.at_input, tap.present, at, tap.reverse))
    mode = "per source" if parts else "total"
    exactness = _exactness(again, way.call.output.dtype)
    flows, ways = {}, {}
    for name, tap in total.taps.items():
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
            is_reset=strand.is_reset,
            from_top=median_curve(from_top[name], mode),
        )
        seen = median_curve(at_input[name], mode)
        # Where no input has any influence (its weights are zero), the states are the way.
        arrives = seen.max_lag >= 0 and not np.isnan(seen.log10_ratio[0])
        ways[name] = seen if arrives else flows[name].by_lag
    return _Walked(flows, ways, total)


def _source_of(found: Tensor, step: int, both_ways: bool) -> Tensor:
    """``(B,)``: the step of each row from which lags are counted."""
    # A layer below is entered at other steps, too, on the way through the layer above; the distance
    # that counts is the one from the step at which the loss entered. Where it is entered later,
    # too, as by attention, its steps are not those of the layer above.
    if not 0 <= step < len(found) or (not both_ways and bool(found[step + 1 :].any())):
        return last_entry(found)
    return at_step(found, step)


def _is_two_ended(way: Recurrence, whole: OutputGradient) -> bool:
    """Whether both ends of a bidirectional layer are read at once, as by a classifier."""
    if not way.both_ways:
        return False
    found, last = way.entries(whole), last_entry(way.entries(whole))
    inner = found[1:].clone()
    inner[(last - 1).clamp(0), torch.arange(len(last))] = False
    return not bool(inner.any()) and bool(found[0].any())


def _together(walked: dict[int, _Walked], stacks: Stacks, graph: bool) -> dict[str, TimeFlow]:
    """Complete the flows by what concerns the stack that each call is part of."""
    flows: dict[str, TimeFlow] = {}
    for index, one in walked.items():
        lowest = next(iter(one.flows)).removesuffix("_reverse")
        is_lowest = stacks.is_lowest(index)
        for name, flow in one.flows.items():
            way = None
            if is_lowest and name.removesuffix("_reverse") == lowest:
                way = one.ways[name]
                if not graph and way.mode == "per source":
                    above = [walked[i].ways for i in stacks.above(index)]
                    way = joined([way, *(next(iter(w.values())) for w in above)])
            flows[name] = replace(flow, way=way, is_lowest=way is not None)
        if is_lowest:
            chain = [index, *stacks.above(index)]
            taps = [pair for i in chain for pair in walked[i].total.taps.items()]
            flows[next(iter(one.flows))] = replace(
                flows[next(iter(one.flows))], depth=depth_of(taps)
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
