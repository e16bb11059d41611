"""Losses that keep a training from being called healthy, whatever its gradient.

One that stands where a constant answer would, or where it began, and one under steps that are
nearly too large, or very small.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from steadygrad.faults import History, LossFacts, Thresholds, Unjudged
from steadygrad.faults.history import ENOUGH, ENOUGH_UPDATES, GOOD_STEP, finite, start_of

LEAST = 0.05
"""Skill from which a model makes use of its input: of a batch of some dozens, less is chance."""
FEWEST = 64  # targets
ABOVE = -0.2  # skill below which a constant is plainly better
NEARLY = 0.5  # of a step that is too large, from which it cannot be called a good one either
TINY = GOOD_STEP / 100  # size of a step, relative to the weights, that may hold a training back
MOST_LAYERS = 3  # whose shapes are told


def standing(
    facts: LossFacts, shapes: Mapping[str, tuple[int, int]], has_stood: bool = False
) -> Unjudged | None:
    """What is to be said of a loss that came to rest where the input makes no difference.

    Of a training that is short, or whose loss still falls, nothing; nor of one whose loss rests
    below what a constant scores, however long: that may be all that the data tell.

    Args:
        facts: What is known of the loss.
        shapes: Of each layer, the steps and sequences that it was given last.
        has_stood: Whether it was said before: then it holds until the model makes use of its input.
            A loss that jumps up and down seems to fall at every other look.
    """
    skill = facts.skill
    if skill is None or skill.targets < FEWEST or skill.value >= LEAST:
        return None
    if not (has_stood or facts.history.is_at_rest()):
        return None
    where = "above" if skill.value < ABOVE else "at"
    why = (
        f"the gradient arrives, yet the loss stands {where} what a constant answer scores "
        f"({skill.error:.4g} a target, a constant {skill.constant:.4g}, over {skill.targets} "
        "targets); why is not in the gradient"
    )
    how = (
        "train on one small batch alone. If its loss goes to zero, look at how inputs and targets "
        "are paired (shuffled apart, a step or label off, random, or not to be told from the "
        "inputs) and at states that go on from one sequence to another; if it does not, look at "
        "the scale of inputs and targets, at what the head reads, and at the axes"
        f"{_told(shapes)}"
    )
    return Unjudged("What the training learns", why, how)


def unmoved(history: History) -> Unjudged | None:
    """What is to be said of a loss at rest where it began, if nothing is known of its targets."""
    values = finite(history.loss)
    if len(values) < ENOUGH or start_of(values) <= 0 or history.has_moved():
        return None
    return Unjudged(
        "What the training learns",
        f"the gradient arrives, yet the loss stands where it began ({start_of(values):.4g}), and "
        "it is not known what a constant answer scores",
        "train on one small batch alone, whose loss has to go to zero; and give w.loss the loss "
        "itself, not loss.item(), before optimizer.step()",
    )


def _told(shapes: Mapping[str, tuple[int, int]]) -> str:
    each: Iterable[str] = (
        f"{name} is given {steps} steps of {rows} sequences"
        for name, (steps, rows) in list(shapes.items())[:MOST_LAYERS]
    )
    text = "; ".join(each)
    return f" ({text})" if text else ""


def rate_in_doubt(history: History, limits: Thresholds) -> Unjudged | None:
    """What is to be said of steps nearly too large, or very small, if the loss is not far.

    A loss may fall under such a rate, and rest far above where another one would bring it, or come
    down many times slower than under another: none can be told from the training alone.
    """
    update = finite(history.update)
    if len(update) < ENOUGH_UPDATES or len(history.loss) < ENOUGH or history.has_learned():
        return None
    if float(np.median(update[-ENOUGH_UPDATES:])) < limits.update_low and history.is_at_rest():
        return Unjudged(
            "What the learning rate holds back",
            f"the steps have become as small as {float(update[-1]):.1g} of the weights, and the "
            "loss, which rests, is not down to a tenth of its start",
            "look at the schedule: it may be stepped more often than it is meant to be",
        )
    usual = float(np.median(update))
    if usual < TINY and history.creeps():
        return Unjudged(
            "What the learning rate holds back",
            f"each step changes the weights by {usual:.1g} of their norm, and "
            "the loss still comes down and is not at a tenth of its start",
            "train for a while at ten times the learning rate and compare the losses",
        )
    size = float(np.median(update[-10:]))
    if size < NEARLY * limits.update_high:
        return None
    return Unjudged(
        "What the learning rate holds back",
        f"steps still change the weights by {size:.0%} of their norm, and the loss is not down to "
        "a tenth of its start: it may rest where such steps keep it",
        "train for a while at a third of the learning rate and compare the losses",
    )
