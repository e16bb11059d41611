"""Events of a training run for a listener; the library itself prints nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from steadygrad.tasks import Score

Status = Literal["finished", "interrupted", "diverged"]


@dataclass(frozen=True)
class Started:
    """Data and model are ready; training begins at ``step``."""

    title: str
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    parameters: int
    device: str
    folder: Path
    step: int
    max_steps: int
    batches: int  # per epoch


@dataclass(frozen=True)
class Read:
    """Progress in reading the file, in bytes."""

    done: int
    total: int


@dataclass(frozen=True)
class Understood:
    """How the file was understood, before it is used: titles and texts."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prepared:
    """A slow preparation before the first step has begun, or ended."""

    text: str


@dataclass(frozen=True)
class Stepped:
    """One training step is done."""

    step: int
    epoch: int
    loss: float
    gradient: Mapping[str, Any]  # those known of grad_norm, clipped_share, horizon, slope, verdict
    seconds: float  # of training, including earlier parts of a resumed run


@dataclass(frozen=True)
class Validated:
    """The validation part was scored."""

    step: int
    epoch: int
    loss: float
    figures: Mapping[str, float]
    is_best: bool
    learning_rate: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True)
class Remark:
    """A message: a resumption, a fault, a stop and its reason."""

    kind: str
    step: int
    text: str


Event = Read | Understood | Started | Prepared | Stepped | Validated | Saved | Remark
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Ended:
    """The end of a completed run; fields as in `Outcome`."""

    status: Literal["finished", "diverged"]
    verdict: str
    scores: tuple[Score, ...]
    beats_naive: bool | None
    text: str
    findings: tuple[Mapping[str, Any], ...]
    margin: str = ""
    not_judged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: Finished, interrupted (resume it), or diverged (a loss was not finite).
        verdict: Verdict of the gradient's measurements.
        scores: Scores of the model, then of the naive answers, on the test part; empty if
            interrupted.
        beats_naive: Whether the model is better than every naive answer, by the deciding figure.
        text: One sentence for the user.
        step: Training steps done.
        seconds: Time that training took, over all parts of a resumed run.
        record: The run's record.
        weights: Best weights, if the run was completed.
        findings: The faults found.
        notes: How the data were prepared.
        rollbacks: Each return to a good state after the training had diverged.
        margin: How the model compares with the best simple answer, in one sentence.
        not_judged: What was not judged, why, and what to do, in one sentence each.
    """

    status: Status
    verdict: str
    scores: tuple[Score, ...]
    beats_naive: bool | None
    text: str
    step: int
    seconds: float
    record: Path
    weights: Path | None
    findings: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    rollbacks: tuple[Mapping[str, Any], ...] = ()
    margin: str = ""
    not_judged: tuple[str, ...] = ()

    def ended(self) -> Ended:
        """The part of the outcome that the checkpoint stores.

        Raises:
            ValueError: It was interrupted.
        """
        if self.status == "interrupted":
            raise ValueError("an interrupted run has not ended")
        own = (self.verdict, self.scores, self.beats_naive, self.text, self.findings)
        return Ended(self.status, *own, margin=self.margin, not_judged=self.not_judged)
