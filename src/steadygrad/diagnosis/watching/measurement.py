"""A look at one step: the exact gradient at every time step, and what is wrong with it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.coverage import (
    gaps,
    gaps_of_layers,
    gaps_of_loops,
    without_a_way_back,
)
from steadygrad.diagnosis.judge import (
    judge_call,
    judge_depth,
    judge_history,
    judge_loss,
    judge_wiring,
    once,
)
from steadygrad.diagnosis.lag import judge_flows, steps_of
from steadygrad.diagnosis.recording import write_flow
from steadygrad.diagnosis.shared import collected, on_host
from steadygrad.diagnosis.standing import standing, unmoved
from steadygrad.diagnosis.trial import Batch
from steadygrad.diagnosis.watching.calls import Calls
from steadygrad.diagnosis.watching.saved import UNSEEN
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.diagnosis.watching.wires import Wires
from steadygrad.faults import CallFacts, Finding, LossFacts, Unjudged, known
from steadygrad.faults.curse_of_memory import FOLLOWED, LONG_MEMORY, is_possible
from steadygrad.flow import Call, TimeFlow
from steadygrad.flow.axes import axes, from_zero
from steadygrad.flow.graph_uses import GraphUses
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.live_depth import LiveDepth
from steadygrad.flow.live_exponents import LiveExponents
from steadygrad.flow.marked import Marks
from steadygrad.flow.padding import padded_loss
from steadygrad.flow.quantity import at_look
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.state_change import BeforeStep
from steadygrad.flow.through_time import flows_of, grows
from steadygrad.ranks import Ranks

SMALL_ROWS = 4
MOVED, GONE = 0.5, 0.9
"""How far weights move, relative to themselves, until a new look is wanted, and until the last one
no longer stands for them."""
FRESH = 50  # steps for which a look stands for the network as it is


class Look:
    """Replays a part of the batch and judges what came of the gradient.

    Of several processes the first does so, with rows of all, and tells the others.

    Args:
        seen: Where what is found goes.
        capture: The calls of the step.
        ranks: The processes that train together.
        wires: How the layers hang together with the training.
        depth: Of a model without recurrence, what came back to its layers.
        marks: What the training marks.
        calls: What the steps since the last look have shown of calls.
    """

    def __init__(
        self,
        seen: Seen,
        capture: LiveCapture,
        ranks: Ranks,
        wires: Wires,
        depth: LiveDepth | None,
        marks: Marks,
        calls: Calls,
    ) -> None:
        self._seen, self._capture, self._ranks = seen, capture, ranks
        self._wires, self._depth, self._marks, self._calls = wires, depth, marks, calls
        options = seen.options
        self._measured: list[Finding] = []  # at the last look, of layers and calls
        self._shapes: dict[str, tuple[int, int]] = {}  # steps and sequences of each layer
        self._at = 0
        self._before: BeforeStep | None = None
        self._follows = 0  # steps that are still to be followed
        self._exponents = None
        if options.exponents:
            self._exponents = LiveExponents(options.exponents, options.rows)

    def measure(
        self,
        of_calls: dict[str, list[Finding]],
        of_loss: LossFacts,
        scale: float,
        is_small: bool = False,
    ) -> None:
        """Measure and judge this step.

        Args:
            of_calls: Findings on the calls of this process, by layer.
            of_loss: What is known of the loss in this process.
            scale: What the gradients were multiplied by.
            is_small: Whether to look at fewer rows and from fewer steps, which costs less.
        """
        self._rows = min(SMALL_ROWS, self._seen.options.rows) if is_small else None
        seen, ranks = self._seen, self._ranks
        everywhere = reversed(ranks.gather(of_calls))
        of_calls = {name: f for each in everywhere for name, f in each.items() if f}
        if ranks.is_alone:
            calls, gradients = self._capture.whole()
        else:
            parts = self._capture.parts()
            calls, gradients = collected(ranks, parts, self._capture.layers)
        if ranks.is_first:
            # Averaged over processes: what went back in one of them counts for its share alone.
            self._judge(
                calls,
                _unscaled(gradients, scale * ranks.size),
                [f for each in of_calls.values() for f in each],
                of_loss,
                scale * ranks.size,
            )
        self._at, seen.aged = seen.step, []
        self._wires.note_look()
        if not ranks.is_alone:
            told = on_host(seen.flow), seen.register.found, seen.latest, seen.gaps, seen.withheld
            told = ranks.from_rank((*told, seen.standing))
            seen.flow, seen.register.found, seen.latest, seen.gaps, seen.withheld = told[:-1]
            seen.standing = told[-1]

    @property
    def follows_step(self) -> bool:
        """Whether what this step does to the states is to be measured."""
        return self._before is not None

    def after_step(self) -> None:
        """Measure what the step that was looked at did to the states, once it is done."""
        if self._before is None:
            return
        each = self._before.after()
        self._follows -= 1
        if not self._follows:
            self._before = None
        if each:
            most = max(each, key=lambda c: c.change)
            self._seen.history.changes.append(most)
            self._seen.scalars(
                {"state_change": most.change, "memory_sensitivity": most.sensitivity}
            )

    def forget(self) -> None:
        """Forget the last look."""
        self._measured, self._at, self._shapes, self._before = [], 0, {}, None

    def judge_again(self, of_loss: LossFacts, is_read: bool = False) -> bool:
        """Judge by how the training has gone on since the last look, without a new one.

        What the last look saw, and what was held back then, may be told now: but only if it is
        fresh, or half as sure. A network may have changed since.

        Args:
            of_loss: What is known of the loss.
            is_read: Whether somebody reads it now, and cannot wait for a new look.

        Returns:
            Whether a fault hangs on a new look.
        """
        seen, limits = self._seen, self._seen.options.thresholds
        before = seen.register.found
        measured = {f.key for f in self._measured}
        since = [f for f in self._calls.told() if f.key not in measured]
        both = once([*self._measured, *since, *self._of_training(of_loss)])
        reported = causes(both, before, seen.history, limits, seen.register.passing, seen.step)
        stale = {f.key for f in reported.findings if f.key in measured and f.key not in before}
        is_fresh = seen.step - self._at <= max(FRESH, seen.step // 10)
        if stale and not is_fresh and not is_read:
            both = [f for f in both if f.key not in stale]
        elif not is_fresh:
            both = [_older(f, self._at) if f.key in stale else f for f in both]
        seen.find(both, is_look=False)
        moved = self._wires.moved()
        seen.aged = list(_aged(self._at, moved)) if moved > GONE else []
        self._see_standing(of_loss)
        seen.settle()
        is_wanted = any(fault.hangs(seen.history, limits) for fault in known().values())
        return (bool(stale) and not is_fresh) or moved > MOVED or is_wanted

    def judge_wiring(self) -> None:
        """Judge what needs no gradient: which layers are called, reached, and moved."""
        seen, wires = self._seen, self._wires
        of_layers = wires.wirings()
        found = [f for w in of_layers for f in judge_wiring(w, seen.options.thresholds)]
        seen.add(found)
        ill = {f.layer for f in found}
        told = [*gaps_of_layers(of_layers, ill), *gaps_of_loops(self._uses, ill)]
        if seen.is_measured:
            known = {gap.what for gap in seen.gaps}
            seen.gaps += [gap for gap in told if gap.what not in known]
        else:
            is_waiting = any(w.is_reached for w in of_layers) or not (told or found)
            seen.gaps = [*told, *(UNSEEN if is_waiting else ())]
        seen.settle()

    @property
    def _uses(self) -> GraphUses | None:
        """How the loss uses the parameters; nothing to tell of loops that are marked."""
        return None if self._marks.is_used else self._wires.uses

    def _of_training(self, of_loss: LossFacts) -> list[Finding]:
        """Findings that need no measurement: of the steps, the loss, and how layers are wired."""
        seen, limits = self._seen, self._seen.options.thresholds
        found = judge_history(seen.history, limits) + judge_loss(of_loss, limits)
        return found + [f for w in self._wires.wirings() for f in judge_wiring(w, limits)]

    def _gaps(self, found: Sequence[Finding], flows: dict[str, TimeFlow]) -> list[Unjudged]:
        """What was not measured of what a verdict needs."""
        told = gaps(flows, self._seen.options.lag, self._wires.wirings(), found, self._uses)
        for name in self._wires.replaced():
            told.append(
                Unjudged(
                    name,
                    "it was put into the model after the watch was made",
                    "make the watch when the model is complete, and the optimiser before it",
                )
            )
        return told

    def _judge(
        self,
        calls: list[Call],
        gradients: list[OutputGradient],
        of_calls: list[Finding],
        of_loss: LossFacts,
        scale: float,
    ) -> None:
        seen, options = self._seen, self._seen.options
        marked = self._marks.flows(scale)
        if self._depth is not None and not marked:
            self._judge_depth(self._depth, of_loss)
            return
        sources, rows = (3, options.rows) if self._rows is None else (1, self._rows)
        flows = marked | flows_of(
            calls, gradients, steps_of(options.lag), sources, rows, graph=False
        )
        seen.flow = flows or seen.flow
        for flow in flows.values():
            write_flow(seen.sinks, seen.step, flow)
        if flows:
            seen.history.memory = _memory(flows.values())
            seen.history.grows = any(grows(f) for f in flows.values())
        lag, thresholds = options.lag, options.thresholds
        found = judge_flows(flows, lag, thresholds, seen.history.optimizer)
        self._shapes = {}
        for call, gradient in zip(calls, gradients, strict=True):
            lies = axes(call, gradient)
            if lies is not None:
                self._shapes[call.name] = lies.steps, lies.rows
            facts = CallFacts(call.name, padded_loss(call, gradient), axes=lies, in_training=True)
            found += judge_call(facts, thresholds)
        for name, count in from_zero(calls).items():
            found += judge_call(CallFacts(name, from_zero=count), thresholds)
        self._measured = once([*found, *of_calls])
        found = once([*self._measured, *self._of_training(of_loss)])
        seen.find(found, batch=Batch(calls, gradients, lag, thresholds))
        if not self._ranks.is_alone:  # all have to be told the same
            seen.register.try_remedies()
        seen.gaps = self._gaps(found, flows)
        self._see_standing(of_loss)
        if flows:
            self._note(calls)
        if flows and self._ranks.is_alone and is_possible(seen.history):
            self._before = BeforeStep(calls, gradients, LONG_MEMORY)
            self._follows = FOLLOWED
        seen.settle()

    def _judge_depth(self, live: LiveDepth, of_loss: LossFacts) -> None:
        """Of a model without recurrence: the shares of this process's rows, all of them."""
        seen, thresholds = self._seen, self._seen.options.thresholds
        depth = live.curve()
        if depth is None:
            return
        seen.depth = depth
        self._measured = judge_depth(depth, thresholds, seen.history.optimizer)
        seen.find(once([*self._measured, *self._of_training(of_loss)]))
        seen.gaps = list(without_a_way_back(seen.options.lag, live.calls, self._uses))
        self._see_standing(of_loss)
        seen.scalars({"log10_share": depth.lowest[1]})
        seen.settle()

    def _see_standing(self, of_loss: LossFacts) -> None:
        self._seen.see_undecided()
        if of_loss.skill is not None:  # of what is not known, what was known before stands
            self._seen.standing = standing(of_loss, self._shapes, self._seen.has_stood)
        elif not of_loss.history.is_at_rest():
            self._seen.standing = None
        else:
            self._seen.standing = unmoved(of_loss.history) or self._seen.standing

    def _note(self, calls: Sequence[Call]) -> None:
        numbers = at_look(self._seen.flow)
        if self._exponents is not None:
            each = [e for call in calls for e in self._exponents.measure(call)]
            if each:  # the layer in which differences grow fastest, or die slowest
                top = max(each, key=lambda e: float(e[0]))
                numbers |= {f"lyapunov_{i + 1}": float(v) for i, v in enumerate(top)}
        if numbers:
            self._seen.scalars(numbers)


def _memory(flows: Iterable[TimeFlow]) -> float | None:
    """log10 of the gradient left per step back, in the layer that keeps most over many steps."""
    each = [
        f.left.kept(steps) / steps
        for f in flows
        if f.time_steps > LONG_MEMORY and (steps := min(LONG_MEMORY, f.left.max_lag)) > 0
    ]
    return max((v for v in each if not math.isnan(v)), default=None)


def _older(finding: Finding, step: int) -> Finding:
    sure = None if finding.confidence is None else finding.confidence / 2
    text = f"{finding.text} That was measured at step {step}."
    return replace(finding, text=text, confidence=sure)


def _aged(step: int, moved: float) -> Iterator[Unjudged]:
    yield Unjudged(
        "The gradient as it is now",
        f"it was measured at step {step}, and the weights have moved by {moved:.0%} of themselves "
        "since",
        "let the training run on to the next look, or give a larger budget= or every=N",
    )


def _unscaled(gradients: Sequence[OutputGradient], scale: float) -> list[OutputGradient]:
    return [
        (o if o is None else o / scale, tuple(g if g is None else g / scale for g in last))
        for o, last in gradients
    ]
