"""Coverage: what a verdict needs, against what was measured.

A gradient that was not measured on the whole way that the task needs is not healthy. Each gap is
told with its reason and with what closes it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from steadygrad.diagnosis.judge import base
from steadygrad.diagnosis.lag import Lag, steps_of
from steadygrad.faults import Unjudged
from steadygrad.flow import TimeFlow
from steadygrad.flow.graph_uses import GraphUses
from steadygrad.flow.wiring import Wiring
from steadygrad.tasks.lag_estimate import LagEstimate

REVERSE = "_reverse"
LOOP = 4  # calls of one layer in one step: twin networks call theirs two or three times


class Placed(Protocol):
    """What says in which layer something was found."""

    @property
    def layer(self) -> str:
        """Name of the layer."""
        ...


def gaps(
    flows: Mapping[str, TimeFlow],
    lag: Lag,
    wirings: Iterable[Wiring],
    found: Sequence[Placed] = (),
    uses: GraphUses | None = None,
) -> list[Unjudged]:
    """What was not measured of what a verdict needs.

    Args:
        flows: What was measured, by layer and direction.
        lag: What the network is held to.
        wirings: The recurrent layers.
        found: Findings: a layer that has one is judged.
        uses: How the graph of the loss uses the parameters; None where loops are marked.
    """
    ill = {f.layer for f in found}
    wirings = list(wirings)
    told = [*gaps_of_layers(wirings, ill), *gaps_of_loops(uses, ill), *_of_lag(flows, lag, ill)]
    if not flows and not told and not ill:
        told.append(
            Unjudged(
                "The gradient through time",
                "no gradient of the loss reaches a recurrent layer that is to be trained",
                "give a loss that depends on the layer, with gradients on",
            )
        )
    return told


def without_a_way_back(
    lag: Lag, calls: Mapping[str, int], uses: GraphUses | None = None
) -> Iterator[Unjudged]:
    """What depth alone says nothing of, in a model that has no recurrence we know.

    Args:
        lag: What the network is held to.
        calls: How often each layer was called in one forward pass.
        uses: How the graph of the loss uses the parameters, if known.
    """
    loops = list(gaps_of_loops(uses, set()))
    if loops:
        yield from loops
        return
    name = max(calls, key=lambda n: calls[n], default="")
    if name and calls[name] >= LOOP:
        why = f"{name} is called {calls[name]} times in one step, as in a loop over time"
    elif lag is not None:
        why = "the model holds no recurrent layer, and its loop marks no state"
    else:
        return
    how = 'mark what one step hands to the next: h = sg.mark(h, "h")'
    yield Unjudged("The gradient through time", why, how)


def gaps_of_loops(uses: GraphUses | None, ill: set[str]) -> Iterator[Unjudged]:
    """Loops that are written by hand, and whose states nothing shows.

    Args:
        uses: How the graph of the loss uses the parameters; None if that is not known.
        ill: Names of layers in which a fault was found.
    """
    for name in () if uses is None else uses.hidden:
        if name not in ill:
            yield Unjudged(
                f"The gradient in {name}",
                "the loss depends on it, and the model does not know it: it stands in a plain list "
                "or dictionary",
                "keep layers in nn.ModuleList or nn.ModuleDict",
            )
    loops = [] if uses is None else [name for name in uses.loops(LOOP) if name not in ill]
    if loops:
        assert uses is not None
        times = max(uses.in_sequence.values())
        yield Unjudged(
            f"The gradient through the loop over {', '.join(loops)}",
            f"the loss applies this {times} times one after the other, in a loop of the model's "
            "own, whose states no layer shows",
            'mark what one step hands to the next: h = sg.mark(h, "h")',
        )
    if uses is not None and uses.foreign:
        yield Unjudged(
            f"The gradient through time in {', '.join(uses.foreign)}",
            "it is a function of another library that hands something from step to step, and shows "
            "none of its states",
            "call it for a few steps at a time, its state handed on, and mark that: "
            'S = sg.mark(S, "S", steps=8)',
        )


def gaps_of_layers(wirings: Sequence[Wiring], ill: set[str]) -> Iterator[Unjudged]:
    """Layers that are to be trained, and of which the loss says nothing.

    Args:
        wirings: The recurrent layers.
        ill: Names of those in which a fault was found: they are judged.
    """
    for wiring in wirings:
        if wiring.transformed and wiring.name not in ill:
            yield Unjudged(
                f"The gradient in {wiring.name}",
                f"{wiring.transformed} of its calls ran with weights that are not its own "
                "(torch.func.functional_call), or within torch.func.grad or torch.vmap, which "
                "hooks do not see",
                "call the model itself, with its own weights, on the same batch: "
                "sg.diagnose(model, loss_fn, lag)",
            )
            continue
        if wiring.name in ill or wiring.is_reached or wiring.is_aside:
            continue
        if not wiring.calls and not wiring.ungraded:
            yield Unjudged(
                wiring.name,
                "it was not called",
                "give a loss that uses it, or only the part of the model that the loss uses",
            )
        else:
            yield Unjudged(
                wiring.name,
                "no gradient of the loss has reached it",
                "do not detach what it returns, and call it outside of torch.no_grad()",
            )


def _of_lag(flows: Mapping[str, TimeFlow], lag: Lag, ill: set[str]) -> Iterator[Unjudged]:
    steps = steps_of(lag)
    if steps is None:
        if isinstance(lag, LagEstimate):
            why = (
                f"no lag was given, and {lag.text}, but no stretch of them brings enough for a "
                "network to need it"
                if lag.lag
                else f"no lag was given, and {lag.text}"
            )
        else:
            why = "no lag was given"
        yield Unjudged("Vanishing", why, "pass lag=N, the number of steps back that the task needs")
        return
    # Of a stack the whole way is that to its lowest layer.
    judged = {n: f for n, f in flows.items() if f.is_lowest and not ill & {n, base(n)}}
    for name, flow in judged.items():
        if np.isnan(flow.left.log10_ratio).any():
            yield Unjudged(
                f"The gradient in {name}",
                "it is not a number",
                "look for the first bad value: sg.watch names it",
            )
    short = {n: f for n, f in judged.items() if f.left.max_lag < steps}
    yield from _stepwise(short)
    for name, flow in short.items():
        is_one_step = flow.time_steps < 2 and flow.severed is None
        if is_one_step or _is_cut(flow, steps) or _is_carried(name, flow, flows, steps):
            continue
        if flow.goes_on:
            why = (
                f"its calls span {flow.time_steps} steps, and what lies before them is not the "
                "state of another call unchanged"
            )
            how = "hand its last state on as it is, or give a lag within one call"
        else:
            why = (
                f"the loss reads it where only {max(flow.left.max_lag, 0)} of {steps} steps lie "
                "before"
            )
            how = "let the loss read a step that has the lag before it, or give a shorter lag"
        yield Unjudged(f"The gradient in {name} at lag {steps}", why, how)


def _stepwise(short: Mapping[str, TimeFlow]) -> Iterator[Unjudged]:
    """Layers that are called one step at a time, in calls that could not be linked."""
    calls: dict[str, int] = {}
    for name, flow in short.items():
        if flow.time_steps < 2 and flow.severed is None:
            layer = base(name)
            calls[layer] = calls.get(layer, 0) + 1
    for layer, count in calls.items():
        each = f"each of its {count} calls has" if count > 1 else "its call has"
        yield Unjudged(
            f"The gradient through time in {layer}",
            f"{each} one step, and none begins with the state that another one ended in",
            "hand the state of a call to the next one unchanged, its graph included (rows may be "
            "set to zero), or give the layer whole sequences",
        )


def _is_cut(flow: TimeFlow, steps: int) -> bool:
    """Whether the backward pass of a call ends before the lag: that is a fault, and is judged."""
    reach = min(flow.truncate or flow.time_steps, flow.time_steps) - 1
    return reach < steps and not flow.goes_on


def _is_carried(name: str, flow: TimeFlow, flows: Mapping[str, TimeFlow], steps: int) -> bool:
    """Whether the rest of the way is measured elsewhere.

    In the layer that made the initial state, or in the other direction of the same layer.
    """
    other = name.removesuffix(REVERSE) if name.endswith(REVERSE) else name + REVERSE
    if other in flows and flows[other].left.max_lag >= steps:
        return True
    left = steps - flow.left.max_lag
    return flow.goes_on and any(
        f.left.max_lag >= left for n, f in flows.items() if base(n) != base(name)
    )
