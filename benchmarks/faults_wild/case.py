"""One case: a training as a user would write it, and what is to be said of it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

SEEN = frozenset(
    "decoder-loop-beside-an-lstm loop-with-raw-weights meta-learning "
    "meta-learning-beside-plain-calls vmap-of-grad column-minus-row layers-in-a-plain-list "
    "done-mask-inverted".split()
)
"""Cases that were looked at while a rule for them was made: development, whatever their hash."""
UNSEEN = frozenset(
    "gated-decoder-beside-a-gru ensemble-in-one-call column-against-row-in-huber "
    "ranking-of-all-pairs layers-in-a-plain-dict reset-where-not-done".split()
)
"""Their siblings, written in their place and not looked at: held back, whatever their hash."""

Part = Literal["development", "held-back"]
PARTS: tuple[Part, ...] = ("development", "held-back")
Kind = Literal["fault", "healthy", "odd"]
Tell = Callable[[Tensor], None]


class Training:
    """A model, its optimiser and a loss; a case overrides what its user got wrong.

    Attributes:
        clip: Bound on the norm of the gradient, between backward pass and step.
        scheduler: Stepped after every step of the optimiser.
    """

    clip: float | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model: Any = model
        self.optimizer = optimizer

    def loss(self) -> Tensor:
        """Of the next batch."""
        raise NotImplementedError

    def step(self, tell: Tell) -> float:
        """One step, telling the loss as README shows it."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        tell(loss)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return float(loss.detach())


@dataclass(frozen=True)
class Case:
    """A training and its label.

    Attributes:
        name: Of the case.
        kind: ``"fault"``; ``"healthy"``, a twin without it; ``"odd"``, right though it looks wrong.
        source: Address of the report that it is modelled on.
        make: Makes the training; the seed is set before.
        right: Names of a fault that are right; a fault may show as any of them.
        lag: As a user would guess it.
        is_measurable: Whether all of the way through time is measured, so that ``"healthy"`` may
            be said; without a lag it may not.
        steps: Of the training.
        twin: Name of the case without the fault.
    """

    name: str
    kind: Kind
    source: str
    make: Callable[[], Training] = field(repr=False)
    right: tuple[str, ...] = ()
    lag: int | None = None
    is_measurable: bool = True
    steps: int = 400
    twin: str = ""

    @property
    def part(self) -> Part:
        """By a hash of the name, the same for a fault and its twin."""
        if self.name in SEEN:
            return "development"
        if self.name in UNSEEN:
            return "held-back"
        digest = hashlib.sha256((self.twin or self.name).encode()).digest()
        return "development" if digest[0] % 2 == 0 else "held-back"


CASES: dict[str, Case] = {}
"""Every case by name."""


def case(
    source: str,
    *right: str,
    kind: Kind = "fault",
    name: str = "",
    args: tuple[Any, ...] = (),
    **fields: Any,
) -> Callable[[Callable[..., Training]], Callable[..., Training]]:
    """Register a function or class as a case, under its own name or another.

    Args:
        source: Address of the report.
        right: Names of a fault that are right.
        kind: As `Case.kind`.
        name: If not the function's.
        args: Handed to the function.
        fields: Of `Case`.
    """

    def register(make: Callable[..., Training]) -> Callable[..., Training]:
        label = (name or make.__name__).replace("_", "-")
        assert label not in CASES, label
        CASES[label] = Case(label, kind, source, lambda: make(*args), right, **fields)
        return make

    return register


def of_part(part: Part) -> Iterator[Case]:
    """The cases of one part, in order."""
    return (c for c in CASES.values() if c.part == part)
