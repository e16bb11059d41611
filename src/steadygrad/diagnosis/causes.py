"""From all that is found at one look to what explains it: causes without their consequences."""

import math
from collections.abc import Container, Mapping, Sequence

from steadygrad.diagnosis.finding import Finding, Key, Thresholds
from steadygrad.diagnosis.history import History
from steadygrad.diagnosis.lag import is_estimated

CONSEQUENCES = {
    "vanishing",
    "exploding",
    "saturated",
    "dead",
    "growing",
    "likelihood",
    "clip-loose",
}
"""What steps that are too large bring about."""
FAR = 3  # times the decades from which a gradient explodes, there is no waiting


def causes(
    found: Sequence[Finding],
    standing: Mapping[Key, Finding],
    history: History,
    thresholds: Thresholds,
    passing: Container[Key] = (),
) -> list[Finding]:
    """Leave out what another finding explains, and what the training may yet mend itself.

    - Where steps are too large, what came up after them is their doing.
    - Where the losses are told, a gradient that has vanished only so far that the optimiser's
      rescaling may still use it is a fault once the loss has stood still for long.
    - Where the losses are told, a lag that is estimated accuses nobody whose loss still falls: what
      the far past is worth to this network is not known.
    - Where the losses are told, a gradient that has just come to explode, and not far, may be a
      moment of learning: a network that stores a value passes through such states. While the loss
      falls, neither such a gradient, however long it lasts, nor a state that grows does harm.
    - Where the loss is a small part of what it was, the network has learned, wherever its
      gradient gets to.

    Args:
        found: At this look.
        standing: What stood before it, each with the step since when.
        history: Of the training.
        thresholds: What counts as far.
        passing: What was not there from the first look on, and has not lasted since it came.
    """
    rate = next((f for f in found if f.fault == "lr-high"), None)
    if rate is not None:
        before = standing.get(rate.key)
        since = None if before is None else before.step
        found = [f for f in found if f.fault not in CONSEQUENCES or _was_there(f, standing, since)]
    if history.loss and not history.stands():
        found = [f for f in found if not _may_mend(f, thresholds)]
    if history.loss and not history.rests():
        found = [f for f in found if not is_estimated(f)]
    if history.loss:
        found = [f for f in found if f.key not in passing or not _is_near(f, thresholds)]
    if history.falls():
        found = [f for f in found if f.fault != "growing" and not _is_near(f, thresholds)]
    if history.has_learned():
        found = [f for f in found if f.fault not in ("vanishing", "exploding")]
    return list(found)


def _was_there(finding: Finding, standing: Mapping[Key, Finding], since: int | None) -> bool:
    first = standing.get(finding.key)
    if first is None or first.step is None:
        return False
    return since is None or first.step <= since


def _may_mend(finding: Finding, thresholds: Thresholds) -> bool:
    if finding.fault != "vanishing":
        return False
    return finding.evidence["log10_ratio"] >= math.log10(thresholds.unlikely)


def _is_near(finding: Finding, thresholds: Thresholds) -> bool:
    if finding.fault != "exploding":
        return False
    return finding.evidence["log10_ratio"] < FAR * math.log10(thresholds.exploding)
