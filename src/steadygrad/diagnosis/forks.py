"""Short trainings side by side, and a choice that only what is better beyond noise survives.

Every candidate, and nothing, is first tried once under one seed. The best few then meet nothing
again under fresh seeds, in pairs. One is kept only if its gain over nothing, averaged over these
pairs, exceeds what the spread of the pairs explains; or if each of its trainings ended better than
every training without it, which three against three do by chance one time in twenty. The second
test knows no scale: a training that goes wrong ends anywhere, and that spread is no reason to
doubt a remedy under which all end alike. What was chosen among several on the same numbers would
look better than it is; so the first round only says who may enter the second.

A candidate fails as a whole if a single one of its trainings under fresh seeds ends with a score
that is not finite, or leaves the network no better than it was before: what only keeps a dead
training from stopping is no remedy.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean, stdev
from typing import Any, Literal

# Student's t, one-sided, 95 %, by degrees of freedom; beyond the table its limit is near enough.
T95 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833}
LEAST_SEEDS = 3
"""Fresh seeds under which a candidate has to prove itself, at least."""
NOTHING = "nothing"
Better = Literal["lower", "higher"]
Stage = Literal["first", "fresh"]


@dataclass(frozen=True)
class Scored:
    """The score of a short training, with what else was measured of it.

    Attributes:
        score: On the validation data, at the end of the training; NaN if it diverged.
        log10_ratio_before: Gradient left at the required lag before training and without the
            remedy; the smallest of all layers.
        log10_ratio_after: The same after the training.
        verdict: Of the model after the training.
        changed: What the remedy changed, in plain words.
        has_learned: Whether the training left the network better than it was before; None if
            that is not known.
    """

    score: float
    log10_ratio_before: float = math.nan
    log10_ratio_after: float = math.nan
    verdict: str = ""
    changed: str = ""
    has_learned: bool | None = None


Score = Callable[[str | None, int], float | Scored]
"""Trains with a candidate, or without (None), under a seed, and returns the validation score."""


@dataclass(frozen=True)
class Fork:
    """One short training.

    Attributes:
        candidate: What was tried; ``"nothing"`` for the control.
        seed: Of weights, data order and all else that is drawn.
        score: On the validation data; NaN if it diverged.
        seconds: What it cost.
        stage: ``"first"`` or ``"fresh"`` seeds.
        measured: What else was measured.
    """

    candidate: str
    seed: int
    score: float
    seconds: float
    stage: Stage
    measured: Scored | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it ended with no finite score, or no better than before the training."""
        has_learned = None if self.measured is None else self.measured.has_learned
        return not math.isfinite(self.score) or has_learned is False

    def to_record(self, kept: str | None, score_unit: str = "") -> dict[str, Any]:
        """The training as a record keeps it, under the note ``trials``.

        Args:
            kept: The candidate that was kept.
            score_unit: Of the score.
        """
        name, _, options = self.candidate.partition(":")
        pairs = (pair.partition("=") for pair in filter(None, options.split(",")))
        found = {} if self.measured is None else asdict(self.measured)
        return found | {
            "remedy": name,
            "options": {option: value for option, _, value in pairs},
            "seed": self.seed,
            "stage": self.stage,
            "score": self.score,
            "score_unit": score_unit,
            "kept": self.candidate == kept,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Choice:
    """What the forks say.

    Attributes:
        kept: The candidate that is better beyond noise, or None.
        why: In one sentence.
        gain: Mean gain of it, or of the best that was not kept, over fresh seeds; None if no
            candidate got so far; infinite if every training without it failed.
        least: What the gain is at least, at 95 %, by the spread of the pairs; it may be below zero
            for one that was kept because all its trainings ended better than any without it.
        forks: All trainings, in the order in which they ran.
    """

    kept: str | None
    why: str
    gain: float | None
    least: float | None
    forks: tuple[Fork, ...]

    @property
    def seconds(self) -> float:
        """What all of it cost."""
        return sum(fork.seconds for fork in self.forks)

    def before(self, later: "Choice") -> "Choice":
        """This choice, which kept nothing, and what was then chosen among others."""
        told = later if later.kept is not None or self.gain is None else self
        return replace(told, forks=(*self.forks, *later.forks))


def choose(
    candidates: Sequence[str],
    score: Score,
    *,
    better: Better = "higher",
    seeds: int = 4,
    finalists: int = 2,
    first_seed: int = 0,
    tell: Callable[[Fork], None] = lambda fork: None,
) -> Choice:
    """Try candidates against nothing, and keep one or none.

    Args:
        candidates: By name, the most promising first: of equals the earlier one wins.
        score: Trains and scores; the budget must not depend on the candidate.
        better: Which way a score is better.
        seeds: Fresh seeds of the second round, at least three.
        finalists: How many enter it.
        first_seed: Of the first round; the fresh ones follow it.
        tell: Called after every training.

    Raises:
        ValueError: Fewer than three seeds, no finalists, one name twice, or ``better`` is neither
            way.
    """
    sign = sign_of(better)
    if seeds < LEAST_SEEDS or finalists < 1:
        raise ValueError(
            f"expected at least {LEAST_SEEDS} seeds and 1 finalist, got {seeds} and {finalists}: "
            "without a spread nothing can be told from noise"
        )
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"a candidate is named twice in {', '.join(candidates)}")
    runs = _Runs(score, sign, tell)
    first = {name: runs.merit(name, first_seed, "first") for name in (None, *candidates)}
    ahead = [n for n in candidates if first[n] > first[None]]
    ahead = sorted(ahead, key=lambda n: -first[n])[:finalists]
    if not ahead:
        text = _none_ahead(runs.done)
        return Choice(None, text, None, None, tuple(runs.done))
    fresh = range(first_seed + 1, first_seed + 1 + seeds)
    control = [runs.merit(None, seed, "fresh") for seed in fresh]
    has_failed = [fork.has_failed for fork in runs.done[-seeds:]]
    merits = {n: [runs.merit(n, seed, "fresh") for seed in fresh] for n in ahead}
    gains = {name: _gain(merits[name], control, has_failed) for name in ahead}
    apart = {name: min(merits[name]) > max(control) for name in ahead}
    best = max(ahead, key=lambda n: (gains[n][1] > 0 or apart[n], *gains[n][::-1]))
    mean, least = gains[best]
    kept = best if least > 0 or apart[best] else None
    why = _why(best, mean, least, seeds, apart[best])
    return Choice(kept, why, mean, least, tuple(runs.done))


