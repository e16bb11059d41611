"""Causes without their consequences: which findings of a look are reported."""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from steadygrad.diagnosis.lag import is_estimated
from steadygrad.faults import Finding, History, Key, Moment, Thresholds, Unjudged, known
from steadygrad.faults.history import ENOUGH


class Reported(NamedTuple):
    """What a look comes to.

    Attributes:
        findings: Those that are reported.
        unjudged: What they held back means for a verdict.
    """

    findings: list[Finding]
    unjudged: list[Unjudged]


def causes(
    found: Sequence[Finding],
    standing: Mapping[Key, Finding],
    history: History,
    thresholds: Thresholds,
    passing: Container[Key] = (),
    steps: int | None = None,
) -> Reported:
    """Leave out what another finding explains, and what the training may yet mend itself.

    - Of a fault that another one brings about, such as steps that are too large, only what was
      there before that is reported (`Fault.caused_by`).
    - Where the losses are told, a lag that is estimated makes no fault while the loss still falls:
      what the far past is worth to this network is not known.
    - Each fault may hold its finding back for now (`Fault.waits`), or say what it is worth now
      (`Fault.weighed`).

    What is held back of a fault that concerns a lag, or at the first steps, is not judged yet: the
    gradient does not survive, or explodes, and whether that matters is open. It is no health.

    Args:
        found: At this look.
        standing: What stood before it, each with the step since when.
        history: Of the training.
        thresholds: What counts as far.
        passing: What was not there from the first look on, and has not lasted since it came.
        steps: That the training has done, if known.
    """
    faults, moment = known(), Moment(history, thresholds, passing, steps)
    kept = list(found)
    for cause in found:
        before = standing.get(cause.key)
        since = None if before is None else before.step
        kept = [
            f
            for f in kept
            if cause.fault not in faults[f.fault].caused_by or _was_there(f, standing, since)
        ]
    held = {id(f) for f in kept if faults[f.fault].waits(f, moment)}
    if history.loss and not history.rests():
        held |= {id(f) for f in kept if is_estimated(f)}
    open_ = withheld(kept, history, held)
    return Reported([faults[f.fault].weighed(f, moment) for f in kept if id(f) not in held], open_)


def withheld(found: Sequence[Finding], history: History, held: Container[int]) -> list[Unjudged]:
    """What findings that are held back, by identity, leave open."""
    faults = known()
    is_early = len(history.loss) < ENOUGH  # nothing can be told from so few of them
    return [
        _open(f, history)
        for f in found
        if id(f) in held and (faults[f.fault].needs_lag or is_early)
    ]


def _open(finding: Finding, history: History) -> Unjudged:
    if history.has_learned():
        why = "the loss has come down to a tenth and less all the same"
        how = "score the model on what only that lag can tell, or give the lag that the task needs"
    else:
        why = "the loss has not yet been told for long without falling, so the training may use it"
        how = "let the training run on"
    text = finding.text.rstrip(".")
    return Unjudged(f"{finding.fault.capitalize()} in {finding.layer}", f"{why}; {text}", how)


def _was_there(finding: Finding, standing: Mapping[Key, Finding], since: int | None) -> bool:
    first = standing.get(finding.key)
    if first is None or first.step is None:
        return False
    return since is None or first.step <= since
