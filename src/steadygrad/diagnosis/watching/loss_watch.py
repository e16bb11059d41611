"""What a training's loss is computed from, and whether its gradients begin at zero."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.diagnosis.scaled import Scaling
from steadygrad.diagnosis.watching.kept_gradients import KeptGradients
from steadygrad.diagnosis.watching.lost_clips import LostClips
from steadygrad.faults import History
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.flow.loss_graph import Slips, slips_in
from steadygrad.flow.output_probe import Kept, OutputProbe
from steadygrad.flow.skill import Skill, Tally, skill

SAMPLES = 64  # steps at most of which it is kept how they were answered
READ = 16  # of these at most are read at once
MOST_VALUES = 2**15  # of an output that is kept: more takes memory


class Answered:
    """How batches were answered: a sample of steps, spread over all of a training.

    A step that is sampled costs next to nothing: what was put out, and the gradient at it, are kept
    as they are, and read when somebody asks.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._stride = 1
        self._kept: dict[int, Kept | Tally] = {}

    def wants(self, step: int) -> bool:
        """Whether the answers of this step belong to the sample."""
        return step % self._stride == 0

    def until(self, step: int) -> int:
        """Steps from this one to the next that belongs to the sample."""
        return self._stride - step % self._stride

    def keep(self, step: int, kept: Kept) -> None:
        """Take a step, if its outputs are few enough to be kept."""
        if kept.output.numel() > MOST_VALUES:
            return
        self._kept[step] = kept
        if len(self._kept) >= SAMPLES:
            self._stride *= 2
            self._kept = {at: k for at, k in self._kept.items() if self.wants(at)}

    def skill(self, told: int) -> Skill | None:
        """Over the later half of the steps so far: what was answered before is learned since."""
        late = [step for step in self._kept if 2 * step >= told]
        tallies: list[Tally] = []
        for step in late[:: -(-len(late) // READ) or 1]:
            kept = self._kept[step]
            if isinstance(kept, Kept):
                answers = kept.answers()
                if answers is None or answers.tally is None:
                    del self._kept[step]
                    continue
                kept = self._kept[step] = answers.tally
            tallies.append(kept)
        return skill(tallies)


class LossWatch:
    """Gathers what rules on a loss read.

    Args:
        model: Whose output the loss is of.
        optimizer: What steps it.
        parameters: Of the optimiser.

    Attributes:
        output: The model's output, at the steps that may be looked at.
        gradients: What the backward passes began with.
        clips: Whether the steps use what was clipped.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
    ) -> None:
        self.output = OutputProbe(model)
        self.gradients = KeptGradients(parameters)
        self.clips = LostClips(optimizer, parameters)
        self._value: float | None = None
        self._untold: Kept | None = None  # of the step before, if its loss was not told in time
        self._late: Kept | None = None
        self._late_number = 0  # of its loss
        self._is_late = False
        self._slips: Slips | None = None
        self._root: Any = None
        self._answered = Answered()

    @property
    def root(self) -> Any:
        """The node that made the loss of this step, or else the model's output; None if neither."""
        return self.output.node if self._root is None else self._root

    def keep_graph(self, is_asked: bool) -> None:
        """Keep the graph of the next steps until each is over, or do so no more."""
        self.output.keeps_graph = is_asked

    def tell(self, loss: float | Tensor, number: int) -> float:
        """Take the loss of a step; return it as a number.

        Args:
            loss: Of a batch.
            number: Of losses, with this one.
        """
        is_wanted = self.output.is_on or self.output.keeps_graph
        if is_wanted and isinstance(loss, Tensor):
            self._root = loss.grad_fn
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not self.output.is_empty:
            self._is_late = False
        elif self._untold is not None:
            self._is_late = True
        if not self._is_late:
            self._value = value
        elif self._untold is not None:
            # Told after `optimizer.step()`: it is no loss of the outputs that come next.
            self._late, self._untold = replace(self._untold, loss=value), None
            self._late_number = number
        return value

    def sample(self, history: History, scaling: Scaling) -> None:
        """Keep how this step was answered, if it is its turn."""
        number, late = history.kept[1], self._late_number
        if self._value is not None and self.output.is_on and self._answered.wants(number):
            kept = self.output.kept(self._value, scaling.scale)
            if kept is not None:
                self._answered.keep(number, kept)
        elif self._late is not None and self._answered.wants(late):
            self._answered.keep(late, self._late)

    def facts(self, history: History, scale: float, has_stood: bool) -> LossFacts:
        """What is known of the loss of this step, whose gradients were multiplied by ``scale``."""
        if self._root is not None:
            self._slips = slips_in(self._root)
        value = self._value
        answers = None if value is None else self.output.answers(value, scale)
        if value is None and self._late is not None:
            answers = self._late.answers()
        if answers is not None and answers.loss == "squared":
            history.constant = answers.target_spread**2
        return replace(
            self.of_steps(history),
            answers=answers,
            slips=self._slips,
            skill=self.skill(history, has_stood),
        )

    def of_steps(self, history: History) -> LossFacts:
        """What the steps so far have shown of their gradients."""
        kept, cleared = self.gradients.row, self.gradients.cleared
        return LossFacts(
            history,
            kept_gradients=kept,
            cleared_gradients=cleared,
            lost_clip=self.clips.fact,
        )

    def skill(self, history: History, has_stood: bool) -> Skill | None:
        """How the model answered lately, beside a constant; None while the loss still falls.

        Args:
            history: With the losses.
            has_stood: Whether the loss was seen to stand: it is followed from then on.
        """
        is_asked = has_stood or history.is_at_rest()
        return self._answered.skill(history.kept[1]) if is_asked else None

    def forget(self) -> None:
        """Forget how batches were answered: the training has gone back to an earlier step."""
        self._answered.forget()

    def end_step(self, is_next_looked_at: bool, told: int) -> None:
        """Forget the step; say whether the next one may be looked at.

        Args:
            is_next_looked_at: Whether it may.
            told: Losses so far.
        """
        # Who does not tell one loss tells none.
        is_told = self._value is not None or self._is_late
        self._untold = self.output.kept(math.nan) if self._value is None else None
        self._value = self._root = self._late = None
        self.output.clear()
        next_one = told + 1 + self._is_late
        self.output.is_on = is_next_looked_at or (is_told and self._answered.wants(next_one))

    def until_sample(self, told: int) -> int | None:
        """Losses until the next one of which it is kept how it was answered; None if none are told.

        Args:
            told: Losses so far.
        """
        return self._answered.until(told + self._is_late) if told else None

    def close(self) -> None:
        """Take the hooks off."""
        self.output.close()
        self.gradients.close()
        self.clips.close()