def _none_ahead(forks: Sequence[Fork]) -> str:
    if all(fork.has_failed for fork in forks):
        return (
            "every training failed in the first round, with each candidate and without: none "
            "ended with a finite score that is better than before the training"
        )
    return "no candidate beat the untreated run in the first round"


def _why(best: str, mean: float, least: float, seeds: int, is_apart: bool) -> str:
    if mean == -math.inf:
        return (
            f"{best} came closest, but failed under at least one of {seeds} fresh seeds: it ended "
            "with no finite score, or no better than before the training"
        )
    if mean == math.inf:
        return (
            f"{best} ended well under all {seeds} fresh seeds, where the untreated training failed "
            "every time"
        )
    if least > 0:
        return (
            f"{best} is better by {mean:.4g}, at least {least:.4g} (95 %), over {seeds} fresh seeds"
        )
    if is_apart:
        return (
            f"{best} ended better under each of {seeds} fresh seeds than the untreated training "
            f"under any, by {mean:.4g} in the mean"
        )
    return f"{best} came closest, by {mean:.4g} over {seeds} fresh seeds: within noise"


def first_to_reach(
    candidates: Sequence[str],
    score: Score,
    target: float,
    *,
    better: Better = "higher",
    seeds: int = LEAST_SEEDS,
    first_seed: int = 0,
    tell: Callable[[Fork], None] = lambda fork: None,
) -> Choice:
    """Try candidates one after the other, and keep the first that reliably reaches a target.

    Cheaper than `choose` where it is known what score means that the task is solved: a training
    that reaches it needs no control, for the one that called for a remedy has failed. A candidate
    is kept if it reaches the target under each of ``seeds`` fresh seeds; one miss is made up for
    by two more seeds (four of five), unless it was the first.

    Args:
        candidates: By name, the most promising first.
        score: Trains and scores.
        target: The score that counts as solved.
        better: Which way a score is better.
        seeds: Fresh seeds that a candidate has to reach the target under, at least three.
        first_seed: The first of them; every candidate has the same.
        tell: Called after every training.

    Raises:
        ValueError: Fewer than three seeds, or ``better`` is neither way.
    """
    sign = sign_of(better)
    if seeds < LEAST_SEEDS:
        raise ValueError(f"expected at least {LEAST_SEEDS} seeds, got {seeds}")
    runs = _Runs(score, sign, tell)
    reached = partial(_reaches, runs, sign * target, range(first_seed, first_seed + seeds + 2))
    for name in candidates:
        scores = reached(name, seeds)
        if scores is not None:
            worst = min(scores, key=lambda value: sign * value)
            text = (
                f"{name} reached the target of {target:.4g} under {len(scores)} fresh seeds, with "
                f"{worst:.4g} at worst"
            )
            return Choice(name, text, None, None, tuple(runs.done))
    text = f"no candidate reached {target:.4g} reliably; each was tried under fresh seeds"
    return Choice(None, text, None, None, tuple(runs.done))


