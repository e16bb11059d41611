"""What remedies do to a copy of this model, measured on the batch that was caught.

The layers of the copy are run again on what they were given, and walked back from the gradient
that reached their results. Layers above and below are taken as they are: a trial of seconds says
whether a gradient gets through, and not what a training makes of it.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from steadygrad.diagnosis.lag import Lag, judge_flows, steps_of
from steadygrad.diagnosis.shared import unwrapped
from steadygrad.faults import Thresholds, known
from steadygrad.faults.exploding_depth import ExplodingDepth
from steadygrad.faults.layer import times
from steadygrad.faults.vanishing_depth import VanishingDepth
from steadygrad.flow import Call, TimeFlow
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.through_time import flows_of
from steadygrad.remedies import Remedy

ROWS, SOURCES = 4, 1  # of the batch, of a loss at many steps: a trial has to be quick
RESOLVED, UNSEEN, BETTER, USELESS = range(4)
DEPTH = (VanishingDepth.name, ExplodingDepth.name)


@dataclass(frozen=True)
class Effect:
    """What a remedy did to the copy.

    Attributes:
        group: `RESOLVED` if the fault is gone and no other one has come, `BETTER` if the gradient
            is less out of hand than before, `USELESS` if it is not, `UNSEEN` if the remedy does
            nothing that a look could measure.
        decades: How far the gradient at the lag is from the one it came from, log10, whichever
            way; infinite where it is lost.
        text: The measurement in words; empty if there is none.
    """

    group: int
    decades: float = math.inf
    text: str = ""


@dataclass(frozen=True)
class Batch:
    """The calls of one step, and what reached their results.

    Attributes:
        calls: Detached.
        gradients: One for each.
        lag: Steps back that the task needs.
        thresholds: What decides.
    """

    calls: Sequence[Call]
    gradients: Sequence[OutputGradient]
    lag: Lag
    thresholds: Thresholds


class Trial:
    """Tries remedies on copies of a model, one batch for all of them.

    Args:
        model: As the training has it; not touched.
        batch: What was caught of one step.
    """

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self._model, self._batch = unwrapped(model), batch
        self._paths = {id(m): path for path, m in self._model.named_modules()}
        self._before: Mapping[str, TimeFlow] | None = None

    @classmethod
    def of_now(cls, model: nn.Module, batch: Batch) -> "Trial | None":
        """A trial of the model as it is at this moment, whatever becomes of it until then.

        Returns:
            None if such a model cannot be copied.
        """
        trial = cls(model, batch)
        try:
            trial._model = copy.deepcopy(trial._model)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
            return None
        return trial

    def effect(self, remedy: Remedy, fault: str) -> Effect:
        """What a remedy does about a fault.

        Args:
            remedy: To be applied to a copy.
            fault: Name of the fault that it is to mend.
        """
        if not remedy.changes_model:
            return Effect(UNSEEN)
        try:
            with _own_draws():
                if self._before is None:
                    self._before = self._flows(self._model)
                treated = copy.deepcopy(self._model)
                remedy.apply(treated)
                after = self._flows(treated)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
            return Effect(UNSEEN)  # such a model cannot be copied, or such a layer not be replayed
        if not after or not self._before:
            return Effect(UNSEEN)
        return self._compared(self._before, after, fault)

    def _flows(self, model: nn.Module) -> dict[str, TimeFlow]:
        batch, layers = self._batch, dict(model.named_modules())
        calls = [replace(c, layer=layers[self._paths[id(c.layer)]]) for c in batch.calls]
        lag = steps_of(batch.lag)
        return flows_of(calls, list(batch.gradients), lag, SOURCES, ROWS, graph=False)

    def _compared(
        self, before: Mapping[str, TimeFlow], after: Mapping[str, TimeFlow], fault: str
    ) -> Effect:
        lag, limits = self._batch.lag, self._batch.thresholds
        found = {f.fault for f in judge_flows(after, lag, limits)}
        there = known()
        is_resolved = not any(there[f].severity <= there[fault].severity for f in found)
        decades = _in_depth if fault in DEPTH else self._in_time
        was, now = decades(before), decades(after)
        group = RESOLVED if is_resolved and not found else BETTER if now < was else USELESS
        if is_resolved and found:
            group = BETTER
        text = _depth_text(before, after) if fault in DEPTH else self._text(before, after)
        return Effect(group, now, text)

    def _in_time(self, flows: Mapping[str, TimeFlow]) -> float:
        """How far the gradient at the lag is from the one it came from, on the worst way."""
        return max((self._decades(f) for f in flows.values() if f.is_lowest), default=math.inf)

    def _decades(self, flow: TimeFlow) -> float:
        ratio = self._ratio(flow)
        return math.inf if math.isnan(ratio) else abs(ratio)

    def _at(self, flow: TimeFlow) -> int:
        lag = steps_of(self._batch.lag)
        reach = flow.left.max_lag
        return reach if lag is None else min(lag, reach)

    def _ratio(self, flow: TimeFlow) -> float:
        return float(flow.left.at(self._at(flow))) if flow.left.max_lag > 0 else 0.0

    def _text(self, before: Mapping[str, TimeFlow], after: Mapping[str, TimeFlow]) -> str:
        """Of the layer in which most is left to mend."""
        shared = [name for name in before if name in after and before[name].is_lowest]
        if not shared:
            return ""
        name = max(shared, key=lambda n: self._decades(before[n]))
        old, new = before[name], after[name]
        at = self._at(old)
        return (
            f"{name}: {times(self._ratio(old))} of the gradient left after {at} steps becomes "
            f"{times(self._ratio(new))}, the horizon {old.horizon or 0} becomes {new.horizon or 0}"
        )


def _lowest(flows: Mapping[str, TimeFlow]) -> dict[str, float]:
    """What reaches the lowest layer of each stack."""
    depths = [flow.depth for flow in flows.values() if flow.depth is not None]
    return dict(depth.lowest for depth in depths)


def _in_depth(flows: Mapping[str, TimeFlow]) -> float:
    return max(map(abs, _lowest(flows).values()), default=math.inf)


def _depth_text(before: Mapping[str, TimeFlow], after: Mapping[str, TimeFlow]) -> str:
    was, now = _lowest(before), _lowest(after)
    shared = [name for name in was if name in now]
    if not shared:
        return ""
    name = max(shared, key=lambda n: abs(was[n]))
    return f"{name}: {times(was[name])} of the gradient at the top becomes {times(now[name])} of it"


@contextmanager
def _own_draws() -> Iterator[None]:
    """The same draws for every remedy; the caller's generators stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
