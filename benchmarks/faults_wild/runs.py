"""Run cases, one line of JSON each; what is there is not run again."""

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import steadygrad as sg
from benchmarks.faults_wild.case import Case, Training
from benchmarks.faults_wild.lines import append, kept

HEALTHY, NOT_JUDGED = "healthy", "not judged"


@dataclass(frozen=True)
class Run:
    """What came of one case.

    Attributes:
        name: Of the case.
        kind: Of the case.
        part: Of the case.
        right: Names that are right.
        may_be_healthy: Whether everything that a verdict of health needs can be measured.
        verdict: Of the watch at the end of the training.
        findings: Faults, the worst first.
        unjudged: What was not judged.
        at_start: Verdict of one look before the training; the class of an error if it was refused.
        losses: Mean of the first tenth of the losses, and of the last.
        seconds: Of the training, watched.
        share: Of that time, spent on watching, by the watch's own account.
        confidences: Of the findings, in their order.
    """

    name: str
    kind: str
    part: str
    right: tuple[str, ...]
    may_be_healthy: bool
    verdict: str
    findings: tuple[str, ...]
    unjudged: tuple[str, ...]
    at_start: str
    losses: tuple[float, float]
    seconds: float
    share: float
    confidences: tuple[float | None, ...] = ()

    @property
    def is_alarmed(self) -> bool:
        """Whether a fault was named."""
        return self.verdict not in (HEALTHY, NOT_JUDGED)


def made(case: Case) -> Training:
    """The training, as it starts."""
    torch.manual_seed(0)
    return case.make()


def run(case: Case) -> Run:
    """Train once with the default watch."""
    at_start = _at_start(case)
    training = made(case)
    losses: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        w = sg.watch(training.model, training.optimizer, lag=case.lag)
        for _ in range(case.steps):
            losses.append(training.step(w.loss))
        seconds = time.perf_counter() - began
        w.close()
    is_recurrent = any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in training.model.modules())
    return Run(
        case.name,
        case.kind,
        case.part,
        case.right,
        case.is_measurable and (case.lag is not None or not is_recurrent),
        w.verdict,
        tuple(f.fault for f in w.findings),
        tuple(gap.what for gap in w.unjudged),
        at_start,
        ends(losses),
        round(seconds, 2),
        round(w.budget.spent / w.budget.elapsed, 4),
        tuple(f.confidence for f in w.findings),
    )


def _at_start(case: Case) -> str:
    training = made(case)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sg.diagnose(training.model, training.loss, case.lag).verdict
    except (ValueError, NotImplementedError) as error:
        return type(error).__name__


def unwatched(case: Case) -> tuple[float, float]:
    """The losses alone."""
    training = made(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ends([training.step(lambda _: None) for _ in range(case.steps)])


def ends(losses: list[float]) -> tuple[float, float]:
    """Mean of the first tenth, and of the last."""
    count = max(1, len(losses) // 10)
    first, last = losses[:count], losses[-count:]
    return round(sum(first) / count, 5), round(sum(last) / count, 5)


def complete(cases: Iterable[Case], path: Path) -> Iterator[Run]:
    """Run what is missing in the file, appending each as it is done."""
    there = {r.name for r in kept(path, Run)}
    for case in cases:
        if case.name not in there:
            found = run(case)
            append(path, found)
            yield found
