"""What a fault states about itself, and the rules that it may bring."""

from abc import ABC
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final

from steadygrad.faults.finding import Finding, Key
from steadygrad.faults.history import History
from steadygrad.faults.unjudged import HEALTHY, NOT_JUDGED, Unjudged

if TYPE_CHECKING:
    from steadygrad.faults.call import CallFacts
    from steadygrad.faults.depth import DepthCase
    from steadygrad.faults.layer import LayerCase
    from steadygrad.faults.loss_facts import LossFacts
    from steadygrad.faults.thresholds import Thresholds
    from steadygrad.flow.wiring import Wiring


@final
@dataclass(frozen=True)
class Threshold:
    """A number that decides.

    Attributes:
        default: Its value.
        meaning: What is compared with it, and which side of it is a fault.
        above: It must be larger than this.
        below: It must be smaller than this.
        at_most: It must not be larger than this.
    """

    default: float
    meaning: str
    above: float = 0.0
    below: float = float("inf")
    at_most: float = float("inf")

    @property
    def allowed(self) -> str:
        """The range in words."""
        if self.at_most < float("inf"):
            return f"lie in ({self.above:g}, {self.at_most:g}]"
        return f"be above {self.above:g}" + (
            f" and below {self.below:g}" if self.below < float("inf") else ""
        )

    def allows(self, value: float) -> bool:
        """Whether a value lies in the range."""
        return self.above < value < self.below and value <= self.at_most


@final
@dataclass(frozen=True)
class Moment:
    """What is known of a training when its findings are weighed.

    Attributes:
        history: Of its steps.
        limits: The thresholds.
        passing: Findings that were not there from the first look on, and have not lasted since.
        steps: That the training has done, if known.
    """

    history: History
    limits: "Thresholds"
    passing: Container[Key]
    steps: int | None = None


class SpokenNames(Protocol):
    """What things are called in the reader's program."""

    @property
    def model(self) -> str:
        """An expression for the model."""
        ...

    @property
    def optimizer(self) -> str:
        """An expression for its optimiser."""
        ...

    @property
    def loss(self) -> str:
        """An expression for the loss of a step."""
        ...


class Fault(ABC):
    """One kind of fault: what it means, how it is recognised, what helps, how it is drawn.

    A fault is a class without state. Diagnosis, report, documentation and command line read it
    from here; nothing else lists faults. It overrides the rules that it needs:

    - `in_layer`, from the exact gradient in one direction of one layer;
    - `in_depth`, from what of the gradient reaches each layer of a deep network;
    - `in_training`, from the norms, steps and losses of a training;
    - `in_call`, from how the data meets a layer;
    - `in_loss`, from what a loss is computed from, and how it went;
    - `in_wiring`, from what holds a layer in a training: loss, graph, optimiser;
    - `undecided`, where it cannot be ruled out: then nothing is called healthy;
    - `waits`, to hold a finding back while the training may still mend itself;
    - `tuned`, for remedies whose options follow from what was measured;
    - `lines`, for the lines to paste where no remedy writes them.

    The module must be importable without torch: a report has only the record.
    """

    name: ClassVar[str]
    """As in `Finding.fault` and on the command line."""
    severity: ClassVar[int]
    """The lowest is the worst; `verdict` is the worst that was found. The house's are tens."""
    meaning: ClassVar[str]
    """What it is, in plain words; one or two sentences."""
    symptom: ClassVar[str]
    """What the user sees before anything is measured."""
    look_at: ClassVar[str]
    """Which measurement shows it."""
    measured: ClassVar[str]
    """The evidence used, and when none suffices."""
    colour: ClassVar[str]
    """Of its mark in a report, as #rrggbb; readable on light and on dark paper."""
    advice: ClassVar[tuple[str, ...]] = ()
    """What helps beside the remedies, the most promising first."""
    thresholds: ClassVar[Mapping[str, Threshold]] = {}
    """The numbers that decide, by their name in `Thresholds`."""
    caused_by: ClassVar[tuple[str, ...]] = ()
    """Faults that bring this one about: beside one of them it is reported only if it came first."""
    mended_by: ClassVar[tuple[str, ...]] = ()
    """Faults whose remedies are tried before its own where both are found."""
    needs_lag: ClassVar[bool] = False
    """Whether it is one only at a lag that the task needs; an estimated lag is told then."""
    stands_alone: ClassVar[bool] = False
    """Whether a layer that has it is not judged any further."""

    def in_layer(self, case: "LayerCase") -> Iterable[Finding]:
        """Return what is found in one direction of one layer."""
        return ()

    def in_depth(self, case: "DepthCase") -> Iterable[Finding]:
        """Return what is found in the layers of a deep network, recurrent or not."""
        return ()

    def in_training(self, history: History, limits: "Thresholds") -> Iterable[Finding]:
        """Return what is found in the steps of a training; nothing without enough numbers."""
        return ()

    def in_call(self, facts: "CallFacts", limits: "Thresholds") -> Iterable[Finding]:
        """Return what is found in one call of a layer."""
        return ()

    def in_loss(self, facts: "LossFacts", limits: "Thresholds") -> Iterable[Finding]:
        """Return what is found in the loss itself."""
        return ()

    def in_wiring(self, wiring: "Wiring", limits: "Thresholds") -> Iterable[Finding]:
        """Return what is found in how a layer hangs together with loss and optimiser."""
        return ()

    def waits(self, finding: Finding, moment: Moment) -> bool:
        """Whether a finding of this fault is held back for now."""
        return False

    def hangs(self, history: History, limits: "Thresholds") -> bool:
        """Whether one more look would decide whether this fault is there."""
        return False

    def undecided(self, history: History, limits: "Thresholds") -> Iterable[Unjudged]:
        """Return what keeps this fault from being ruled out, as far as the training has gone."""
        return ()

    def weighed(self, finding: Finding, moment: Moment) -> Finding:
        """Say how much a finding is worth at this moment of the training."""
        return finding

    def tuned(self, finding: Finding) -> tuple[str, ...]:
        """Remedies whose options follow from the evidence; they are tried before all others."""
        return ()

    def lines(self, finding: Finding, names: SpokenNames) -> str:
        """The lines to paste that mend the reader's program, where no remedy does."""
        return ""

    def check(self, limits: "Thresholds") -> None:  # noqa: B027  # a hook
        """Refuse thresholds that contradict one another.

        Raises:
            ValueError: With the names and values of both.
        """

    @final
    def finding(self, layer: str, text: str, **fields: Any) -> Finding:
        """Make a finding of this fault."""
        return Finding(self.name, layer, text, **fields)


def known() -> dict[str, Fault]:
    """Every fault that is defined so far, yours too, by name, the worst first."""
    return _by_severity(tuple(Fault.__subclasses__())).copy()


@lru_cache(maxsize=1)
def _by_severity(kinds: tuple[type[Fault], ...]) -> dict[str, Fault]:
    """The same until another fault is defined: a watch asks at every step."""
    kinds = tuple(sorted(kinds, key=lambda kind: kind.severity))
    return {kind.name: kind() for kind in kinds}


def verdict(findings: Iterable[Finding], unjudged: Iterable[Unjudged] = ()) -> str:
    """The worst fault; without one ``"not judged"`` if anything was not, else ``"healthy"``."""
    found = {f.fault for f in findings}
    without = NOT_JUDGED if any(True for _ in unjudged) else HEALTHY
    return next((fault for fault in known() if fault in found), without)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by fault; within one fault keep the order."""
    order = list(known())
    return sorted(findings, key=lambda f: order.index(f.fault))
