"""Input scale: inputs so large that they shut the gates by themselves."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from steadygrad.faults.base import Fault, Moment, Threshold
from steadygrad.faults.call import CallFacts
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.thresholds import Thresholds


@final
class InputScale(Fault):
    """The size of what a layer is given, feature by feature."""

    name: ClassVar[str] = "input-scale"
    severity: ClassVar[int] = 23
    meaning: ClassVar[str] = (
        "The inputs are so large that sigmoid and tanh saturate, whatever the state: all sequences "
        "look the same to the layer."
    )
    symptom: ClassVar[str] = "constant predictions, gates at 0 or 1 from the first step on"
    look_at: ClassVar[str] = "size of the inputs, in `sg.diagnose` and `sg.watch`"
    measured: ClassVar[str] = (
        "Root mean square of every feature of a layer's input; the largest decides. A training "
        "that has learned nevertheless is not reported."
    )
    colour: ClassVar[str] = "#7a6ff0"
    advice: ClassVar[tuple[str, ...]] = (
        "scale the inputs: x = (x - mean) / std, feature by feature, with mean and std of the "
        "training data",
    )
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "input_scale": Threshold(
            1e3, "a root mean square of an input feature above this is a fault", above=1.0
        ),
    }

    def in_call(self, facts: CallFacts, limits: Thresholds) -> Iterable[Finding]:
        size = math.nan if facts.axes is None else facts.axes.input_size
        if not limits.input_scale < size < math.inf:
            return
        yield self.finding(
            facts.name,
            f"Not a gradient problem: the inputs of {facts.name} are of size {size:.2g}, where "
            "gates expect about 1.",
            evidence={"input_size": size, "threshold": limits.input_scale},
            confidence=confidence(math.log10(size / limits.input_scale)),
        )

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """A network that learns from such inputs has come to terms with them."""
        return moment.history.has_learned()
