"""Trials: each remedy tried briefly on a copy of the model, and ranked by what it did to it."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import nn

from steadygrad.diagnosis.diagnose import Diagnosis
from steadygrad.remedies import Applied, Remedy

Fit = Callable[[nn.Module, Remedy | None, Applied], float]
"""Trains a model for the budget and returns a score.

The remedy treats its gradients (`Remedy.begin`), and what was applied has the penalty that is added
to the loss (`Applied.penalty`; zero where there is none).
"""
Probe = Callable[[nn.Module], Diagnosis]
"""Diagnoses a model, on the same batch every time."""


@final
@dataclass(frozen=True)
class RemedyTrial:
    """What one remedy did to one model in a short training.

    Attributes:
        remedy: What was tried; None is the control, the model as it was.
        score: Of the validation data, after the trial.
        log10_ratio_before: Gradient left at the required lag, of the untreated model before
            training; the smallest of all layers.
        log10_ratio_after: The same after the trial.
        verdict: Of the model after the trial.
        changed: What the remedy changed, in plain words.
        seconds: Time of the training.
        kept: Whether this is the trial that won, against the control too.
    """

    remedy: Remedy | None
    score: float
    log10_ratio_before: float
    log10_ratio_after: float
    verdict: str
    changed: str
    seconds: float
    kept: bool = False

    @property
    def name(self) -> str:
        """The remedy as one types it, or ``nothing`` for the control."""
        return "nothing" if self.remedy is None else self.remedy.spec

    def to_record(self, score_unit: str = "") -> dict[str, Any]:
        """The trial as a record keeps it, under the note ``trials``."""
        return {
            "remedy": "nothing" if self.remedy is None else self.remedy.name,
            "options": {} if self.remedy is None else self.remedy.options,
            "score": self.score,
            "score_unit": score_unit,
            "log10_ratio_before": self.log10_ratio_before,
            "log10_ratio_after": self.log10_ratio_after,
            "kept": self.kept,
            "seconds": self.seconds,
            "verdict": self.verdict,
            "changed": self.changed,
        }


def trials(
    model: nn.Module,
    remedies: Iterable[Remedy],
    fit: Fit,
    probe: Probe,
    *,
    better: Literal["lower", "higher"] = "higher",
    seed: int = 0,
    tell: Callable[[RemedyTrial], None] = lambda trial: None,
) -> list[RemedyTrial]:
    """Try every remedy, and nothing, from the same start under the same budget.

    Each trial works on a copy of ``model`` and under the same random seed, so ``model`` and the
    random state stay as they are: what did not help leaves no trace. Remedies that do not suit
    the model are passed over. A remedy is kept only if it scores strictly better than the
    control; a NaN is worse than any score.

    Choose with a validation score. The best of several is an optimistic figure, so report it on
    data that had no part in the choice.

    Args:
        model: The model before training.
        remedies: Candidates, such as a finding's ``remedies``, parsed.
        fit: Makes an optimiser for the model it is given, trains for the budget, and returns the
            validation score. The budget must not depend on the remedy.
        probe: Diagnoses a model at the lag that matters.
        better: Which way the score is better.
        seed: Set before every remedy is applied and trained.
        tell: Called after every trial.

    Returns:
        The trials, best first, the control among them; at most one is kept.
    """
    before = log10_ratio(probe(model))
    candidates = [None, *(remedy for remedy in remedies if remedy.applicable(model))]
    done: list[RemedyTrial] = []
    for remedy in candidates:
        done.append(_try(model, remedy, fit, probe, seed, before))
        tell(done[-1])
    sign = 1.0 if better == "higher" else -1.0

    def merit(trial: RemedyTrial) -> float:
        return -math.inf if math.isnan(trial.score) else sign * trial.score

    control = merit(done[0])
    ranked = sorted(done, key=merit, reverse=True)  # stable: of equals the one prescribed first
    if merit(ranked[0]) > control:
        ranked[0] = replace(ranked[0], kept=True)
    return ranked


def log10_ratio(diagnosis: Diagnosis) -> float:
    """Gradient left at the lag of a diagnosis, or at the longest; the smallest of all layers.

    A NaN in any layer makes it NaN.
    """
    curves = [flow.by_lag for flow in diagnosis.flow.values() if flow.by_lag.max_lag > 0]
    left = [c.at(c.max_lag if diagnosis.lag is None else diagnosis.lag) for c in curves]
    return math.nan if not left or any(map(math.isnan, left)) else min(left)


def _try(
    model: nn.Module, remedy: Remedy | None, fit: Fit, probe: Probe, seed: int, before: float
) -> RemedyTrial:
    """Run one trial on a copy."""
    twin = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        applied = Applied() if remedy is None else remedy.apply(twin)
        began = time.perf_counter()
        score = fit(twin, remedy, applied)
        seconds = time.perf_counter() - began
    found = probe(twin)
    return RemedyTrial(
        remedy, score, before, log10_ratio(found), found.verdict, applied.changed, seconds
    )
