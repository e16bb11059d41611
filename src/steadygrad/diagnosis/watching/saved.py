"""The state of a watch as a checkpoint keeps it, so that a resumed training is judged as one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steadygrad.faults import Finding, Unjudged
from steadygrad.flow import StateChange

UNSEEN = (
    Unjudged(
        "The gradient through time",
        "no step of the training has been measured so far",
        "let the training run on; give a larger budget=, or every=N, if it ends before a look",
    ),
)
SERIES = ("before", "after", "update", "loss", "norms", "clipped")


@dataclass(frozen=True)
class SavedFinding:
    """A finding under the name of the layer whose calls it was seen in."""

    name: str
    finding: Finding


@dataclass(frozen=True)
class Raised:
    """How many looks in a row have raised a candidate finding."""

    fault: str
    layer: str
    gate: str | None
    looks: int
    passing: bool


@dataclass(frozen=True)
class WatchFacts:
    """Everything but series of numbers.

    Attributes:
        measured: Whether there was a measurement: without one there is no verdict.
        latest: Last numbers.
        broken: The first step that was not finite.
        found: Findings as of the last look.
        raised: Candidate findings.
        looks: Looks so far.
        of_calls: Findings on the calls themselves, such as a state that leaks between batches.
        called: Whether a recurrent layer was seen to be called.
        begun: The step that the schedule of looks counts from.
        grows: Whether the gradient grows through time, if that was measured.
        stride: Every how many steps a loss is kept.
        told: How many losses were told.
        gaps: What was not measured of what a verdict needs.
        withheld: What is not to be judged yet.
        weight_norm: Norm of the weights when the training began.
        standing: That the loss stands where a constant answer would, if it does.
        layers: What is noted of each layer, as of the last measurement.
        changes: What single steps of the recurrent parameters did to the states.
        memory: log10 of the gradient left per step back, where most is left, if it was measured.
    """

    measured: bool = False
    latest: Mapping[str, Any] = field(default_factory=dict)
    broken: Finding | None = None
    found: tuple[Finding, ...] = ()
    raised: tuple[Raised, ...] = ()
    looks: int = 0
    of_calls: tuple[SavedFinding, ...] = ()
    called: bool = False
    begun: int = 0
    grows: bool | None = None
    stride: int = 1
    told: int = 0
    gaps: tuple[Unjudged, ...] = UNSEEN
    withheld: tuple[Unjudged, ...] = ()
    weight_norm: float | None = None
    standing: Unjudged | None = None
    layers: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[StateChange, ...] = ()
    memory: float | None = None

    def __post_init__(self) -> None:
        if min(self.looks, self.begun, self.told) < 0 or self.stride < 1:
            raise ValueError("a count of the watch is negative")


def packed(values: Iterable[float]) -> Tensor:
    """A series of numbers as a tensor."""
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def unpacked(tensors: Mapping[str, Tensor], name: str) -> list[float]:
    """The series of that name; empty if it was not saved.

    Raises:
        ValueError: It is no series of numbers.
    """
    if name not in tensors:
        return []
    found = tensors[name]
    if found.dim() != 1 or found.dtype != torch.float64:
        raise ValueError(f"the watch's {name} is no series of numbers")
    return found.tolist()
