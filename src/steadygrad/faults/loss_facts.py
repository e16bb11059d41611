"""What the rules may read of a loss: what it is computed from, and how it went so far."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, final

from steadygrad.faults.history import History

if TYPE_CHECKING:
    from steadygrad.flow.answers import Answers
    from steadygrad.flow.loss_graph import Slips
    from steadygrad.flow.skill import Skill

WhyLost = Literal["cleared", "scaled", "nothing", "gradients"]
"""The gradients that were clipped were gone before the step; they were multiplied by a scaler; no
parameter was given; gradients were given in place of parameters."""


@final
@dataclass(frozen=True)
class LostClip:
    """A clip that does not bound what the optimiser uses.

    Attributes:
        why: What is wrong with it.
        steps: In a row.
        site: File, line and function of the call that clips.
        scale: What the gradients were multiplied by.
    """

    why: WhyLost
    steps: int
    site: str
    scale: float = 1.0


@final
@dataclass(frozen=True)
class LossFacts:
    """What was measured of one loss.

    Attributes:
        history: Of the training, with the losses told so far.
        answers: Outputs and targets; None where the loss does not give them away.
        slips: What its graph shows; None if no loss with a graph was told.
        kept_gradients: Steps in a row whose backward pass began with the gradients of the step
            before.
        cleared_gradients: Steps in a row at which what a backward pass gave was gone before the
            step.
        lost_clip: A clip that does not bound what the optimiser uses; None if there is none.
        skill: How the model answered lately, beside a constant; None where that is not known.
    """

    history: History = field(default_factory=History)
    answers: "Answers | None" = None
    slips: "Slips | None" = None
    kept_gradients: int = 0
    cleared_gradients: int = 0
    lost_clip: LostClip | None = None
    skill: "Skill | None" = None
