"""A look at one step: the exact gradient at every time step, and what is wrong with it."""

from collections.abc import Sequence

from steadygrad.diagnosis.judge import judge_call, judge_depth, judge_history
from steadygrad.diagnosis.lag import judge_flows, steps_of
from steadygrad.diagnosis.recording import write_flow
from steadygrad.diagnosis.shared import collected, on_host
from steadygrad.diagnosis.trial import Batch
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.faults import CallFacts, Finding
from steadygrad.flow import Call
from steadygrad.flow.live import LiveCapture
from steadygrad.flow.live_depth import LiveDepth
from steadygrad.flow.live_exponents import LiveExponents
from steadygrad.flow.padding import padded_loss
from steadygrad.flow.quantity import at_look
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.through_time import flows_of, grows
from steadygrad.ranks import Ranks


class Look:
    """Replays a part of the batch and judges what came of the gradient.

    Of several processes the first does so, with rows of all, and tells the others.

    Args:
        seen: Where what is found goes.
        capture: The calls of the step.
        ranks: The processes that train together.
        depth: Of a model without recurrence, what came back to its layers.
    """

    def __init__(
        self, seen: Seen, capture: LiveCapture, ranks: Ranks, depth: LiveDepth | None = None
    ) -> None:
        self._seen, self._capture, self._ranks, self._depth = seen, capture, ranks, depth
        options = seen.options
        self._exponents = None
        if options.exponents:
            self._exponents = LiveExponents(options.exponents, options.rows)

    def measure(self, of_calls: dict[str, list[Finding]], scale: float) -> None:
        """Measure and judge this step.

        Args:
            of_calls: Findings on the calls of this process, by layer.
            scale: What the gradients were multiplied by.
        """
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
            )
        if not ranks.is_alone:
            told = on_host(seen.flow), seen.register.found, seen.latest
            seen.flow, seen.register.found, seen.latest = ranks.from_rank(told)

    def _judge(
        self, calls: list[Call], gradients: list[OutputGradient], of_calls: list[Finding]
    ) -> None:
        seen, options = self._seen, self._seen.options
        if self._depth is not None:
            self._judge_depth(self._depth)
            return
        flows = flows_of(calls, gradients, steps_of(options.lag), 3, options.rows, graph=False)
        if not flows:
            return
        seen.flow = flows
        for flow in flows.values():
            write_flow(seen.sinks, seen.step, flow)
        seen.history.grows = any(grows(f) for f in flows.values())
        lag, thresholds = options.lag, options.thresholds
        found = judge_flows(flows, lag, thresholds, seen.history.optimizer)
        found += judge_history(seen.history, thresholds)
        for call, gradient in zip(calls, gradients, strict=True):
            found += judge_call(CallFacts(call.name, padded_loss(call, gradient)), thresholds)
        # What this step gave is what remedies are tried on; it is not kept beyond that.
        seen.prescriber.batch = Batch(calls, gradients, lag, thresholds)
        try:
            seen.find([*found, *of_calls])
        finally:
            seen.prescriber.batch = None
        self._note(calls)
        seen.settle()

    def _judge_depth(self, live: LiveDepth) -> None:
        """Of a model without recurrence: the shares of this process's rows, all of them."""
        seen, thresholds = self._seen, self._seen.options.thresholds
        depth = live.curve()
        if depth is None:
            return
        seen.depth = depth
        found = judge_depth(depth, thresholds, seen.history.optimizer)
        seen.find([*found, *judge_history(seen.history, thresholds)])
        seen.scalars({"log10_share": depth.smallest[1]})
        seen.settle()

    def _note(self, calls: Sequence[Call]) -> None:
        numbers = at_look(self._seen.flow)
        if self._exponents is not None:
            each = [e for call in calls for e in self._exponents.measure(call)]
            if each:  # the layer in which differences grow fastest, or die slowest
                top = max(each, key=lambda e: float(e[0]))
                numbers |= {f"lyapunov_{i + 1}": float(v) for i, v in enumerate(top)}
        if numbers:
            self._seen.scalars(numbers)


def _unscaled(gradients: Sequence[OutputGradient], scale: float) -> list[OutputGradient]:
    return [
        (o if o is None else o / scale, tuple(g if g is None else g / scale for g in last))
        for o, last in gradients
    ]
