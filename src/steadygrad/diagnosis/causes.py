"""Causes without their consequences: which findings of a look are reported."""

from collections.abc import Container, Mapping, Sequence

from steadygrad.diagnosis.lag import is_estimated
from steadygrad.faults import Finding, History, Key, Moment, Thresholds, known


def causes(
    found: Sequence[Finding],
    standing: Mapping[Key, Finding],
    history: History,
    thresholds: Thresholds,
    passing: Container[Key] = (),
    steps: int | None = None,
) -> list[Finding]:
    """Leave out what another finding explains, and what the training may yet mend itself.

    - Of a fault that another one brings about, such as steps that are too large, only what was
      there before that is reported (`Fault.caused_by`).
    - Where the losses are told, a lag that is estimated makes no fault while the loss still falls:
      what the far past is worth to this network is not known.
    - Each fault may hold its finding back for now (`Fault.waits`), or say what it is worth now
      (`Fault.weighed`).

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
    if history.loss and not history.rests():
        kept = [f for f in kept if not is_estimated(f)]
    kept = [f for f in kept if not faults[f.fault].waits(f, moment)]
    return [faults[f.fault].weighed(f, moment) for f in kept]


def _was_there(finding: Finding, standing: Mapping[Key, Finding], since: int | None) -> bool:
    first = standing.get(finding.key)
    if first is None or first.step is None:
        return False
    return since is None or first.step <= since
