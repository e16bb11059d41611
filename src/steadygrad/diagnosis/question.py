"""A question as people ask it (cell, layers, learning rate, symptom), answered by computation.

What is suspected follows from the words that the faults themselves declare, from what brings them
about, and from two things that can be computed before any training: how the gradient of such a
network travels at its start, and how far the first step of the optimiser goes.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from steadygrad.diagnosis.explain import Explanation, explain
from steadygrad.errors import InputError
from steadygrad.faults import Fault, Thresholds, known
from steadygrad.flow import gradient_through_time
from steadygrad.nn import Recurrent

Optimizer = Literal["adam", "sgd"]
INPUTS, BATCH, DEFAULT_LENGTH = 8, 4, 100
FEW = 4  # suspects that are told; more would be no answer
WEAK = 0.5  # share of the best match below which another is none
ALIKE: Mapping[str, str] = {
    "inf": "nan",
    "infinite": "nan",
    "infinity": "nan",
    "diverge": "nan",
    "diverges": "nan",
}
EMPTY = frozenset(
    "a all an and are as at be but by can do does for from has have i in into is it its my no not "
    "of off on or out so still than that the then there they this to too up was what when where "
    "which while will with epoch step steps model network".split()
)


@dataclass(frozen=True)
class Question:
    """What is known of a training.

    Attributes:
        symptom: What is seen, in words.
        cell: Name of the recurrence.
        layers: Of the stack.
        hidden: Units of each.
        lr: Learning rate.
        optimizer: Whose first step is computed.
        lag: Steps back that the task needs.
    """

    symptom: str | None = None
    cell: str = "lstm"
    layers: int = 1
    hidden: int = 128
    lr: float | None = None
    optimizer: Optimizer = "adam"
    lag: int | None = None

    def __post_init__(self) -> None:
        for name, low in (("layers", 1), ("hidden", 1), ("lag", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} must be at least {low}, got {value}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise InputError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True)
class Estimate:
    """A number computed without the user's data.

    Attributes:
        name: What it is.
        value: The number.
        text: How it was got, and what it means.
        fault: The fault that it points to, if it lies beyond that fault's threshold.
    """

    name: str
    value: float
    text: str
    fault: str | None = None


@dataclass(frozen=True)
class Suspect:
    """A fault that may be behind the symptom.

    Attributes:
        fault: What is known of it.
        why: What points to it.
        look_at: Which measurement shows it.
    """

    fault: Explanation
    why: str
    look_at: str


@dataclass(frozen=True)
class Answer:
    """What to measure, and why.

    Attributes:
        question: What was asked.
        estimates: What can be said before measuring.
        suspects: The likeliest first.
        measure: Lines to paste, that tell which of them it is.
    """

    question: Question
    estimates: tuple[Estimate, ...]
    suspects: tuple[Suspect, ...]
    measure: str


def ask(question: Question) -> Answer:
    """Say what to measure, and why.

    Raises:
        InputError: The symptom has no word of any fault's, or there is no such cell.
    """
    faults = known()
    estimates = tuple(_estimates(question))
    reasons = {e.fault: e.text for e in estimates if e.fault is not None}
    reasons = _matched(question.symptom, faults) | reasons if question.symptom else reasons
    for name in list(reasons):
        for cause in faults[name].caused_by:
            reasons.setdefault(cause, f"it brings about {name}")
    order = list(reasons)[: FEW + len(estimates)]
    suspects = tuple(Suspect(explain(n), reasons[n], faults[n].look_at) for n in order)
    return Answer(question, estimates, suspects, _lines(question))


def _matched(symptom: str, faults: Mapping[str, Fault]) -> dict[str, str]:
    """Faults by the words that they share with the symptom; a rare word counts for more."""
    asked = _words(symptom)
    texts = {n: _words(f"{n} {f.symptom} {f.meaning}") for n, f in faults.items()}
    shared = {n: asked & words for n, words in texts.items()}
    weight = {
        w: math.log(len(texts) / sum(w in words for words in texts.values()))
        for w in set().union(*shared.values())
    }
    scores = {n: sum(weight[w] for w in words) for n, words in shared.items() if words}
    best = max(scores.values(), default=0.0)
    if best <= 0:
        told = "; ".join(f"{f.symptom} ({n})" for n, f in faults.items())
        raise InputError(
            f"no fault is known by the words of {symptom!r}; what faults look like: {told}"
        )
    kept = sorted((n for n in scores if scores[n] >= WEAK * best), key=lambda n: -scores[n])
    return {n: f"“{faults[n].symptom}” ({', '.join(sorted(shared[n]))})" for n in kept[:FEW]}


def _words(text: str) -> set[str]:
    """Words that carry meaning, their commonest endings taken off."""
    found = {str(ALIKE.get(w, w)) for w in re.findall(r"[a-z]+", text.lower())} - EMPTY
    return {re.sub(r"(?<=[a-z]{4})(ing|es|ed|s)$", "", word) for word in found}


def _estimates(question: Question) -> list[Estimate]:
    limits = Thresholds()
    found = [_decay(question, limits)]
    if question.lr is not None and question.optimizer == "adam":
        found.append(_first_step(question.lr, question.hidden, limits))
    return found


def _decay(question: Question, limits: Thresholds) -> Estimate:
    """Measure how the gradient travels in such a network at its initialisation."""
    length = question.lag or DEFAULT_LENGTH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            layer = Recurrent(question.cell, INPUTS, question.hidden, question.layers)
        except (ValueError, TypeError) as error:
            raise InputError(str(error)) from None
        x = torch.randn(length + 1, BATCH, INPUTS)
        target = torch.randn(question.hidden)
    measured = gradient_through_time(layer, lambda: (layer(x)[0][-1] @ target).sum(), lag=length)
    # What reaches the lowest layer has come the whole way.
    ratio = min(f.left.at(length) for f in measured.flows.values() if f.is_lowest)
    fault = None
    if question.lag is not None:
        low, high = math.log10(limits.vanishing), math.log10(limits.exploding)
        fault = "vanishing" if ratio < low else "exploding" if ratio > high else None
    stack = f"{question.layers} layers of" if question.layers > 1 else "one layer of"
    text = (
        f"at initialisation {stack} {question.hidden} {question.cell} units on random input "
        f"change the gradient by {ratio / length:+.3f} decades a step: by 1e{ratio:.1f} over "
        f"{length} steps (vanishing is below {limits.vanishing:g}, exploding above "
        f"{limits.exploding:g})"
    )
    return Estimate("log10_ratio", ratio, text, fault)


def _first_step(lr: float, hidden: int, limits: Thresholds) -> Estimate:
    r"""The first step of Adam moves every weight by the learning rate, whatever the gradient.

    Recurrent weights start uniform in :math:`\pm 1/\sqrt H`: root mean square
    :math:`1/\sqrt{3H}`.
    """
    size = lr * math.sqrt(3 * hidden)
    fault = (
        "lr-high" if size >= limits.update_high else "lr-low" if size <= limits.update_low else None
    )
    text = (
        f"the first steps of Adam move each weight by about the learning rate: {size:.1%} of the "
        f"recurrent weights at their start (too high from {limits.update_high:.0%}, too low below "
        f"{limits.update_low:g})"
    )
    return Estimate("update_ratio", size, text, fault)


def _lines(question: Question) -> str:
    lag = f", lag={question.lag}" if question.lag is not None else ""
    lines = {
        f"d = sg.diagnose(model, loss_fn{lag})": "before training, on one batch",
        f"w = sg.watch(model, optimizer{lag})": "then train as always; w.loss(loss) each step",
        "print(w)": "what was found, where, since which step",
    }
    width = max(map(len, lines))
    return "\n".join(f"{code:<{width}}  # {says}" for code, says in lines.items())
