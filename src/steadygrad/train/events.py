"""What a training run tells whoever listens; the library itself prints nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from steadygrad.tasks import Score

Status = Literal["finished", "interrupted", "diverged"]


@dataclass(frozen=True)
class Started:
    """The data is read and the model stands; training begins at ``step``."""

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
    """So many bytes of the file are read."""

    done: int
    total: int


@dataclass(frozen=True)
class Understood:
    """What the file was understood to hold, before anything is made of it: a title and its text."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prepared:
    """Something is done before the first step, that takes a while; or is done now."""

    text: str


@dataclass(frozen=True)
class Stepped:
    """One training step is done."""

    step: int
    epoch: int
    loss: float
    gradient: Mapping[str, Any]  # grad_norm, clipped_share, horizon, slope, verdict: what is known
    seconds: float  # of training, earlier parts of a resumed run included


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
    """Something worth a line: a resumption, a fault, a stop and its reason."""

    kind: str
    step: int
    text: str


Event = Read | Understood | Started | Prepared | Stepped | Validated | Saved | Remark
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Ended:
    """What a run that came to its end says of it; as in `Outcome`."""

    status: Literal["finished", "diverged"]
    verdict: str
    scores: tuple[Score, ...]
    beats_naive: bool | None
    text: str
    findings: tuple[Mapping[str, Any], ...]
    margin: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: Finished, interrupted (resume it), or diverged (a loss was not finite).
        verdict: What the gradient's measurements say.
        scores: The model's, then the naive answers', on the test part; empty if interrupted.
        beats_naive: Whether the model is better than every naive answer, by the deciding figure.
        text: One sentence for the reader.
        step: Training steps done.
        seconds: Time that training took, over all parts of a resumed run.
        record: The run's record.
        weights: Best weights, if the run came to an end.
        findings: Faults that were found.
        notes: What was done to the data.
        rollbacks: Each return to a good state after the training had diverged.
        margin: How the model compares with the best simple answer, in one sentence.
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

    def ended(self) -> Ended:
        """The part of a run's end that its checkpoint keeps.

        Raises:
            ValueError: It was interrupted.
        """
        if self.status == "interrupted":
            raise ValueError("an interrupted run has not ended")
        own = (self.verdict, self.scores, self.beats_naive, self.text, self.findings)
        return Ended(self.status, *own, margin=self.margin)