def _reaches(
    runs: "_Runs", target: float, fresh: range, name: str, least: int
) -> list[float] | None:
    """The scores that reached the target, if it was reached often enough; None as soon as not."""
    scores: list[float] = []
    for count, seed in enumerate(fresh, 1):
        if runs.merit(name, seed, "fresh") >= target:
            scores.append(runs.done[-1].score)
        misses = count - len(scores)
        if misses > 1 or (misses and count == 1):
            return None
        if len(scores) == least + misses:
            return scores
    return None


def sign_of(better: Better) -> float:
    """1 where a higher score is better, -1 where a lower one is.

    Raises:
        ValueError: It is neither.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better must be 'lower' or 'higher', got {better!r}")
    return 1.0 if better == "higher" else -1.0


class _Runs:
    def __init__(self, score: Score, sign: float, tell: Callable[[Fork], None]) -> None:
        self.score, self.sign, self.tell = score, sign, tell
        self.done: list[Fork] = []

    def merit(self, name: str | None, seed: int, stage: Stage) -> float:
        """Train once; the score, larger is better, and a training that failed worse than any."""
        began = time.perf_counter()
        found = self.score(name, seed)
        value = float(found.score if isinstance(found, Scored) else found)
        measured = found if isinstance(found, Scored) else None
        fork = Fork(name or NOTHING, seed, value, time.perf_counter() - began, stage, measured)
        self.done.append(fork)
        self.tell(fork)
        is_worst = fork.has_failed if name is not None else not math.isfinite(value)
        return -math.inf if is_worst else self.sign * value


def _gain(
    candidate: list[float], control: list[float], has_failed: list[bool]
) -> tuple[float, float]:
    """Mean gain over pairs, and what it is at least, at 95 %.

    A pair in which the control failed is won, without a number, by any candidate that did not and
    has the better score: how far a network falls apart says nothing of what it could have learned.
    """
    if any(math.isinf(c) for c in candidate):
        return -math.inf, -math.inf
    rows = zip(candidate, control, has_failed, strict=True)
    pairs = [a - b for a, b, failed in rows if not (failed and a > b)]
    if not pairs:
        return math.inf, math.inf
    mean = fmean(pairs)
    if len(pairs) == 1:  # the others failed: all pairs must be won
        return mean, mean
    free = len(pairs) - 1
    return mean, mean - T95.get(free, 1.8) * stdev(pairs) / math.sqrt(len(pairs))
