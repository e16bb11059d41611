"""What a record says of a run, for a pipeline that has to decide."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steadygrad.diagnosis.judge import judge_history
from steadygrad.faults import NOT_JUDGED, History, Thresholds, known
from steadygrad.record import RecordError, Run


@dataclass(frozen=True)
class Checked:
    """A run, checked.

    Attributes:
        failed: Whether a fault was found that was to be looked for.
        verdict: As the run noted it, ``"not judged"`` if it did not.
        findings: Those that made it fail, worst first, as plain values.
        others: The other findings.
        resolved: Findings that were gone again when the run ended; they fail nothing unless asked.
        steps: The last training step recorded.
        not_judged: What was not measured of what a verdict needs, as plain values.
    """

    failed: bool
    verdict: str
    findings: list[dict[str, Any]]
    others: list[dict[str, Any]]
    resolved: list[dict[str, Any]]
    steps: int
    not_judged: list[dict[str, Any]] = field(default_factory=list)


def check(run: Run, fail_on: Collection[str] | None = None, *, ever: bool = False) -> Checked:
    """Look for faults in the record of a run, finished or not.

    The findings of the watch are read, and the rules on a training as a whole are applied once
    more with the losses, which a watch does not see.

    Args:
        run: An open record.
        fail_on: Names of faults to look for; all if not given.
        ever: Whether findings count that were gone again later.

    Raises:
        ValueError: A name that is no fault's.
    """
    wanted = set(known()) if fail_on is None else set(fail_on)
    unknown = sorted(wanted - set(known()))
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(known())}")
    run.check_kinds()
    standing, resolved = _told(run)
    noted = {_key(f) for f in standing}
    whole = [f.to_record() for f in judge_history(_history(run), Thresholds())]
    standing += [f for f in whole if _key(f) not in noted]
    standing.sort(key=lambda f: list(known()).index(f["fault"]))
    counted = standing + resolved if ever else standing
    hits = [f for f in counted if f["fault"] in wanted]
    notes = run.notes
    return Checked(
        bool(hits),
        str(notes.get("verdict", NOT_JUDGED)),
        hits,
        [f for f in standing if f not in hits],
        resolved,
        _last_step(run),
        [dict(gap) for gap in notes.get("not_judged") or ()],
    )


def _key(finding: dict[str, Any]) -> tuple[Any, ...]:
    return finding.get("fault"), finding.get("layer"), finding.get("gate")


def _told(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Findings that stand at the end of the record, and those that were resolved."""
    moments: list[tuple[int, int, dict[str, Any]]] = []
    for finding in run.findings():
        if finding.get("fault") in known():
            moments.append((int(finding["recorded_at"]), 1, finding))
    for event in run.events():
        if event["kind"] == "resolved" and event["data"].get("fault"):
            moments.append((int(event["step"]), 0, event["data"]))
    standing: dict[tuple[Any, ...], dict[str, Any]] = {}
    resolved: list[dict[str, Any]] = []
    # At one step what is gone comes before what is new: the look that found it ends the old one.
    for _, is_new, body in sorted(moments, key=lambda m: m[:2]):
        old = standing.pop(_key(body), None)
        if is_new:
            standing[_key(body)] = body
        elif old is not None:
            resolved.append(old)
    return list(standing.values()), resolved


def _history(run: Run) -> History:
    before, after = _scalars(run, "grad_norm"), _scalars(run, "grad_norm_clipped")
    both = [s for s in before if s in after]
    layers = run.notes.get("layers") or []
    slopes = [layer["slope"] for layer in layers if layer.get("slope") is not None]
    return History(
        [before[s] for s in both],
        [after[s] for s in both],
        list(_scalars(run, "update_ratio").values()),
        list(_scalars(run, "loss").values()),
        run.notes.get("optimizer"),
        max(slopes) > 0.01 if slopes else None,
    )


def _scalars(run: Run, name: str) -> dict[int, float]:
    """Value by step; none if nothing was written under that name."""
    try:
        steps, values = run.scalars(name)
    except RecordError:
        return {}
    return dict(zip(steps.tolist(), np.asarray(values).tolist(), strict=True))


def _last_step(run: Run) -> int:
    return max((int(run.steps(name)[-1]) for name in run.scalar_names()), default=0)
